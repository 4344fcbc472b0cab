"""Numbers that say how good predictions are. Each is computed from plain tensors; the definitions are scikit-learn's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClassScore:
    """How well one class or label is found: precision, recall and F1 (0 to 1), and how many examples really have it."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


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
    columns = zip(names, precision.tolist(), recall.tolist(), f1.tolist(), actual.long().tolist(), strict=True)
    return tuple(ClassScore(*values) for values in columns)


def macro(scores: tuple[ClassScore, ...]) -> ClassScore:
    """Return the plain mean over the classes."""
    return _mean("macro", scores, [1] * len(scores))


def weighted(scores: tuple[ClassScore, ...]) -> ClassScore:
    """Return the mean over the classes, weighted by their support."""
    return _mean("weighted", scores, [score.support for score in scores])


def _mean(name: str, scores: tuple[ClassScore, ...], weights: list[int]) -> ClassScore:
    total = sum(weights)
    precision = sum(score.precision * weight for score, weight in zip(scores, weights, strict=True)) / total
    recall = sum(score.recall * weight for score, weight in zip(scores, weights, strict=True)) / total
    f1 = sum(score.f1 * weight for score, weight in zip(scores, weights, strict=True)) / total
    return ClassScore(name, precision, recall, f1, sum(score.support for score in scores))


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / whole.clamp(min=1), 0.0)
