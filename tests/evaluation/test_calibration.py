"""Calibration: its error, the noise floor, intervals, and the temperature that corrects it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from epochal.evaluation.calibration import calibration, temperature

# EPOCHAL_INTERVALS=150 python3 -m pytest tests/evaluation/test_calibration.py: so many test sets
DRAWS = int(os.environ.get("EPOCHAL_INTERVALS", "75"))


def _least(share: float) -> float:
    """How many of the draws an interval has to contain: that share, or of few draws what chance leaves of 95 %, but once in 700 times."""
    return min(share * DRAWS, 0.95 * DRAWS - 3 * math.sqrt(0.95 * 0.05 * DRAWS))


def _answers(count: int, share_right: Callable[[Tensor], Tensor], seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    confidence = 1 - torch.rand(count, generator=generator).double() ** 2 / 2
    return confidence, torch.rand(count, generator=generator).double() < share_right(confidence)


def test_noise_floor_is_what_perfectly_calibrated_models_show() -> None:
    errors = [calibration(*_answers(500, lambda sure: sure, seed)) for seed in range(60)]
    assert sum(one.error for one in errors) / 60 == pytest.approx(errors[0].floor, rel=0.1)
    # About one in 20 is above the limit; more than 8 of 60 happen once in 150 times.
    assert sum(one.is_shown for one in errors) <= 8
    assert sum(one.interval[0] > 0 for one in errors) <= 8


@pytest.mark.parametrize("share_right", [lambda sure: sure, lambda sure: sure - 0.05, lambda sure: sure**2])
def test_intervals_contain_the_truth(share_right: Callable[[Tensor], Tensor]) -> None:
    confidence, _ = _answers(200_000, share_right, 0)
    gaps = [part.mean() for part in (confidence - share_right(confidence))[confidence.argsort()].chunk(15)]
    squared, excess = float(torch.stack(gaps).square().mean().sqrt()), float((confidence - share_right(confidence)).mean())
    found = [calibration(*_answers(800, share_right, seed)) for seed in range(DRAWS)]
    assert sum(one.interval[0] - 1e-9 <= squared <= one.interval[1] for one in found) >= _least(0.92)
    assert sum(one.excess_interval[0] <= excess <= one.excess_interval[1] for one in found) >= _least(0.9)


def test_bins_hold_equally_many_and_all() -> None:
    found = calibration(*_answers(1_003, lambda sure: sure, 0))
    assert sum(one.count for one in found.bins) == found.count == 1_003
    assert {one.count for one in found.bins} <= {66, 67}
    assert all(one.interval[0] <= one.right <= one.interval[1] for one in found.bins)
    assert len(calibration(torch.tensor([0.9]), torch.tensor([True])).bins) == 1


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_temperature_is_found(true: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((20_000, 5), generator=generator) * 2
    targets = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    assert temperature(logits * true, targets) == pytest.approx(true, rel=0.05)


def test_temperature_never_raises_the_loss_beyond_noise_and_changes_no_label() -> None:
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn((600, 4), generator=generator) * 2
        targets = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
        valid, test = slice(300), slice(300, None)
        scaled = logits / temperature(logits[valid], targets[valid])
        assert torch.equal(scaled.argmax(1), logits.argmax(1))
        assert cross_entropy(scaled[test], targets[test]) < cross_entropy(logits[test], targets[test]) + 0.01


def test_few_examples_without_a_mistake_do_not_make_the_model_sure() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    sure = (logits / temperature(logits, torch.tensor([0, 1]))).softmax(1)[0, 0]
    assert float(sure) == pytest.approx(5 / 6)


def test_answers_that_are_wrong_become_as_unsure_as_can_be() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    assert temperature(logits, torch.tensor([1, 0])) == pytest.approx(50)
