"""Columns by which examples can be told apart: those that a model learns from, and others of the table that lists or has the examples."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from epochal.data.inputs.table.columns import Column, encode_column
from epochal.data.inputs.table.meaning import choose_columns, meaning_of
from epochal.data.inputs.table.values import Table, names_of, pieces, read_table
from epochal.errors import DataError

# So many numbers are kept at most, 4 bytes each: of very many examples only the first columns.
MOST = 1 << 25

# Quantities are cut at the quartiles of training examples: where the normal scores of their ranks are these.
_QUARTILES = (-0.6744897501960817, 0.0, 0.6744897501960817)

# Names are cut to so many letters.
_LONG = 60


class Attributes(BaseModel):
    """Columns that a model does not learn from: those ignored in a table of rows, and all others of a table that lists files or has texts.

    The values of an example are as those of `TableRule`: float32 [columns], NaN for what is missing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: tuple[Column, ...] = ()

    def learn(self, values: Tensor) -> Attributes:
        """Return the columns with what training examples, float32 [n, columns], have in them."""
        learned = (column.learn(one.numpy()) for column, one in zip(self.columns, values.T, strict=True))
        return Attributes(columns=tuple(learned))


NO_ATTRIBUTES = Attributes()


class Cut(NamedTuple):
    """The values of a `column` in slices with `names`: `codes` int64 [n] are places in these."""

    column: str
    names: tuple[str, ...]
    codes: NDArray[np.int64]


def read_attributes(
    tables: Mapping[str, Any], used: Collection[str], notes: list[str], *, header: bool | None = None
) -> tuple[Attributes, dict[str, Tensor]]:
    """Return the columns of tables that are not `used` otherwise, as they are in that of train, and their values in each table.

    Identifiers, texts and what is always the same are left out. Nothing in these columns ends a training: those in which another table has
    values of another kind are left out with a note.
    """
    first = tables["train"]
    names = [name for name in names_of(first, header) if name not in used]
    names = _likely(first, names, header)
    if not names:
        return NO_ATTRIBUTES, {}
    read = {split: _columns(one, names, header) for split, one in tables.items()}
    columns, _ = choose_columns(read["train"], names, {})
    found = [(column, values) for column in columns if (values := _values(read, column, notes)) is not None]
    found = found[: MOST // sum(map(len, read.values()))]
    if not found:
        return NO_ATTRIBUTES, {}
    return Attributes(columns=tuple(column for column, _ in found)), {
        split: torch.stack([values[split] for _, values in found], 1) for split in read
    }


def _columns(what: Any, names: Sequence[str], header: bool | None) -> Table:
    there = names_of(what, header)
    # A table that has none of them still has rows.
    wanted = {*names} & {*there} or {there[0]}
    return read_table(what, skip={*there} - wanted, header=header)


def _likely(what: Any, names: Sequence[str], header: bool | None) -> list[str]:
    """Return the columns that are neither texts nor identifiers by the first rows of a file: these could take much memory."""
    if not names or not isinstance(what, str | Path):
        return list(names)
    _, table = next(pieces(Path(what), words=names, header=header))
    kinds = {name: meaning_of(name, table.columns[name]) for name in names}
    return [
        name
        for name, kind in kinds.items()
        if kind not in ("text", "identifier") or not isinstance(table.columns[name].as_numbers(comma=table.comma), str)
    ]


def _values(tables: Mapping[str, Table], column: Column, notes: list[str]) -> dict[str, Tensor] | None:
    """Return the values of a column in each table; `None` where one has values of another kind."""
    found = {}
    for split, table in tables.items():
        try:
            values = torch.from_numpy(encode_column(table, column))
        except DataError as error:
            notes.append(f"{column.name} is not looked at: {error.problem}")
            return None
        found[split] = torch.where(values.isfinite(), values, torch.nan)
    return found


def cut(columns: Sequence[Column], values: Tensor) -> Iterator[Cut]:
    """Cut columns as training examples had them, by their `values` float32 [n, columns]: categories by value, quantities at quartiles."""
    for column, one in zip(columns, values.T, strict=True):
        numbers = np.ascontiguousarray(one.numpy())
        yield _at_quartiles(column, numbers) if column.is_number else _by_word(column, numbers)


def _by_word(column: Column, values: NDArray[np.float32]) -> Cut:
    name = _short(column.name)
    # Words have codes from 1; 0 is a word that training examples had not.
    codes = np.where(np.isnan(values), len(column.words) + 1, values).astype(np.int64)
    found, places = np.unique(codes, return_inverse=True)
    all_names = (f"{name} unseen in training", *(f"{name} = {_short(word)}" for word in column.words), f"{name} missing")
    return Cut(column.name, tuple(all_names[code] for code in found.tolist()), places)


def _at_quartiles(column: Column, values: NDArray[np.float32]) -> Cut:
    knots, name = np.array(column.knots, np.float32), _short(column.name)
    if len(knots) <= len(_QUARTILES) + 1:
        edges = knots[:-1]
        said = [f"{name} = {column.words_of(float(knot))}" for knot in knots] or [name]
    else:
        last = np.searchsorted(np.array(column.scores), _QUARTILES, "right") - 1
        edges = knots[np.unique(last[(last >= 0) & (last < len(knots) - 1)])]
        words = [column.words_of(float(edge)) for edge in edges]
        between = (f"{low} < {name} ≤ {high}" for low, high in itertools.pairwise(words))
        said = [f"{name} ≤ {words[0]}", *between, f"{name} > {words[-1]}"] if words else [name]
    codes = np.where(np.isnan(values), len(said), np.searchsorted(edges, values))
    return Cut(column.name, (*said, f"{name} missing"), codes.astype(np.int64))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONG else f"{line[: _LONG - 1]}…"
