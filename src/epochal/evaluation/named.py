"""Metrics beside the loss and the accuracy: the usual ones by their names, and the user's own functions.

A metric is a function of the answers and the targets of all examples that gives a number. Answers are probabilities [n, classes] or
[n, labels], or quantities [n, outputs]; targets are classes (int64 [n]), 0 and 1 [n, labels], or quantities [n, outputs]; all on the CPU.
Higher is better, but for metrics with "error" or "loss" in their names, and those that are known to be errors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from epochal.data.spec import DataSpec, Task
from epochal.errors import RecipeError, suggest
from epochal.evaluation.metrics import ClassScore, class_scores, confusion_matrix, macro

MetricFunction: TypeAlias = Callable[[Tensor, Tensor], Any]

# What is measured in any case, by its name where a score is monitored.
ALWAYS = ("loss", "accuracy")

_GETS = {
    "single-label": "probabilities [n, classes] and classes [n]",
    "multi-label": "probabilities [n, labels] and a table of 0 and 1",
    "regression": "quantities [n, outputs] and what they should be",
}


@dataclass(frozen=True)
class Metric:
    """A named function of (answers, targets)."""

    name: str
    function: MetricFunction

    def __call__(self, answers: Tensor, targets: Tensor, task: Task) -> float:
        """Return the number. Raises `RecipeError` where the user's function fails, or gives none."""
        try:
            return float(self.function(answers, targets))
        except Exception as error:  # the user's function may raise anything
            raise RecipeError(
                f"The metric '{self.name}' fails: {type(error).__name__}: {error}.",
                f"It gets {_GETS[task]}, and has to return a number.",
            ) from error


Metrics: TypeAlias = str | Sequence[str | MetricFunction | Metric] | Mapping[str, MetricFunction] | None


def as_metrics(what: Metrics, spec: DataSpec) -> tuple[Metric, ...]:
    """Return the metrics that a user means: usual ones by name, functions, or functions by name. Raises `RecipeError`."""
    found = tuple(_each(what, spec))
    names = [metric.name for metric in found]
    for name in names:
        if name in ALWAYS or names.count(name) > 1:
            raise RecipeError(f"The metric '{name}' is measured already.", "Leave it out, or name your function otherwise.")
    return found


def _each(what: Metrics, spec: DataSpec) -> Iterator[Metric]:
    if isinstance(what, Mapping):
        yield from (_own(str(name), function) for name, function in what.items())
        return
    for one in [what] if isinstance(what, str) else what or ():
        if isinstance(one, str):
            yield _usual(one, spec)
        elif isinstance(one, Metric):
            yield one
        else:
            yield _own(getattr(one, "__name__", type(one).__name__).strip("_").replace("_", " "), one)


def _own(name: str, function: MetricFunction) -> Metric:
    if not callable(function):
        raise RecipeError(f"The metric '{name}' is {function!r}.", "Pass a function of (answers, targets), or the name of a usual metric.")
    return Metric(name, function)


def _usual(name: str, spec: DataSpec) -> Metric:
    plain = plain_name(name)
    fitting = USUAL[spec.task]
    if plain in fitting:
        function = fitting[plain]
        return Metric(plain, lambda answers, targets: function(answers.double(), targets))
    others = [task for task, known in USUAL.items() if plain in known]
    if others:
        raise RecipeError(f"The metric '{name}' is not for {spec.task} targets.", f"Use one of {', '.join(fitting)}.")
    raise RecipeError(f"There is no metric '{name}'.", suggest(plain, fitting))


def plain_name(name: str) -> str:
    """Return how a name is written: "balanced_accuracy" is "balanced accuracy"."""
    return re.sub(r"[\s_-]+", " ", name).strip().lower()


def all_metrics(names: Sequence[str], monitor: str, own: Metrics, spec: DataSpec) -> tuple[Metric, ...]:
    """Return what is measured beside loss and accuracy: the usual metrics of these `names`, the user's `own`, and the `monitor`ed one.

    Raises `RecipeError` where one is unknown, or there twice.
    """
    found = as_metrics([*as_metrics(names, spec), *as_metrics(own, spec)], spec)
    name, _ = monitored(monitor)
    if monitor == "auto" or name in ALWAYS or any(metric.name == name for metric in found):
        return found
    if plain_name(name) in (known := {name for table in USUAL.values() for name in table}):
        extra = _usual(name, spec)
        return found if any(metric.name == extra.name for metric in found) else (*found, extra)
    raise RecipeError(
        f"The setting monitor = {monitor} names no score.", suggest(name, {"auto", *ALWAYS, *known, *(metric.name for metric in found)})
    )


def monitored(monitor: str) -> tuple[str, int]:
    """Return the name of a monitored score, and 1 where higher is better, else -1; "min NAME" and "max NAME" say so."""
    way, _, name = monitor.partition(" ")
    plain = plain_name(monitor)
    if way in ("min", "max") and name and plain not in _ERRORS:
        return name, 1 if way == "max" else -1
    return monitor, -1 if plain in _ERRORS or "loss" in plain or "error" in plain else 1


def check_metrics(metrics: Sequence[Metric], spec: DataSpec, targets: Tensor) -> None:
    """Try metrics on the targets that they will get, with answers that are made up. Raises `RecipeError`."""
    generator = torch.Generator().manual_seed(0)
    if spec.task == "regression":
        answers = targets.reshape(len(targets), -1).flip(0)
    else:
        scores = torch.randn((len(targets), len(spec.outputs)), generator=generator)
        answers = scores.softmax(1) if spec.task == "single-label" else scores.sigmoid()
    for metric in metrics:
        metric(answers, targets, spec.task)


