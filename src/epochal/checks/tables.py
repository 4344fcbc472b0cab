"""Findings in tables: columns that are the same as others, and columns that give the target away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from epochal.checks.duplicates import row_keys
from epochal.checks.findings import Case, Finding
from epochal.data.groups import grouped
from epochal.data.inputs.table.rule import TableRule
from epochal.data.inputs.values import in_memory
from epochal.data.load import Data

# One column that tells the class of this share of the rows, or this share of the target's variance, is suspected to contain it.
_PERFECT = 0.995

# Only values with this many rows count: of one row each column knows everything.
_LEAST = 5

# Numbers with more distinct values are looked at in so many intervals.
_INTERVALS = 200

# Of rows that are not in memory, so many values are looked at.
SAMPLED = 1 << 22


def table_findings(data: Data) -> Iterator[Finding]:
    """Yield findings in the columns of training rows, a sample of them if they are not in memory; nothing for other data."""
    if not isinstance(data.input, TableRule):
        return
    train, number = data.train, len(data.train)
    rows, targets = in_memory(train.inputs), train.targets
    if rows is None:
        count = min(number, max(1, SAMPLED // data.input.size))
        # From all over the table.
        places = torch.arange(count) * number // count
        rows, targets = train.inputs[places], targets[places]
    for finding in (*_same(data.input.names, rows), *_leaks(data, data.input.names, rows.numpy(), targets.numpy())):
        words = f"{finding.words} (in {len(rows):,} of {number:,} rows)"
        yield replace(finding, words=words) if len(rows) < number else finding


def _same(names: Sequence[str], rows: Tensor) -> Iterator[Finding]:
    seen: dict[int, str] = {}
    same: list[str] = []
    for name, key in zip(names, row_keys(rows.T.contiguous()).tolist(), strict=True):
        other = seen.setdefault(key, name)
        if other != name:
            same.append(f"{name} is the same as {other}")
    if same:
        cases = tuple(Case((), words) for words in same)
        yield Finding("note", "duplicate column", "; ".join(same[:5]), "Leave one of them out: --ignore NAME", cases)


def _leaks(data: Data, names: Sequence[str], rows: NDArray[np.float32], targets: NDArray[Any]) -> Iterator[Finding]:
    has_classes = data.task.has_classes
    if not has_classes and targets.shape[1] > 1:
        return
    share = _told_classes if has_classes else _told_variance
    for name, column in zip(names, rows.T, strict=True):
        told, counted = share(grouped(column, _INTERVALS).of(column), targets.reshape(-1))
        if told >= _PERFECT and counted > len(rows) / 2:
            what = f"the class of {100 * told:.4g} % of the rows" if has_classes else f"{100 * told:.4g} % of the target's variance"
            fix = f"If it is not known when predictions are made, leave it out: --ignore {name}"
            yield Finding("warning", "leakage", f"column {name} alone tells {what}", fix, (Case((name,)),))


def _told_classes(groups: NDArray[np.int64], targets: NDArray[np.int64]) -> tuple[float, int]:
    """Return the share of rows that have the commonest class of their group, beyond that of all rows, and the number of rows counted."""
    classes = int(targets.max()) + 1
    counts = np.bincount(groups * classes + targets, minlength=(int(groups.max()) + 1) * classes).reshape(-1, classes)
    large = counts[counts.sum(1) >= _LEAST]
    total = int(large.sum())
    commonest = np.bincount(targets).max() / len(targets)
    told = float(large.max(1).sum() / total) if total else 0.0
    # Where nearly all rows are of one class, any column would do.
    return (told if 1 - told < 0.1 * (1 - commonest) else 0.0), total


def _told_variance(groups: NDArray[np.int64], targets: NDArray[np.float64]) -> tuple[float, int]:
    """Return the share of the variance of targets that is between groups, and the number of rows counted."""
    sizes = np.bincount(groups)
    kept = sizes[groups] >= _LEAST
    groups, values = groups[kept], targets[kept].astype(np.float64)
    if not len(values) or values.std() == 0:
        return 0.0, 0
    means = np.bincount(groups, values) / np.maximum(1, np.bincount(groups))
    return 1 - float(((values - means[groups]) ** 2).mean() / values.var()), len(values)
