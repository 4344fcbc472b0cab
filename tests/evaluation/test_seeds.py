"""Settings that were trained with several seeds: chance is in examples and in seeds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from epochal.evaluation.comparison import compare_means
from epochal.evaluation.seeds import compare_settings, mean_over_seeds


def _models(seeds: int, between: float, examples: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Which of these examples models of one setting have right, whose skill varies by `between` from seed to seed."""
    skill = between * torch.randn(seeds, 1, generator=generator)
    own = 0.3 * torch.randn(seeds, len(examples), generator=generator)
    return [*(examples + 1.5 + skill + own > 0).double()]


@pytest.mark.parametrize(("first", "second"), [(3, 3), (1, 4)])
@pytest.mark.parametrize("between", [0.0, 0.1])
def test_equal_settings_are_rarely_said_to_differ(first: int, second: int, between: float) -> None:
    generator, alarms, draws = torch.Generator().manual_seed(0), 0, 300
    for _ in range(draws):
        examples = torch.randn(300, generator=generator)
        one, other = (_models(seeds, between, examples, generator) for seeds in (first, second))
        alarms += compare_settings(one, other, shares=True).p < 0.05
    # Of 5 % true alarms, 300 draws show less than 8.5 % with a probability of 99 %.
    assert alarms / draws <= 0.085


def test_models_compared_one_by_one_would_differ_by_their_seeds() -> None:
    generator, alarms = torch.Generator().manual_seed(0), 0
    for _ in range(100):
        examples = torch.randn(300, generator=generator)
        one, other = (_models(1, 0.3, examples, generator)[0] for _ in range(2))
        alarms += compare_means(one, other).p < 0.05
    assert alarms > 30


def test_without_a_difference_between_seeds_it_is_that_of_the_means() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.rand(200, generator=generator) for _ in range(2))
    found, plain = compare_settings([first] * 2, [second] * 3, shares=False), compare_means(first, second)
    assert (found.value, found.p, found.detectable) == pytest.approx((plain.value, plain.p, plain.detectable))
    assert found.interval == pytest.approx(plain.interval)
    # Each example twice, as a group: no more is known than of each once.
    groups = torch.arange(200).repeat(2)
    twice = compare_settings([first.repeat(2)] * 2, [second.repeat(2)] * 3, groups, shares=False)
    assert twice.interval == pytest.approx(plain.interval)


def test_what_no_example_and_no_seed_changes_is_still_not_certain() -> None:
    right = [torch.ones(50)] * 3
    found = compare_settings(right, right, shares=True)
    assert found.p == 1.0
    assert found.interval[1] == pytest.approx(2 * 1.96 / 50, rel=0.05)
    assert found.detectable > 0.1
    low, high = mean_over_seeds(right, shares=True).interval
    assert low < 0.95
    assert high == 1.0
