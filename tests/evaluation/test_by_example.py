"""Scores as means of what single examples add to them."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, mean_absolute_error, root_mean_squared_error
from torch import Tensor

from epochal.errors import DataError
from epochal.evaluation.by_example import SCORES, Answers, as_answers, score_for, take
from epochal.tasks.multi_label import MultiLabel
from epochal.tasks.regression import Regression
from epochal.tasks.single_label import SingleLabel

_GENERATOR = torch.Generator().manual_seed(0)
_OUTPUTS = torch.randn(80, 3, generator=_GENERATOR)
_CLASSES = (_OUTPUTS + torch.randn(80, 3, generator=_GENERATOR)).argmax(1)
_LABELS = (_OUTPUTS + torch.randn(80, 3, generator=_GENERATOR) > 0).float()
_QUANTITIES = _OUTPUTS[:, :1] + torch.randn(80, 1, generator=_GENERATOR)

SINGLE = as_answers(SingleLabel(outputs=("a", "b", "c")), _OUTPUTS, _CLASSES)
MULTI = as_answers(MultiLabel(outputs=("a", "b", "c")), _OUTPUTS, _LABELS)
REGRESSION = as_answers(Regression(outputs=("y",)), _OUTPUTS[:, :1], _QUANTITIES)


def _shifted(answers: Answers, score: str) -> Tensor:
    """By how much the score changes without each of the examples, times n: what they add, as the jackknife has it."""
    count = len(answers.targets)
    whole = SCORES[score].measure(answers).value
    without = [SCORES[score].measure(take(answers, torch.arange(count) != left)).value for left in range(count)]
    return whole + (count - 1) * (whole - torch.tensor(without, dtype=torch.float64))


@pytest.mark.parametrize(
    ("answers", "score", "exact"),
    [
        (SINGLE, "accuracy", float((_OUTPUTS.argmax(1) == _CLASSES).double().mean())),
        (SINGLE, "balanced-accuracy", balanced_accuracy_score(_CLASSES, _OUTPUTS.argmax(1))),
        (SINGLE, "macro-f1", f1_score(_CLASSES, _OUTPUTS.argmax(1), average="macro")),
        (SINGLE, "log-loss", log_loss(_CLASSES, _OUTPUTS.double().softmax(1))),
        (MULTI, "accuracy", float(((_OUTPUTS >= 0) == _LABELS.bool()).all(1).double().mean())),
        (MULTI, "macro-f1", f1_score(_LABELS, _OUTPUTS >= 0, average="macro")),
        (MULTI, "log-loss", sum(log_loss(_LABELS[:, place], _OUTPUTS[:, place].double().sigmoid()) for place in range(3)) / 3),
        (REGRESSION, "mae", mean_absolute_error(_QUANTITIES, _OUTPUTS[:, :1])),
        (REGRESSION, "rmse", root_mean_squared_error(_QUANTITIES, _OUTPUTS[:, :1])),
    ],
)
def test_scores_are_means_of_what_examples_add(answers: Answers, score: str, exact: float) -> None:
    found = SCORES[score].measure(answers)
    assert found.value == pytest.approx(exact)
    assert float(found.values.mean()) == pytest.approx(exact)
    assert found.interval is not None
    assert found.interval[0] < exact < found.interval[1]
    # To first order, it is by how much the score changes without an example.
    assert float((found.values - _shifted(answers, score)).abs().mean()) < 0.05 * float(found.values.std())


def test_groups_widen_an_interval() -> None:
    groups = (_OUTPUTS.argmax(1) == _CLASSES).long() * 4 + torch.arange(80) % 4
    grouped = SCORES["accuracy"].measure(Answers(SINGLE.task, SINGLE.outputs, SINGLE.predictions, SINGLE.targets, groups))
    plain = SCORES["accuracy"].measure(SINGLE)
    assert grouped.value == plain.value
    assert grouped.interval is not None
    assert plain.interval is not None
    assert grouped.interval[1] - grouped.interval[0] > 1.5 * (plain.interval[1] - plain.interval[0])


def test_perfect_quantities_have_no_error() -> None:
    exact = as_answers(Regression(outputs=("y",)), _QUANTITIES, _QUANTITIES)
    found = SCORES["rmse"].measure(exact)
    assert (found.value, found.interval) == (0.0, (0.0, 0.0))
    assert not math.isnan(float(found.values.sum()))


def test_scores_that_do_not_fit_are_refused() -> None:
    assert score_for(None, SINGLE.task).words == "accuracy"
    assert score_for(None, REGRESSION.task).words == "mean absolute error"
    with pytest.raises(
        DataError, match=r"The score mae is not for single-label targets\.\nUse one of accuracy, balanced-accuracy, macro-f1, log-loss\."
    ):
        score_for("mae", SINGLE.task)
    with pytest.raises(DataError, match=r"There is no score 'f1'\."):
        score_for("f1", SINGLE.task)
