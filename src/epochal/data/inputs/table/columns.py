"""What a column of a table means, and what is measured of it: number, date or category."""

from __future__ import annotations

import itertools
import math
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from epochal.data.inputs.table.dates import date_of, days
from epochal.data.inputs.table.values import Table
from epochal.errors import DataError
from epochal.tasks.scores import plain

ColumnKind = Literal["number", "category", "date"]

# Words beyond so many, the commonest, count as unseen.
MAX_WORDS = 10_000

# Numbers with at most so many distinct values are also treated as categories.
MAX_VALUES = 256

# Words and values that come less often among the training examples are treated as unseen.
LEAST = 3

# Numbers are scaled by their ranks between so many of them, and given as shares of so many intervals.
_KNOTS = 256
_LEAST_KNOTS, _ALL_KNOTS = 8, 1 << 17
_BINS, _ALL_BINS = 32, 1 << 14

# Ranks of the extremes, as a share.
_EXTREME = 1e-4

# Numbers further from 0 than this many times their range lose digits in float32: an offset is subtracted first.
_FAR = 64


class Column(BaseModel):
    """One column: how it is read, and what training examples have in it.

    A number, or a date in days since 1970, is read as its difference from `offset`; a word as 1 + its place in `words`, or 0 if it is
    not there. Measured: `missing` is the share of missing values; `knots` are values with the `scores` to which they are scaled, and
    `edges` are scores that limit intervals; `common` are the values of a number, or the codes of words, that come often enough to be
    learned.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    kind: ColumnKind
    offset: float = 0.0
    words: tuple[str, ...] = ()
    missing: float = 0.0
    knots: tuple[float, ...] = ()
    scores: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()
    common: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.knots) != len(self.scores):
            raise ValueError(f"column {self.name} has {len(self.knots)} knots and {len(self.scores)} scores")
        for values in (self.knots, self.scores, self.edges, self.common):
            if any(one >= other for one, other in itertools.pairwise(values)):
                raise ValueError(f"the measured values of column {self.name} do not ascend")
        if self.kind == "category" and not all(code.is_integer() and 0 < code <= len(self.words) for code in self.common):
            raise ValueError(f"column {self.name} has codes of other words")
        return self

    @property
    def is_number(self) -> bool:
        """Whether the column is a quantity: a number or a date."""
        return self.kind != "category"

    def words_of(self, value: float) -> str:
        """Return a value of an input in words."""
        if math.isnan(value):
            return "missing"
        if self.kind == "category":
            return self.words[int(value) - 1] if value else "not in training data"
        return date_of(value + self.offset) if self.kind == "date" else plain(value + self.offset, 6)

    def learn(self, values: NDArray[np.float32], columns: int = 1) -> Self:
        """Return the column, one of so many, with what training examples have in it: float32 [n], NaN where missing.

        Of one of thousands, less is kept: a model's description is limited (`io.safe_read`), and its first layer would have most of the
        weights.
        """
        most, bins = max(_LEAST_KNOTS, min(_KNOTS, _ALL_KNOTS // columns)), min(_BINS, _ALL_BINS // columns)
        there = np.sort(values[~np.isnan(values)])
        missing = 1 - len(there) / len(values)
        distinct, counts = np.unique(there, return_counts=True)
        common: NDArray[np.float32] = distinct[(counts >= LEAST) & (distinct > 0 if not self.is_number else True)]
        update: dict[str, object] = {"missing": missing, "common": tuple(common.tolist())}
        if self.is_number:
            if len(distinct) > min(MAX_VALUES, most) or bins < _BINS:
                update["common"] = ()
            update |= _scaled(there, distinct, most, bins)
        return self.model_copy(update=update)


def _scaled(values: NDArray[np.float32], distinct: NDArray[np.float32], most: int, bins: int) -> dict[str, object]:
    """Return up to `most` knots and scores, and the edges of so many `bins`, for sorted numbers: scores are the normal distribution's at
    the numbers' ranks."""
    if not len(distinct):
        return {"knots": (), "scores": (), "edges": ()}
    places = np.linspace(0, len(values) - 1, most).round().astype(np.int64)
    knots = distinct if len(distinct) <= most else np.unique(values[places])
    ranks = (np.searchsorted(values, knots) + np.searchsorted(values, knots, "right")) / (2 * len(values))
    scores = torch.special.ndtri(torch.from_numpy(ranks.clip(_EXTREME, 1 - _EXTREME))).numpy()
    # Extremes that are clipped to the same rank are one knot.
    kept = np.concatenate([[True], np.diff(scores) > 0])
    knots, scores = knots[kept], scores[kept]
    all_scores = np.interp(values, knots, scores)
    spread = float(all_scores.std())
    scores = (scores - all_scores.mean()) / (spread if spread > 0 else 1.0)
    edges = distinct
    if len(distinct) > bins + 1:
        # Most intervals have as many examples, the others as many distinct values: rare ones have some of their own.
        parts = ((values, bins - bins // 4), (distinct, bins // 4))
        edges = np.unique(
            np.concatenate([among[np.linspace(0, len(among) - 1, number + 1).round().astype(np.int64)] for among, number in parts])
        )
    edge_scores = np.unique(np.interp(edges, knots, scores).astype(np.float32))
    return {"knots": tuple(knots.tolist()), "scores": tuple(scores.tolist()), "edges": tuple(edge_scores.tolist())}


def choose_column(table: Table, name: str, kind: ColumnKind) -> Column:
    """Return a column of training data as a column of this kind. Raises `DataError` for a value that is not of the kind."""
    if kind == "category":
        words = table.columns[name].as_words()
        assert words.codes is not None
        counts = np.bincount(words.codes[words.codes >= 0], minlength=len(words.words))
        kept = np.argsort(-counts, kind="stable")[:MAX_WORDS]
        return Column(name=name, kind=kind, words=tuple(sorted(words.words[place] for place in kept)))
    numbers = _quantities(table, name, kind)
    there = numbers[~np.isnan(numbers)]
    low, high = (float(there.min()), float(there.max())) if len(there) else (0.0, 0.0)
    is_far = max(abs(low), abs(high)) > _FAR * (high - low)
    return Column(name=name, kind=kind, offset=float(np.median(there)) if is_far and len(there) and np.isfinite(there).all() else 0.0)


def encode_column(table: Table, column: Column) -> NDArray[np.float32]:
    """Return the values of a column as inputs, float32 [n]; all are missing if the table does not have it.

    Raises `DataError` for a value that is not of the column's kind.
    """
    if column.name not in table.columns:
        return np.full(len(table), np.nan, np.float32)
    if column.is_number:
        with np.errstate(over="ignore"):
            return (_quantities(table, column.name, column.kind) - column.offset).astype(np.float32)
    words = table.columns[column.name].as_words()
    assert words.codes is not None
    known = {word: float(code) for code, word in enumerate(column.words, start=1)}
    codes = np.array([known.get(word, 0.0) for word in words.words] + [np.nan], np.float32)
    return codes[words.codes]


def _quantities(table: Table, name: str, kind: ColumnKind) -> NDArray[np.float64]:
    """Return numbers, or dates as days since 1970, float64 [n]."""
    values = table.columns[name]
    if values.numbers is not None:
        return values.numbers
    found = days(values) if kind == "date" else values.as_numbers(comma=table.comma)
    if isinstance(found, str):
        row = int(np.flatnonzero(np.asarray(values.codes) == values.words.index(found))[0])
        raise DataError(
            f"{table.where(row)}: '{found[:60]}' is not a {kind}, as others are in column {name}.",
            "Fix it; a missing value is an empty one." if kind == "number" else "Write dates as 2024-02-29, 2024-02-29 12:30 or 29.2.2024.",
        )
    return found
