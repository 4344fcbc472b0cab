"""The usual metrics of classes and labels, each a function of (predictions, targets); the definitions are scikit-learn's.

Predictions are probabilities [n, classes] or [n, labels], in float64; targets are classes (int64 [n]), or 0 and 1 [n, labels].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from epochal.tasks.scores import ClassScore, class_scores, macro

MetricFunction: TypeAlias = Callable[[Tensor, Tensor], Any]


def confusion_matrix(predicted: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Return int64 [classes, classes]: row = true class, column = predicted class (both int64 [n])."""
    return torch.bincount(targets * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def top_k_accuracy(outputs: Tensor, targets: Tensor, k: int) -> float:
    """Return the share of examples whose true class (int64 [n]) is among the `k` highest of `outputs` [n, classes]."""
    return (outputs.topk(k, dim=1).indices == targets[:, None]).any(1).double().mean().item()


def by_class(predictions: Tensor, targets: Tensor, names: Sequence[str] = ()) -> tuple[ClassScore, ...]:
    """Return the scores of each class or label; without `names` they have numbers."""
    names = tuple(names or map(str, range(predictions.shape[1])))
    if targets.ndim == 1:
        matrix = confusion_matrix(predictions.argmax(1), targets, len(names))
        return class_scores(names, matrix.diagonal(), matrix.sum(0), matrix.sum(1))
    predicted, actual = predictions >= 0.5, targets > 0.5
    return class_scores(names, (predicted & actual).sum(0), predicted.sum(0), actual.sum(0))


def _macro(which: str) -> MetricFunction:
    """Return the mean of one of the scores of classes, over those that occur or are predicted."""

    def mean(predictions: Tensor, targets: Tensor) -> float:
        found = macro(by_class(predictions, targets))
        return math.nan if found is None else float(getattr(found, which))

    return mean


def balanced_accuracy(predictions: Tensor, targets: Tensor) -> float:
    """Return the mean recall over the classes that occur."""
    there = [score.recall for score in by_class(predictions, targets) if score.support]
    return sum(there) / len(there)


def micro_f1(predictions: Tensor, targets: Tensor) -> float:
    """Return F1 over all labels of all examples together."""
    predicted, actual = predictions >= 0.5, targets > 0.5
    both = int(predicted.sum() + actual.sum())
    return 2 * int((predicted & actual).sum()) / both if both else 0.0


def label_accuracy(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the share of all labels of all examples that are right."""
    return ((predictions >= 0.5) == (targets > 0.5)).double().mean()


def _over_classes(function: Callable[[Tensor, Tensor], float]) -> MetricFunction:
    """Extend a function of scores [n] and truths [n] to the mean over all classes or labels for which it is defined."""

    def mean(predictions: Tensor, targets: Tensor) -> float:
        truths = torch.nn.functional.one_hot(targets, predictions.shape[1]) if targets.ndim == 1 else targets
        columns = [1] if targets.ndim == 1 and predictions.shape[1] == 2 else range(predictions.shape[1])
        found = [function(predictions[:, column], truths[:, column] > 0.5) for column in columns]
        there = [value for value in found if not math.isnan(value)]
        return sum(there) / len(there) if there else math.nan

    return mean


def _auc(scores: Tensor, truths: Tensor) -> float:
    """The area under the ROC curve: how often a positive scores higher than a negative, ties counting one half."""
    true, other = int(truths.sum()), int((~truths).sum())
    if not true or not other:
        return math.nan
    _, place, counts = scores.unique(return_inverse=True, return_counts=True)
    ranks = (counts.cumsum(0) - (counts - 1) / 2).double()[place]
    return (float(ranks[truths].sum()) - true * (true + 1) / 2) / (true * other)


def _average_precision(scores: Tensor, truths: Tensor) -> float:
    """The mean precision over the positives, each at the threshold of its own score."""
    if not truths.any():
        return math.nan
    _, place, counts = (-scores).unique(return_inverse=True, return_counts=True)
    hits = torch.zeros(len(counts), dtype=torch.double).index_add_(0, place, truths.double())
    precision = hits.cumsum(0) / counts.cumsum(0)
    return float((precision * hits).sum() / hits.sum())


def kappa(predictions: Tensor, targets: Tensor) -> float:
    """Return Cohen's kappa: how much more often predictions agree with the truth than by chance."""
    shares = confusion_matrix(predictions.argmax(1), targets, predictions.shape[1]).double() / len(targets)
    chance = float(shares.sum(0) @ shares.sum(1))
    return (float(shares.diagonal().sum()) - chance) / (1 - chance) if chance < 1 else math.nan


def mcc(predictions: Tensor, targets: Tensor) -> float:
    """Return Matthews' correlation of predictions and truth."""
    matrix = confusion_matrix(predictions.argmax(1), targets, predictions.shape[1]).double()
    count, predicted, actual = matrix.sum(), matrix.sum(0), matrix.sum(1)
    covariance = count * matrix.diagonal().sum() - predicted @ actual
    spread = (count**2 - predicted @ predicted) * (count**2 - actual @ actual)
    return float(covariance / spread.sqrt()) if spread > 0 else 0.0


# F1, precision and recall are means over the classes or labels.
MEANS: dict[str, MetricFunction] = {name: _macro(name) for name in ("f1", "precision", "recall")}
AREAS: dict[str, MetricFunction] = {"auc": _over_classes(_auc), "average precision": _over_classes(_average_precision)}
