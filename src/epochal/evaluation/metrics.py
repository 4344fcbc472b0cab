"""Numbers that say how good predictions are. Each is computed from plain tensors; the definitions are scikit-learn's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Larger numbers are written with an exponent.
_LONG = 1e15


@dataclass(frozen=True)
class ClassScore:
    """How well one class or label is found: precision, recall and F1 (0 to 1), how many examples have it, and how many are said to.

    Of one that is neither there nor predicted nothing is known: its shares are 0, and no mean counts it.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    predicted: int = 0

    @property
    def is_measured(self) -> bool:
        """Whether any example has it, or any prediction."""
        return self.support > 0 or self.predicted > 0

    def row(self) -> tuple[str, str, str, str, str]:
        """Return name, precision, recall, F1 and support in words, for a table."""
        shares = (f"{share:.3f}" if self.is_measured else "–" for share in (self.precision, self.recall, self.f1))
        return self.name, *shares, f"{self.support:,}"  # type: ignore[return-value]


def confusion_matrix(predicted: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Return int64 [classes, classes]: row = true class, column = predicted class (both int64 [n])."""
    return torch.bincount(targets * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def top_k_accuracy(outputs: Tensor, targets: Tensor, k: int) -> float:
    """Return the share of examples whose true class (int64 [n]) is among the `k` highest of `outputs` [n, classes]."""
    return (outputs.topk(k, dim=1).indices == targets[:, None]).any(1).double().mean().item()


def class_scores(names: tuple[str, ...], hits: Tensor, predicted: Tensor, actual: Tensor) -> tuple[ClassScore, ...]:
    """Return the scores of each class from counts [classes]: true positives, predictions of it, examples of it.

    A share of nothing (a class never predicted, or never there) counts 0.
    """
    precision = _share(hits, predicted)
    recall = _share(hits, actual)
    f1 = _share(2 * hits, predicted + actual)
    columns = zip(names, precision.tolist(), recall.tolist(), f1.tolist(), actual.long().tolist(), predicted.long().tolist(), strict=True)
    return tuple(ClassScore(*values) for values in columns)


def macro(scores: tuple[ClassScore, ...]) -> ClassScore | None:
    """Return the plain mean over the classes that are there or predicted, or `None` where none is."""
    return _mean("macro", scores, [int(score.is_measured) for score in scores])


def weighted(scores: tuple[ClassScore, ...]) -> ClassScore | None:
    """Return the mean over the classes, weighted by their support, or `None` where there are no examples of any."""
    return _mean("weighted", scores, [score.support for score in scores])


def _mean(name: str, scores: tuple[ClassScore, ...], weights: list[int]) -> ClassScore | None:
    total = sum(weights)
    if not total:
        return None
    precision = sum(score.precision * weight for score, weight in zip(scores, weights, strict=True)) / total
    recall = sum(score.recall * weight for score, weight in zip(scores, weights, strict=True)) / total
    f1 = sum(score.f1 * weight for score, weight in zip(scores, weights, strict=True)) / total
    support, predicted = sum(score.support for score in scores), sum(score.predicted for score in scores)
    return ClassScore(name, precision, recall, f1, support, predicted)


def r2_words(value: float) -> str:
    """Write R² in at most eight characters; it has no lower bound."""
    return f"{value:.4f}" if value > -100 else f"{value:.1e}"


def plain(value: float, digits: int) -> str:
    """Write a number with so many significant digits, and with its whole part in full where that has more."""
    whole = len(str(round(abs(value)))) if abs(value) < _LONG else 0
    return f"{value:.{max(digits, whole)}g}"


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / whole.clamp(min=1), 0.0)