def measure(metrics: Sequence[Metric], answers: Tensor, targets: Tensor, task: Task) -> dict[str, float]:
    """Return each metric by its name."""
    return {metric.name: metric(answers, targets, task) for metric in metrics}


def _by_class(answers: Tensor, targets: Tensor) -> tuple[ClassScore, ...]:
    names = tuple(map(str, range(answers.shape[1])))
    if targets.ndim == 1:
        matrix = confusion_matrix(answers.argmax(1), targets, len(names))
        return class_scores(names, matrix.diagonal(), matrix.sum(0), matrix.sum(1))
    predicted, actual = answers >= 0.5, targets > 0.5
    return class_scores(names, (predicted & actual).sum(0), predicted.sum(0), actual.sum(0))


def _macro(which: str) -> MetricFunction:
    """Return the mean of one of the scores of classes, over those that are there or predicted."""

    def mean(answers: Tensor, targets: Tensor) -> float:
        found = macro(_by_class(answers, targets))
        return math.nan if found is None else float(getattr(found, which))

    return mean


def _balanced_accuracy(answers: Tensor, targets: Tensor) -> float:
    there = [score.recall for score in _by_class(answers, targets) if score.support]
    return sum(there) / len(there)


def _micro_f1(answers: Tensor, targets: Tensor) -> float:
    predicted, actual = answers >= 0.5, targets > 0.5
    both = int(predicted.sum() + actual.sum())
    return 2 * int((predicted & actual).sum()) / both if both else 0.0


def _over_classes(function: Callable[[Tensor, Tensor], float]) -> MetricFunction:
    """Let a function of scores [n] and truths [n] be the mean over all classes or labels for which there is a number."""

    def mean(answers: Tensor, targets: Tensor) -> float:
        truths = torch.nn.functional.one_hot(targets, answers.shape[1]) if targets.ndim == 1 else targets
        columns = [1] if targets.ndim == 1 and answers.shape[1] == 2 else range(answers.shape[1])
        found = [function(answers[:, column], truths[:, column] > 0.5) for column in columns]
        there = [value for value in found if not math.isnan(value)]
        return sum(there) / len(there) if there else math.nan

    return mean


def _auc(scores: Tensor, truths: Tensor) -> float:
    """The area under the ROC curve: how often a true one scores higher than another, ties counting one half."""
    true, other = int(truths.sum()), int((~truths).sum())
    if not true or not other:
        return math.nan
    _, place, counts = scores.unique(return_inverse=True, return_counts=True)
    ranks = (counts.cumsum(0) - (counts - 1) / 2).double()[place]
    return (float(ranks[truths].sum()) - true * (true + 1) / 2) / (true * other)


def _average_precision(scores: Tensor, truths: Tensor) -> float:
    """The mean precision over the true ones, each at the threshold of its own score."""
    if not truths.any():
        return math.nan
    _, place, counts = (-scores).unique(return_inverse=True, return_counts=True)
    hits = torch.zeros(len(counts), dtype=torch.double).index_add_(0, place, truths.double())
    precision = hits.cumsum(0) / counts.cumsum(0)
    return float((precision * hits).sum() / hits.sum())


def _kappa(answers: Tensor, targets: Tensor) -> float:
    """Cohen's: how much more often predictions agree with the truth than by chance."""
    shares = confusion_matrix(answers.argmax(1), targets, answers.shape[1]).double() / len(targets)
    chance = float(shares.sum(0) @ shares.sum(1))
    return (float(shares.diagonal().sum()) - chance) / (1 - chance) if chance < 1 else math.nan


def _mcc(answers: Tensor, targets: Tensor) -> float:
    """Matthews' correlation of predictions and truth."""
    matrix = confusion_matrix(answers.argmax(1), targets, answers.shape[1]).double()
    count, predicted, actual = matrix.sum(), matrix.sum(0), matrix.sum(1)
    covariance = count * matrix.diagonal().sum() - predicted @ actual
    spread = (count**2 - predicted @ predicted) * (count**2 - actual @ actual)
    return float(covariance / spread.sqrt()) if spread > 0 else 0.0


def _off(answers: Tensor, targets: Tensor) -> Tensor:
    return answers - targets.double().reshape(answers.shape)


_AREAS: dict[str, MetricFunction] = {"auc": _over_classes(_auc), "average precision": _over_classes(_average_precision)}
_MEANS: dict[str, MetricFunction] = {name: _macro(name) for name in ("f1", "precision", "recall")}

# The usual metrics of each task; F1, precision and recall are means over the classes or labels.
USUAL: dict[Task, dict[str, MetricFunction]] = {
    "single-label": {"balanced accuracy": _balanced_accuracy, **_MEANS, **_AREAS, "kappa": _kappa, "mcc": _mcc},
    "multi-label": {
        **_MEANS,
        "micro f1": _micro_f1,
        **_AREAS,
        "label accuracy": lambda answers, targets: ((answers >= 0.5) == (targets > 0.5)).double().mean(),
    },
    "regression": {
        "mae": lambda answers, targets: _off(answers, targets).abs().mean(),
        "mse": lambda answers, targets: _off(answers, targets).square().mean(),
        "rmse": lambda answers, targets: _off(answers, targets).square().mean().sqrt(),
        "mape": lambda answers, targets: (_off(answers, targets).abs() / targets.double().abs().reshape(answers.shape)).mean(),
        "median error": lambda answers, targets: _off(answers, targets).abs().median(0).values.mean(),
        "max error": lambda answers, targets: _off(answers, targets).abs().max(),
    },
}
_ERRORS = ("mae", "mse", "rmse", "mape", "median error", "max error")
