"""Where a model is wrong: how well it finds each class, which classes it takes for each other, and how far off quantities are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from epochal.evaluation.uncertainty import share_of
from epochal.tasks.intervals import share_interval
from epochal.tasks.scores import ClassScore

# So many confusions are kept, and so many points of each of so many quantities.
_CONFUSIONS, _POINTS, _QUANTITIES = 20, 400, 4

# PyTorch ranks so many numbers at most.
_MOST_RANKED = 10_000_000


@dataclass(frozen=True)
class Confusion:
    """Of `support` examples of the class `true`, `count` are taken for `predicted`, which is a `share` of them (0 to 1)."""

    true: str
    predicted: str
    count: int
    support: int
    share: float


@dataclass(frozen=True)
class Residuals:
    """How far the predictions of a quantity are off: true less predicted.

    `quantiles` are those of 5, 50 and 95 %. `edges` and `counts` are a histogram. `points` are up to 400 pairs of (true, predicted), evenly
    chosen from all.
    """

    name: str
    quantiles: tuple[float, float, float]
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    points: tuple[tuple[float, float], ...]


def confusions(matrix: Tensor, names: Sequence[str]) -> tuple[Confusion, ...]:
    """Return the most frequent confusions of a matrix (int64, row: true class, column: predicted), the largest first."""
    support = matrix.sum(1)
    apart = matrix - torch.diag(matrix.diagonal())
    counts, places = apart.flatten().sort(descending=True, stable=True)
    found = []
    for count, place in zip(counts[:_CONFUSIONS].tolist(), places[:_CONFUSIONS].tolist(), strict=True):
        true, predicted = divmod(place, len(names))
        if count:
            of = int(support[true])
            found.append(Confusion(names[true], names[predicted], count, of, count / of))
    return tuple(found)


def recalls(per_class: Sequence[ClassScore], answers: Tensor, truths: Tensor, groups: Tensor | None) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval of the recall of each class or label that occurs, by its name.

    `answers` and `truths` are bool [n, classes]; examples of one of `groups` int64 [n] count together.
    """
    if groups is not None:
        there = [(one.name, place) for place, one in enumerate(per_class) if one.support]
        return {name: share_of(answers[truths[:, place], place], groups[truths[:, place]]) for name, place in there}
    interval = cache(share_interval)
    return {one.name: interval(round(one.recall * one.support), one.support) for one in per_class if one.support}


def residuals(predictions: Tensor, targets: Tensor, names: Sequence[str]) -> tuple[Residuals, ...]:
    """Return how far predictions [n, quantities] of the first four quantities are off."""
    chosen = torch.linspace(0, len(targets) - 1, min(_POINTS, len(targets))).round().long()
    columns = zip(names[:_QUANTITIES], targets.double().T, predictions.double().T, strict=False)
    return tuple(_of_quantity(name, true, predicted, chosen) for name, true, predicted in columns)


def _of_quantity(name: str, true: Tensor, predicted: Tensor, chosen: Tensor) -> Residuals:
    off = true - predicted
    some = off[:: -(-len(off) // _MOST_RANKED)]
    low, middle, high = torch.quantile(some, torch.tensor((0.05, 0.5, 0.95), dtype=off.dtype)).tolist()
    first, last = float(off.min()), float(off.max())
    bins = min(40, max(8, len(off) // 20)) if last > first else 1
    edges = torch.linspace(first, last, bins + 1, dtype=off.dtype)
    counts = torch.bincount((torch.bucketize(off, edges, right=True) - 1).clamp(0, bins - 1), minlength=bins)
    points = tuple(zip(true[chosen].tolist(), predicted[chosen].tolist(), strict=True))
    return Residuals(name, (low, middle, high), tuple(edges.tolist()), tuple(counts.tolist()), points)
