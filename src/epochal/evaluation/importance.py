"""How much a model relies on each column: permutation importance.

The values of one column are shuffled among the examples, and the scores measured again: L. Breiman, "Random forests" (2001), for any
model A. Fisher, C. Rudin and F. Dominici, "All models are wrong, but many are useful" (2019).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch import Tensor, nn

from epochal.data.examples import Examples
from epochal.data.feed import feed
from epochal.data.inputs.base import Cell
from epochal.data.inputs.values import access
from epochal.data.spec import DataSpec
from epochal.evaluation.evaluate import score
from epochal.inference import infer
from epochal.progress import progress
from epochal.random import key, permutation
from epochal.shown import Rows, Shown, counted
from epochal.tasks.losses import Loss

# How often each column is shuffled, and Student's t for a 95 % interval of the mean of so many.
REPEATS = 5
_T = 2.776

# So many rows are enough, and so few say little; of many columns it would take longer than training: so many numbers are computed with.
_MOST_ROWS, _LEAST_ROWS = 5_000, 300
_NUMBERS = 50_000_000

# Columns that share this much of their variance (squared correlation of ranks) stand in for each other.
_ALIKE = 0.64

# So many columns are shown.
SHOWN = 10


@dataclass(frozen=True)
class ColumnImportance:
    """By how much the loss rises, and the score falls, where a column is shuffled: means over the repeats.

    `interval` is a 95 % interval for the mean rise of the loss over all ways to shuffle these rows.
    """

    column: str
    loss: float
    interval: tuple[float, float]
    score: float


@dataclass(frozen=True, repr=False)
class Importance(Shown):
    """The importance of each column to a model, the largest first, measured on so many `rows` of a split.

    `alike` are pairs of columns with the share of their variance that they have in common: each can stand in for the other, and both
    look less important than they are.
    """

    columns: tuple[ColumnImportance, ...]
    alike: tuple[tuple[str, str, float], ...]
    split: str
    rows: int
    score_name: str

    @property
    def title(self) -> str:
        """What the numbers are."""
        split = "validation" if self.split == "valid" else self.split
        return f"How much worse predictions are where a column is shuffled ({counted(self.rows, 'row')} of {split}, {REPEATS} times each)"

    @property
    def heading(self) -> tuple[str, str, str, str]:
        """The heads of the columns of `table`."""
        return "column", "loss rises by", "95 % interval", f"{self.score_name} falls by"

    def table(self, most: int = SHOWN) -> list[tuple[str, str, str, str]]:
        """Return the first columns with their numbers in words."""
        return [
            (one.column, f"{one.loss:.4f}", f"{one.interval[0]:.4f} to {one.interval[1]:.4f}", f"{one.score:.4f}")
            for one in self.columns[:most]
        ]

    def _title(self) -> str:
        return self.title

    def _table(self) -> tuple[Sequence[str], Rows]:
        return self.heading, self.table(len(self.columns))

    def _rows(self) -> Rows:
        return self.table()

    def warning(self) -> str:
        """Return which columns stand in for each other; "" if there are none."""
        if not self.alike:
            return ""
        few = ", ".join(f"{one} & {other}" for one, other, _ in self.alike[:3]) + ", ..." * (len(self.alike) > 3)
        return f"columns that say nearly the same look less important than they are together: {few}"

    def to_json(self) -> dict[str, Any]:
        """Return what result.json holds."""
        return {**asdict(self), "repeats": REPEATS}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Importance:
        """Return what `to_json` gave; a number may be given as text, such as "nan". Raises `ValueError`."""
        return _as_json().validate_python(values)


@cache
def _as_json() -> TypeAdapter[Importance]:
    return TypeAdapter(Importance)


def importance(
    model: nn.Module,
    examples: Examples,
    train: Examples,
    spec: DataSpec,
    loss: Loss,
    *,
    split: str = "test",
    seed: int = 0,
    device: torch.device | str = "cpu",
    batch_size: int = 1000,
) -> Importance | None:
    """Return how much `model` relies on each column of `examples`, those of a `split`, with one pass for each column and repeat.

    The shuffles are functions of `seed`. `None` where inputs are not rows of columns, are read one by one, or are too few for so
    many columns.
    """
    # What is read one by one may change, and is read no more often than needed.
    if "items" in (access(examples.inputs), access(train.inputs)):
        return None
    cells = spec.input.cells(examples.input(0))
    rows = _rows(len(cells), len(examples))
    if not cells or takes_long(len(cells), len(examples)) or rows < 2:
        return None
    some = examples.take(permutation(key(seed, "importance"), len(examples))[:rows].sort().values)
    inputs, device = some.inputs[torch.arange(rows)].clone(), torch.device(device)

    def measured() -> Tensor:
        """Return loss and score of the inputs as they are now: float64 [2]."""
        outputs = infer(model, feed(replace(some, inputs=inputs), batch_size, device), device)
        found = score(outputs, some.targets, spec.task, loss)
        return torch.tensor((found.loss, spec.task.score_value(found)), dtype=torch.float64)

    plain = measured()
    columns = []
    with progress("Shuffling columns", len(cells)) as advance:
        for place, cell in enumerate(cells):
            values = inputs[:, place].clone()
            changes = []
            for repeat in range(REPEATS):
                inputs[:, place] = values[permutation(key(seed, "importance", place, repeat), rows)]
                changes.append(measured() - plain)
            inputs[:, place] = values
            columns.append(_of(cell.name, torch.stack(changes)))
            advance()
    columns.sort(key=lambda one: -one.loss)
    return Importance(tuple(columns), alike_columns(train, cells), split, rows, spec.task.score_name)


def takes_long(columns: int, examples: int) -> bool:
    """Whether there are so many columns that their importance is not measured."""
    return _rows(columns, examples) < min(_LEAST_ROWS, examples)


def _rows(columns: int, examples: int) -> int:
    return min(examples, _MOST_ROWS, _NUMBERS // max(1, REPEATS * columns**2))


def _of(column: str, changes: Tensor) -> ColumnImportance:
    """Summarize changes of loss and score [repeats, 2]."""
    loss, fallen = changes.mean(0).tolist()
    around = _T * float(changes[:, 0].std()) / len(changes) ** 0.5
    return ColumnImportance(column, loss, (loss - around, loss + around), -fallen)


def alike_columns(train: Examples, cells: Sequence[Cell]) -> tuple[tuple[str, str, float], ...]:
    """Return pairs of columns that say nearly the same of training rows, with the share of variance in common, the largest first.

    Quantities are compared by the squared correlation of their ranks (Spearman's), and with categories by the share of the variance of
    their ranks that lies between categories (the correlation ratio). Two categories are not compared.
    """
    every = -(-len(train) // _MOST_ROWS)
    rows = np.asarray(train.inputs[torch.arange(0, len(train), every)].float())
    quantities = [place for place, cell in enumerate(cells) if cell.is_quantity and _varies(rows[:, place])]
    if not quantities:
        return ()
    ranks = np.stack([_ranks(rows[:, place]) for place in quantities], 1)
    ranks = (ranks - ranks.mean(0)) / ranks.std(0)
    shared = {(one, other): float(share) for one, other, share in _pairs(quantities, (ranks.T @ ranks / len(ranks)) ** 2)}
    for place, cell in enumerate(cells):
        if not cell.is_quantity:
            _, codes, counts = np.unique(rows[:, place], return_inverse=True, return_counts=True)
            # Of a category with a single row any share of the variance is explained.
            kept = counts >= REPEATS
            means = np.stack([np.bincount(codes, column) for column in ranks.T], 1)[kept] / counts[kept, None]
            between = (counts[kept, None] * means**2).sum(0) / len(ranks)
            shared |= {(place, other): float(share) for other, share in zip(quantities, between, strict=True)}
    found = [(cells[one].name, cells[other].name, share) for (one, other), share in shared.items() if share >= _ALIKE]
    return tuple(sorted(found, key=lambda pair: -pair[2]))


def _varies(values: NDArray[np.float32]) -> bool:
    return len(np.unique(values[~np.isnan(values)])) > 1


def _pairs(places: Sequence[int], shares: NDArray[np.float64]) -> list[tuple[int, int, float]]:
    numbered = list(enumerate(places))
    return [(one, other, shares[i, j]) for (i, one), (j, other) in itertools.combinations(numbered, 2)]


def _ranks(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return ranks from 0 to 1; equal values have the same, and missing ones that of the middle."""
    there = np.sort(values[~np.isnan(values)])
    ranks = (np.searchsorted(there, values) + np.searchsorted(there, values, "right")) / (2 * len(there))
    return np.where(np.isnan(values), 0.5, ranks)
