"""Conformal sets and bands hold the truth as often as promised."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
import torch
from scipy.stats import betabinom
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from torch import Tensor

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


class _Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Gives its inputs as probabilities."""

    classes_ = numpy.arange(4)
    is_fitted_ = True

    def fit(self, *_: object) -> _Classifier:
        return self

    def predict_proba(self, inputs: Any) -> Any:
        return inputs

    def predict(self, inputs: Any) -> Any:
        return inputs.argmax(1)


class _Regressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Gives its inputs as predictions."""

    fitted_ = True

    def fit(self, *_: object) -> _Regressor:
        return self

    def predict(self, inputs: Any) -> Any:
        return inputs[:, 0]


@pytest.mark.parametrize("promised", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("count", [39, 200, 501])
def test_sets_are_those_of_mapie(promised: float, count: int) -> None:
    classification = pytest.importorskip("mapie.classification")
    probabilities, targets = _draw(count + 300, torch.Generator().manual_seed(count))
    probabilities = probabilities.double()
    model = classification.SplitConformalClassifier(_Classifier(), confidence_level=promised, conformity_score="lac", prefit=True)
    model.conformalize(probabilities[:count].numpy(), targets[:count].numpy())
    theirs = torch.from_numpy(model.predict_set(probabilities[count:].numpy())[1][:, :, 0])
    found = prediction_sets(probabilities[:count], targets[:count], probabilities[count:], targets[count:], promised)
    assert found is not None
    assert torch.equal(probabilities[count:] >= found.threshold[0], theirs)
    assert found.measured == float(theirs.gather(1, targets[count:, None]).double().mean())


@pytest.mark.parametrize("promised", [0.8, 0.9])
def test_bands_are_those_of_mapie(promised: float) -> None:
    regression = pytest.importorskip("mapie.regression")
    predicted, true = torch.randn((2, 300, 1), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = regression.SplitConformalRegressor(_Regressor(), confidence_level=promised, prefit=True)
    model.conformalize(predicted[:200].numpy(), true[:200, 0].numpy())
    theirs: Tensor = torch.from_numpy(model.predict_interval(predicted[200:].numpy())[1][:, :, 0])
    found = prediction_bands(predicted[:200], true[:200], predicted[200:], true[200:], promised)
    assert found is not None
    ours = predicted[200:] + torch.tensor([-found.threshold[0], found.threshold[0]], dtype=torch.float64)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_sets_say_how_large_they_are() -> None:
    sure = torch.tensor([[0.9, 0.1]] * 20)
    found = prediction_sets(sure, torch.zeros(20, dtype=torch.long), sure[:5], torch.tensor([0, 0, 0, 0, 1]))
    assert found is not None
    assert (found.size, found.sizes, found.measured, found.calibrated, found.count) == (1.0, (0, 5), 0.8, 20, 5)


@pytest.mark.parametrize(
    ("right", "count", "promised"), [(0.7, 500, 0.9), (0.92, 500, 0.95), (0.97, 500, 0.99), (0.97, 50, 0.95), (1.0, 500, 0.99)]
)
def test_more_is_promised_than_single_answers_keep(right: float, count: int, promised: float) -> None:
    """Else sets would be empty, so as not to hold the truth too often."""
    targets = torch.arange(count) % 3
    answers = torch.where(torch.arange(count) < right * count, targets, (targets + 1) % 3)
    probabilities = (
        2 * torch.nn.functional.one_hot(answers, 3) + torch.rand((count, 3), generator=torch.Generator().manual_seed(0))
    ).softmax(1)
    found = prediction_sets(probabilities, targets, probabilities, targets)
    assert found is not None
    assert found.promised == promised
    if right < promised:
        assert found.sizes[0] == 0


def test_chosen_promises_are_kept() -> None:
    """Which promise is chosen depends on the examples that calibrate it, which could make it too large."""
    generator, inside = torch.Generator().manual_seed(0), 0
    for _ in range(1_000):
        # About 90 % of answers are right, so that either of two promises is chosen.
        scores = 4.2 * torch.randn((500, 4), generator=generator)
        targets = torch.multinomial(scores.softmax(1), 1, generator=generator)[:, 0]
        found = prediction_sets(scores[:200].softmax(1), targets[:200], scores[200:].softmax(1), targets[200:])
        assert found is not None
        inside += found.is_kept
    assert 0.93 <= inside / 1_000 <= 0.985


def test_too_few_validation_examples_promise_nothing() -> None:
    few = torch.full((8, 2), 0.5)
    assert prediction_sets(few, torch.zeros(8, dtype=torch.long), few, torch.zeros(8, dtype=torch.long)) is None
    assert prediction_bands(few, few, few, few) is None
