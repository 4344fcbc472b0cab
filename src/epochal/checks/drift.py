"""Splits that are unlike training: categories and ranges that it does not have, and columns and targets with another distribution.

Distributions are compared by the population stability index, the sum of (q - p) ln(q / p) over groups with the shares p and q: below 0.1
it counts as small, from 0.25 on as large (N. Siddiqi, "Credit Risk Scorecards", 2006). Without drift, m n / (m + n) times the index is
distributed as chi-squared (B. Yurdakul and J. Naranjo, "Statistical properties of the population stability index", 2020): what can be
chance is not reported, at a level of 1 % for all columns together (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from epochal.checks.findings import Case, Finding
from epochal.data.groups import Groups, grouped
from epochal.data.inputs.table.rule import TableRule
from epochal.data.inputs.values import Inputs, access
from epochal.data.load import Data
from epochal.shown import counted

_LEAST, _LARGE = 0.1, 0.25
_LEVEL = 0.01

# Quantities are compared in so many intervals; groups with fewer expected examples are put together (Cochran's rule).
_INTERVALS, _EXPECTED = 10, 5

# Categories and ranges that training does not have are a warning from this share of the rows on.
_MANY = 0.01

# Ranges are exceeded by chance too: by two of n + 1 rows.
_BY_CHANCE = 10

# Of inputs in a file, as many columns are in memory at once as have so many values; and so many rows are read together.
_VALUES, _ROWS = 1 << 24, 1 << 14

Numbers = NDArray[np.float32]

# How large a difference is, and what it is.
_Case = tuple[float, str]


class _Column(NamedTuple):
    name: str
    is_quantity: bool
    train: Numbers
    other: Numbers
    words: Callable[[float], str]


def drift_findings(data: Data) -> Iterator[Finding]:
    """Yield how splits that the source has are unlike training. Those that are split off at random are not."""
    for split, part in data.splits.items():
        if part.part != "train":
            unseen, beyond, drift = list[_Case](), list[_Case](), list[_Case]()
            targets = [*_targets(data, split)]
            compared = _number(data) + len(targets)
            for column in _columns(data, split):
                unseen += [] if column.is_quantity else _unseen(column)
                beyond += _beyond(column) if column.is_quantity else []
                drift += _drift(column, split, compared)
            drift += chain.from_iterable(_drift(column, split, compared) for column in targets)
            yield from _about_unseen(split, unseen)
            yield from _about_range(split, beyond)
            yield from _about_distribution(split, drift)


def _number(data: Data) -> int:
    """Return the number of columns that are compared: none of inputs that are read one by one, which may change each time."""
    is_row = "items" not in (access(part.inputs) for part in data.splits.values())
    return len(data.input.cells(data.train.input(0))) if is_row else 0


def _columns(data: Data, split: str) -> Iterator[_Column]:
    """Yield columns, of which a few at a time are in memory."""
    parts = data.train, data.splits[split]
    step = max(1, _VALUES // sum(map(len, parts)))
    for begin in range(0, _number(data), step):
        places = slice(begin, begin + step)
        cells, train, other = data.input.cells(data.train.input(0))[places], *(_values(part.inputs, places) for part in parts)
        for place, (cell, one, two) in enumerate(zip(cells, train, other, strict=True), begin):
            words = data.input.columns[place].words_of if isinstance(data.input, TableRule) else str
            yield _Column(cell.name, cell.is_quantity, one, two, words)


def _values(inputs: Inputs, places: slice) -> Numbers:
    """Return some columns of inputs: float32 [columns, n]."""
    rows = torch.arange(len(inputs)).split(_ROWS)
    return np.concatenate([inputs[some][:, places].T.float().numpy() for some in rows], 1)


def _targets(data: Data, split: str) -> Iterator[_Column]:
    train, other = (part.targets.float().reshape(len(part), -1).numpy().T for part in (data.train, data.splits[split]))
    for name, one, two in zip(["class"] if data.task.has_classes else data.outputs, train, other, strict=True):
        words = (lambda code: data.outputs[int(code)]) if data.task.has_classes else str
        yield _Column(name if data.task.has_classes else f"target {name}", not data.task.has_accuracy, one, two, words)


def _unseen(column: _Column) -> Iterator[_Case]:
    there = column.other[~np.isnan(column.other)]
    unseen = int((~np.isin(there, column.train)).sum())
    if unseen:
        share = unseen / len(column.other)
        yield share, f"{column.name}: {counted(unseen, 'row')}, {_percent(share)}"


def _about_unseen(split: str, cases: Sequence[_Case]) -> Iterator[Finding]:
    if cases:
        words = f"{counted(len(cases), 'column')} of {split}: categories that train does not have"
        fix = "The model treats them as unknown: add training rows that have them, or merge categories."
        yield Finding("warning" if max(cases)[0] >= _MANY else "note", "unseen", words, fix, _sorted(cases))


def _beyond(column: _Column) -> Iterator[_Case]:
    known, there = column.train[~np.isnan(column.train)], column.other[~np.isnan(column.other)]
    if not len(known) or not len(there):
        return
    low, high = float(known.min()), float(known.max())
    beyond = (there < low) | (there > high)
    share = float(beyond.mean())
    if beyond.sum() >= _EXPECTED and share >= max(_MANY, _BY_CHANCE * 2 / (len(known) + 1)):
        yield share, f"{column.name}: {_percent(share)} of the rows are below or above all of train"


def _about_range(split: str, cases: Sequence[_Case]) -> Iterator[Finding]:
    if cases:
        words = f"{counted(len(cases), 'column')} of {split}: numbers beyond those of train"
        fix = "There the model can only guess: add such training rows, or use the same unit in all splits."
        yield Finding("warning", "range", words, fix, _sorted(cases))


def _drift(column: _Column, split: str, compared: int) -> Iterator[_Case]:
    """Yield how the distribution of a column differs, if that is hardly chance for one of so many that are compared."""
    index, chance, example = _compared(column, split)
    if index >= _LEAST and chance * compared < _LEVEL:
        size = "large" if index >= _LARGE else "moderate"
        yield index, f"{column.name}: index {index:.2f} ({size}); {example}"


def _about_distribution(split: str, cases: Sequence[_Case]) -> Iterator[Finding]:
    if cases:
        words = f"{counted(len(cases), 'column')} of {split}: another distribution than in train"
        fix = (
            "Scores on such data say less about the data that you train for: check where both come from. (Population stability index of "
            "at least 0.1, beyond chance at 1 % for all columns together.)"
        )
        yield Finding("warning", "drift", words, fix, _sorted(cases))


def _compared(column: _Column, split: str) -> tuple[float, float, str]:
    """Return the population stability index of a column, the chance of one as large without drift, and its most different group."""
    intervals = int(np.clip(len(column.other) // _EXPECTED, 2, _INTERVALS))
    groups = grouped(column.train, intervals, is_quantity=column.is_quantity)
    train, other = (np.bincount(groups.of(values), minlength=groups.number).astype(float) for values in (column.train, column.other))
    sizes = train.sum(), other.sum()
    rare = (train + other) * min(sizes) / sum(sizes) < _EXPECTED
    names = np.arange(groups.number)[~rare]
    if rare.any():
        train, other = (np.append(counts[~rare], counts[rare].sum()) for counts in (train, other))
    if len(train) < 2:
        return 0.0, 1.0, ""
    # Half an example more in each group: the logarithm of 0 is infinite.
    before, after = ((counts + 0.5) / (counts.sum() + len(counts) / 2) for counts in (train, other))
    terms = (after - before) * np.log(after / before)
    index, freedom, factor = float(terms.sum()), len(terms) - 1, sizes[0] * sizes[1] / sum(sizes)
    chance = float(
        torch.special.gammaincc(torch.tensor(freedom / 2, dtype=torch.float64), torch.tensor(index * factor / 2, dtype=torch.float64))
    )
    most = int(terms.argmax())
    named = _group(column, groups, int(names[most])) if most < len(names) else "rare or new values"
    return index, chance, f"{named}: {_percent(train[most] / sizes[0])} of train, {_percent(other[most] / sizes[1])} of {split}"


def _group(column: _Column, groups: Groups, place: int) -> str:
    """Return a group in words."""
    if place >= len(groups.edges):
        return "missing" if place == len(groups.edges) else "new values"
    high = float(groups.edges[place])
    if not column.is_quantity:
        return f"'{column.words(high)}'"
    low = float(groups.edges[place - 1]) if place else None
    return f"up to {high:.4g}" if low is None else f"{low:.4g} to {high:.4g}"


def _sorted(cases: Sequence[_Case]) -> tuple[Case, ...]:
    return tuple(Case((), words) for _, words in sorted(cases, key=lambda case: -case[0]))


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
