"""Comparing two models on the same examples: false alarms, the smallest difference that would be shown, and correction for several.

EPOCHAL_INTERVALS is how many pairs are drawn of each kind, where that is slow.
"""

from __future__ import annotations

import os
from functools import cache

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, ttest_rel

from epochal.evaluation.comparison import Difference, compare_means, compare_recalls, compare_shares, detectable_share, holm, mcnemar

DRAWS = int(os.environ.get("EPOCHAL_INTERVALS", "300"))

_p = cache(mcnemar)


def _shown(first: float, second: float, count: int, pairs: int) -> float:
    """Return how often a difference is shown, where this share of examples is right with the first, or the second, model only."""
    drawn = np.random.default_rng(0).multinomial(count, [first, second, 1 - first - second], pairs)
    return float(np.mean([_p(int(one), int(other)) < 0.05 for one, other, _ in drawn]))


@pytest.mark.parametrize(("count", "discordant"), [(100, 0.1), (200, 0.05), (1_000, 0.02), (1_000, 0.1), (10_000, 0.05)])
def test_equal_models_and_the_smallest_difference(count: int, discordant: float) -> None:
    # 10,000 pairs: .05 is known to .002, and .8 to .004.
    assert _shown(discordant / 2, discordant / 2, count, 10_000) <= 0.055
    least = detectable_share(round(discordant * count), count)
    assert _shown((discordant - least) / 2, (discordant + least) / 2, count, 10_000) == pytest.approx(0.8, abs=0.03)


def test_few_discordant_examples_could_have_shown_only_large_differences() -> None:
    least = detectable_share(2, 100)
    assert _shown(0.0, least, 100, 10_000) == pytest.approx(0.8, abs=0.03)
    assert detectable_share(0, 4) == 1.0


def test_a_stricter_test_shows_larger_differences_only() -> None:
    # As where two others are compared with a model, and p is corrected.
    drawn = np.random.default_rng(0)
    for count, discordant in ((200, 20), (10_000, 600)):
        least, share = detectable_share(discordant, count, 0.025), discordant / count
        one, other, _ = drawn.multinomial(count, [(share - least) / 2, (share + least) / 2, 1 - share], 10_000).T
        assert np.mean([_p(int(a), int(b)) < 0.025 for a, b in zip(one, other, strict=True)]) == pytest.approx(0.8, abs=0.03)
        assert least > detectable_share(discordant, count)
    assert detectable_share(0, 100, 0.01) > detectable_share(0, 100)


def test_exact_and_approximate_agree_where_they_meet() -> None:
    assert detectable_share(500, 5_000) == pytest.approx(detectable_share(501, 5_010), rel=0.02)


@pytest.mark.parametrize(("first", "second"), [(1, 9), (0, 6), (30, 50), (12, 12), (0, 0)])
def test_mcnemar_is_the_binomial_test_less_half_of_what_was_measured(first: int, second: int) -> None:
    total = first + second
    exact = binomtest(min(first, second), total, 0.5).pvalue if total else 1.0
    tail = [binomtest(min(first, second), total, 0.5, "less").pvalue] if total else [1.0]
    assert mcnemar(first, second) <= exact
    assert mcnemar(first, second) == mcnemar(second, first)
    below = binomtest(min(first, second) - 1, total, 0.5, "less").pvalue if min(first, second) else 0.0
    assert mcnemar(first, second) == pytest.approx(min(1.0, tail[0] + below))


def test_shares_count_what_only_one_has_right() -> None:
    first = torch.tensor([True] * 90 + [False] * 10)
    second = torch.tensor([True] * 88 + [False] * 2 + [True] * 10)
    found = compare_shares(first, second)
    assert (found.first_only, found.second_only) == (2, 10)
    assert found.value == pytest.approx(0.08)
    assert found.interval[0] > 0
    assert found.p < 0.05
    assert compare_shares(second, first).interval == pytest.approx((-found.interval[1], -found.interval[0]))


@pytest.mark.parametrize(
    ("counts", "differing"),
    [((900, 90, 10), (0.03, 0.1, 0.3)), ((950, 50), (0.05, 0.3)), ((100,) * 10, (0.1,) * 10)],
)
def test_mean_recalls_of_equal_models_and_the_smallest_difference(counts: tuple[int, ...], differing: tuple[float, ...]) -> None:
    generator, classes = torch.Generator().manual_seed(0), torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    share = torch.tensor(differing)[classes]

    def draw(towards: float) -> Difference:
        differ = torch.rand(len(classes), generator=generator) < share
        second = torch.rand(len(classes), generator=generator) < (1 + towards) / 2
        return compare_recalls(differ & ~second, differ & second, classes)

    equal = [draw(0.0) for _ in range(DRAWS)]
    room = 2.5 * (0.05 * 0.95 / DRAWS) ** 0.5
    print(f"\nalarms {np.mean([one.p < 0.05 for one in equal]):.3f}")
    assert np.mean([one.p < 0.05 for one in equal]) <= 0.05 + room
    assert all((one.interval[0] <= 0 <= one.interval[1]) == (one.p >= 0.05) for one in equal)
    # What is detectable is known by how many examples differ, which varies.
    least = float(np.mean([one.detectable for one in equal]))
    towards = least / (sum(differing) / len(differing))
    power = np.mean([draw(towards).p < 0.05 for _ in range(DRAWS)])
    print(f"power {power:.3f} at {least:.4f}")
    assert abs(power - 0.8) <= 0.05 + 2.5 * (0.2 * 0.8 / DRAWS) ** 0.5


def test_mean_recalls_weight_examples_by_their_class() -> None:
    classes = torch.tensor([0] * 90 + [1] * 10)
    first, second = torch.ones(100).bool(), torch.ones(100).bool()
    first[:9], second[90:99] = False, False
    assert compare_shares(first, second).value == 0
    found = compare_recalls(first, second, classes)
    assert found.value == pytest.approx((0.1 - 0.9) / 2)
    assert (found.first_only, found.second_only) == (9, 9)
    assert found.p < 0.01
    assert found.interval[1] < 0
    alike = compare_recalls(first, first, classes)
    assert alike.p == 1
    assert alike.interval[0] < 0 < alike.interval[1]
    # With a single class, it is the difference of shares.
    one, other = compare_recalls(first, second, torch.zeros(100).long()), compare_shares(first, second)
    assert one.interval == pytest.approx(other.interval, abs=0.01)
    assert one.detectable == pytest.approx(other.detectable, rel=0.1)


def test_means_have_the_paired_t_test() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(50, generator=generator)
    second = first + 0.1 * torch.randn(50, generator=generator)
    found, exact = compare_means(first, second), ttest_rel(second.double(), first.double())
    assert found.p == pytest.approx(float(exact.pvalue))
    assert found.interval == pytest.approx(tuple(exact.confidence_interval()))
    assert compare_means(first, first).p == 1.0


def test_holm_corrects_in_steps() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([0.9, 0.8]) == (1.0, 1.0)
    assert holm([]) == ()
