"""What can be said of a model from its answers alone: every number of the report beyond the plain scores, computed in one place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

from epochal.data.load import Data
from epochal.evaluation.by_example import Answers
from epochal.evaluation.calibration import Calibration, calibration, temperature
from epochal.evaluation.confidence import Accepted, accept, accuracy_by_share
from epochal.evaluation.conformal import Coverage, prediction_bands, prediction_sets
from epochal.evaluation.decision import Decision, decide
from epochal.evaluation.evaluate import Evaluation
from epochal.evaluation.slices import Slices, find_slices
from epochal.evaluation.uncertainty import (
    Interval,
    auroc_interval,
    average_precision_interval,
    macro_f1_interval,
    mean_interval,
    one_label,
)
from epochal.evaluation.wrong import Confusion, Residuals, confusions, recalls, residuals

# The 95th percentile of the chi-square distribution with one degree of freedom: twice the rise of the log-likelihood by one parameter that
# changes nothing (S. Wilks, Ann. Math. Stat. 9, 1938).
_CHI_SQUARE = 3.841458820694124

# Calibration of fewer answers says nothing.
_FEW = 50

# Areas of more classes, or from more numbers, are left out.
_LISTED, _NUMBERS = 100, 20_000_000


@dataclass(frozen=True)
class Measured:
    """A score with its 95 % interval; a single example has none."""

    value: float
    interval: Interval | None


@dataclass(frozen=True)
class Tempered:
    """What dividing outputs by a `temperature`, fitted on validation data, changes on test data: the loss, and calibration.

    `helps` says whether the loss falls on validation data by more than chance: otherwise the model is calibrated already.
    """

    temperature: float
    helps: bool
    loss_before: float
    loss_after: float
    after: Calibration | None


@dataclass(frozen=True)
class Assessment:
    """What is known of a model from its answers on `count` examples of a split; what does not apply is `None` or empty.

    `scores` are further scores by name with their intervals: macro F1, AUROC, mean absolute error. `areas` has the area under the ROC
    curve of each class or label, and `precisions` its average precision (the area under the precision-recall curve); `recalls` the interval
    of the recall of each, and `confusions` which classes are taken for others most often. Of single labels, confidence is the probability
    of the answer. `accepted`, `tempered`, `coverage` and `decision` need validation data.
    Quantities have `residuals`, and `baseline`: the mean absolute error of always answering the mean of the training data.
    `slices` are the examples with one value in a column, against all others. `decision` is what another rule of choosing would change.
    """

    split: str
    count: int
    scores: Mapping[str, Measured]
    areas: Mapping[str, Measured]
    calibration: Calibration | None = None
    tempered: Tempered | None = None
    accepted: Accepted | None = None
    by_share: tuple[tuple[float, float], ...] = ()
    coverage: Coverage | None = None
    recalls: Mapping[str, Interval] = field(default_factory=dict)
    confusions: tuple[Confusion, ...] = ()
    residuals: tuple[Residuals, ...] = ()
    baseline: float | None = None
    slices: Slices | None = None
    precisions: Mapping[str, Measured] = field(default_factory=dict)
    decision: Decision | None = None

    def to_json(self) -> dict[str, Any]:
        """Return every number by its name."""
        values: dict[str, Any] = asdict(self)
        return values

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Assessment:
        """Return the assessment from the value of `to_json`; a number may be given as text, such as "nan". Raises `ValueError`."""
        return _as_json().validate_python(values)


def assess(valid: Evaluation | None, test: Evaluation | None, slices: Slices | None = None) -> Assessment | None:
    """Return what is known of a model from its evaluation on validation and test data; without test data, of validation data.

    Then nothing is chosen on these and judged on them again. Examples of one group count together in the intervals of scores, areas and
    recalls. `slices` are those of the examples judged.
    """
    judged, split, chosen = (test, "test", valid) if test is not None else (valid, "valid", None)
    if judged is None or not judged.count:
        return None
    task = judged.task
    if task.has_classes:
        found = _single(judged, split, chosen)
    else:
        found = _labels(judged, split, chosen) if task.has_accuracy else _quantities(judged, split, chosen)
    return replace(found, slices=slices)


def slices_of(valid: Evaluation | None, test: Evaluation | None, data: Data) -> Slices | None:
    """Return how slices of the test data, or without these of the validation data, compare."""
    judged, split = (test, "test") if test is not None else (valid, "valid")
    if judged is None:
        return None
    answers = Answers(judged.task, judged.outputs, judged.predictions, judged.targets, judged.groups)
    return find_slices(answers, [data.splits[split]], data.train, data.spec.input, data.attributes, split)


def _single(judged: Evaluation, split: str, chosen: Evaluation | None) -> Assessment:
    names, targets = judged.task.outputs, judged.targets
    answers, truths = one_label(judged.task.answers(judged.predictions), len(names)), one_label(targets, len(names))
    confidence, right = _answers(judged)
    found: dict[str, Any] = {}
    if chosen is not None and chosen.count:
        found["tempered"] = _temper(judged, chosen)
        found["accepted"] = accept(*_answers(chosen), confidence, right)
        found["coverage"] = prediction_sets(chosen.predictions, chosen.targets, judged.predictions, targets)
        found["decision"] = decide(chosen, judged)
    two = len(names) == 2
    ranked = names[1:] if two else names, judged.predictions[:, int(two) :], truths, judged.groups
    return Assessment(
        split,
        judged.count,
        {"macro F1": Measured(*macro_f1_interval(answers, truths, judged.groups))},
        _areas(auroc_interval, *ranked),
        _calibration(confidence, right),
        precisions=_areas(average_precision_interval, *ranked),
        by_share=accuracy_by_share(confidence, right),
        recalls=recalls(judged.per_class, answers, truths, judged.groups),
        confusions=() if judged.confusion is None else confusions(judged.confusion, names),
        **found,
    )


def _labels(judged: Evaluation, split: str, chosen: Evaluation | None) -> Assessment:
    actual = judged.targets > 0.5
    answers = judged.task.answers(judged.predictions)
    ranked = judged.task.outputs, judged.predictions, actual, judged.groups
    return Assessment(
        split,
        judged.count,
        {"macro F1": Measured(*macro_f1_interval(answers, actual, judged.groups))},
        _areas(auroc_interval, *ranked),
        _calibration(judged.predictions.flatten(), actual.flatten()),
        precisions=_areas(average_precision_interval, *ranked),
        recalls=recalls(judged.per_class, answers, actual, judged.groups),
        decision=None if chosen is None or not chosen.count else decide(chosen, judged),
    )


def _quantities(judged: Evaluation, split: str, chosen: Evaluation | None) -> Assessment:
    errors = (judged.predictions.double() - judged.targets.double()).abs().mean(1)
    coverage = None
    if chosen is not None and chosen.count:
        coverage = prediction_bands(chosen.predictions, chosen.targets, judged.predictions, judged.targets)
    mean, usual = Measured(float(errors.mean()), mean_interval(errors, judged.groups)), judged.task.usual
    return Assessment(
        split,
        judged.count,
        {"mean absolute error": mean},
        {},
        coverage=coverage,
        residuals=residuals(judged.predictions, judged.targets, judged.task.outputs),
        baseline=float((judged.targets.double() - torch.tensor(usual, dtype=torch.float64)).abs().mean()) if usual else None,
    )


def _areas(
    measure: Callable[[Tensor, Tensor, Tensor | None], tuple[float, Interval]],
    names: Sequence[str],
    scores: Tensor,
    truths: Tensor,
    groups: Tensor | None,
) -> dict[str, Measured]:
    if len(names) > _LISTED or scores.numel() > _NUMBERS:
        return {}
    columns = truths[:, -len(names) :]
    found = {name: Measured(*measure(scores[:, place], columns[:, place], groups)) for place, name in enumerate(names)}
    return {name: area for name, area in found.items() if not math.isnan(area.value)}


def _answers(evaluation: Evaluation) -> tuple[Tensor, Tensor]:
    """Return how sure the model is of each answer, and whether it is right."""
    answers = evaluation.task.answers(evaluation.predictions)
    return evaluation.predictions.gather(1, answers[:, None])[:, 0], answers == evaluation.targets


def _temper(judged: Evaluation, chosen: Evaluation) -> Tempered:
    cooled = temperature(chosen.outputs, chosen.targets)
    gain = _losses(chosen.outputs, chosen.targets) - _losses(chosen.outputs / cooled, chosen.targets)
    after = judged.outputs.double() / cooled
    # No temperature changes an answer.
    answers = judged.task.answers(judged.predictions)
    sure = after.softmax(1).gather(1, answers[:, None])[:, 0]
    return Tempered(
        cooled,
        2 * float(gain.sum()) > _CHI_SQUARE,
        float(_losses(judged.outputs, judged.targets).mean()),
        float(_losses(after, judged.targets).mean()),
        _calibration(sure, answers == judged.targets),
    )


def _calibration(confidence: Tensor, right: Tensor) -> Calibration | None:
    return calibration(confidence, right) if len(confidence) >= _FEW else None


def _losses(outputs: Tensor, targets: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(outputs.double(), targets, reduction="none")


@cache
def _as_json() -> TypeAdapter[Assessment]:
    return TypeAdapter(Assessment)
