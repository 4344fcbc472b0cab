"""Conformal sets and bands hold the truth as often as promised."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import betabinom

from epochal.evaluation.conformal import coverage_band, prediction_bands, prediction_sets


def _draw(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return probabilities that are wrong on purpose, and classes."""
    scores = torch.randn((count, 4), generator=generator)
    targets = torch.multinomial(scores.softmax(1), 1, generator=generator)[:, 0]
    return (3 * scores).softmax(1), targets


def test_coverage_lies_in_its_band_for_95_of_100_resplits() -> None:
    generator = torch.Generator().manual_seed(0)
    inside, means = 0, []
    for _ in range(1_000):
        probabilities, targets = _draw(500, generator)
        found = prediction_sets(probabilities[:200], targets[:200], probabilities[200:], targets[200:])
        assert found is not None
        inside += found.is_kept
        means.append(found.measured)
    assert 0.93 <= inside / 1_000 <= 0.985
    assert sum(means) / 1_000 == pytest.approx(181 / 201, abs=0.004)


def test_bands_of_several_quantities_have_their_own_width() -> None:
    generator = torch.Generator().manual_seed(0)
    errors = torch.randn((4_000, 2), generator=generator) * torch.tensor([1.0, 100.0])
    found = prediction_bands(errors[:2_000], torch.zeros(2_000, 2), errors[2_000:], torch.zeros(2_000, 2))
    assert found is not None
    assert found.threshold[1] / found.threshold[0] == pytest.approx(100, rel=0.1)
    assert found.measured == pytest.approx(0.9, abs=0.015)


def test_band_is_that_of_the_beta_binomial_distribution() -> None:
    low, high = coverage_band(100, 91, 50)
    assert (low * 50, high * 50) == pytest.approx((betabinom(50, 91, 10).ppf(0.025), betabinom(50, 91, 10).ppf(0.975)))


def test_sets_say_how_large_they_are() -> None:
    sure = torch.tensor([[0.9, 0.1]] * 20)
    found = prediction_sets(sure, torch.zeros(20, dtype=torch.long), sure[:5], torch.tensor([0, 0, 0, 0, 1]))
    assert found is not None
    assert (found.size, found.sizes, found.measured, found.calibrated, found.count) == (1.0, (0, 5), 0.8, 20, 5)


def test_too_few_validation_examples_promise_nothing() -> None:
    few = torch.full((8, 2), 0.5)
    assert prediction_sets(few, torch.zeros(8, dtype=torch.long), few, torch.zeros(8, dtype=torch.long)) is None
    assert prediction_bands(few, few, few, few) is None
