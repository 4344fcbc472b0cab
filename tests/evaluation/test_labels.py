"""The curve through what models reach with fewer labels, and what twice as many are expected to bring."""

import os

import numpy as np
import pytest
import torch

from epochal.evaluation.evaluate import Evaluation, score
from epochal.evaluation.labels import LearningCurve, learning_curve, power_law
from epochal.tasks.regression import Regression
from epochal.tasks.single_label import SingleLabel

# EPOCHAL_INTERVALS=100 python3 -m pytest tests/evaluation/test_labels.py: so many curves
DRAWS = int(os.environ.get("EPOCHAL_INTERVALS", "4"))

LABELS = np.array([100.0, 200.0, 400.0, 800.0])
EVEN = np.ones(4) / 4


def _made(right: np.ndarray) -> Evaluation:
    """An evaluation in which those examples are right."""
    task, targets = SingleLabel(outputs=("a", "b")), torch.arange(len(right)) % 2
    predicted = torch.where(torch.tensor(right), targets, 1 - targets)
    outputs = torch.nn.functional.one_hot(predicted, 2).float()
    return score(outputs, targets, task, task.reported_loss(torch.nn.Identity()))


def _drawn(random: np.random.Generator, share: float, examples: np.ndarray) -> Evaluation:
    """An evaluation in which about this share is right: half of what decides is the example, half the model."""
    return _made(
        np.sqrt(0.5) * examples + np.sqrt(0.5) * random.normal(size=len(examples)) < np.quantile(random.normal(size=20_000), share)
    )


def _curve(seed: int, shares: tuple[float, ...], count: int) -> LearningCurve:
    random = np.random.default_rng(seed)
    examples = random.normal(size=count)
    sizes = [
        [(int(number), _drawn(random, share, examples)) for _ in range(5 if number < LABELS[-1] else 1)]
        for number, share in zip(LABELS, shares, strict=True)
    ]
    return learning_curve(sizes, "test")


@pytest.mark.parametrize(("top", "factor", "exponent"), [(0.9, 3.0, 0.5), (1.0, 5.0, 0.7), (0.8, 2.0, 0.3)])
def test_a_power_law_is_found(top: float, factor: float, exponent: float) -> None:
    scores = top - factor * LABELS**-exponent
    assert power_law(LABELS, scores[None], EVEN, 1600)[0] == pytest.approx(top - factor * 1600**-exponent, abs=0.002)


def test_no_curve_falls_or_goes_above_one() -> None:
    falling = np.array([[0.9, 0.8, 0.7, 0.6]])
    assert power_law(LABELS, falling, EVEN, 1600)[0] == pytest.approx(0.75)
    rising = np.array([[0.7, 0.8, 0.9, 1.0]])
    assert 0.95 < power_law(LABELS, rising, EVEN, 1600)[0] <= 1.0


def test_what_twice_the_labels_bring_is_mostly_within_the_interval() -> None:
    shares = tuple(0.95 - 3.5 * LABELS**-0.55)
    true, told, within = 0.95 - 3.5 * 1600**-0.55, 0, 0
    for seed in range(DRAWS):
        found = _curve(seed, shares, 400)
        if found.twice is not None:
            told += 1
            assert found.twice.labels == 1600
            within += found.twice.interval[0] <= true <= found.twice.interval[1]
    assert told >= 0.7 * DRAWS
    assert within >= 0.85 * told


def test_where_scores_do_not_rise_it_cannot_be_told() -> None:
    found = _curve(0, (0.7, 0.7, 0.7, 0.7), 300)
    assert found.twice is None
    assert found.outlook().startswith("what twice as many labels would bring cannot be told: the accuracy of few labels")
    assert [row[0] for row in found.table()] == ["100", "200", "400", "800"]


def test_intervals_stay_within_0_and_1_and_never_vanish() -> None:
    perfect = [[(number, _made(np.ones(20, dtype=bool)))] * times for number, times in ((10, 5), (20, 5), (40, 1))]
    for point in learning_curve(perfect, "test").points:
        low, high = point.interval
        assert 0.6 < low < 0.95
        assert high == 1.0


def test_quantities_have_their_own_score() -> None:
    task, random = Regression(outputs=("y",)), torch.Generator().manual_seed(0)
    targets = torch.randn(60, 1, generator=random)

    def with_noise(spread: float) -> Evaluation:
        outputs = targets + spread * torch.randn(60, 1, generator=random)
        return score(outputs, targets, task, task.reported_loss(torch.nn.Identity()))

    sizes = [[(number, with_noise(20 / number)) for _ in range(times)] for number, times in ((25, 3), (50, 3), (100, 1))]
    found = learning_curve(sizes, "valid")
    assert found.heading[1] == "R²"
    assert found.points[0].score < found.points[-1].score <= found.points[-1].interval[1] <= 1
    assert found.to_json()["measured_on"] == "valid"
