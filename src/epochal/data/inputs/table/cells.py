"""The values of one column of a table: numbers, or words with a number for each; and those of a file while it is read."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epochal.data.inputs.table.files import MISSING
from epochal.data.inputs.table.store import Store

# More different numbers than this are not kept as words: a million of them would take more memory than the whole table.
MANY = 1 << 16


@dataclass(frozen=True)
class Values:
    """One column: `numbers` (float64 [n], NaN where missing), or `codes` (int32 [n], -1 where missing) of `words`."""

    numbers: NDArray[np.float64] | None = None
    codes: NDArray[np.int32] | None = None
    words: tuple[str, ...] = ()

    def __len__(self) -> int:
        values = self.codes if self.numbers is None else self.numbers
        assert values is not None
        return len(values)

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Which values are missing: bool [n]."""
        if self.numbers is not None:
            return np.isnan(self.numbers)
        assert self.codes is not None
        return self.codes < 0

    @property
    def has_many_numbers(self) -> bool:
        """Whether these are so many different numbers that as words they would take far more memory."""
        return self.numbers is not None and len(self.numbers) > MANY and len(np.unique(self.numbers)) > MANY

    def take(self, rows: NDArray[np.int64]) -> Values:
        """Return the values of some rows; words that none of them has are left out."""
        if self.numbers is not None:
            return Values(numbers=self.numbers[rows])
        assert self.codes is not None
        codes = self.codes[rows]
        used, first = np.unique(codes[codes >= 0], return_index=True)
        used = used[np.argsort(first)]
        places = np.full(len(self.words) + 1, -1, np.int32)
        places[used] = np.arange(len(used), dtype=np.int32)
        return Values(codes=places[codes], words=tuple(self.words[place] for place in used))

    def as_words(self) -> Values:
        """Return numbers as the shortest text that gives them again."""
        if self.numbers is None:
            return self
        numbers, codes = np.unique(self.numbers, return_inverse=True)
        words = tuple(str(int(value)) if value.is_integer() else repr(value) for value in numbers[~np.isnan(numbers)].tolist())
        return Values(codes=np.where(codes < len(words), codes, -1).astype(np.int32), words=words)

    def as_numbers(self, *, comma: bool = False) -> NDArray[np.float64] | str:
        """Return words as numbers, float64 [n]; or the first word that is not a number."""
        if self.numbers is not None:
            return self.numbers
        assert self.codes is not None
        numbers = np.full(len(self.words) + 1, nan)
        for place, word in enumerate(self.words):
            parsed = parse_numbers([word], comma=comma)
            if parsed is None:
                return word
            numbers[place] = parsed[0]
        return numbers[self.codes]

    def part(self, begin: int, end: int) -> Values:
        """Return the values from `begin` to `end`."""
        if self.numbers is not None:
            return Values(numbers=self.numbers[begin:end])
        assert self.codes is not None
        return Values(codes=self.codes[begin:end], words=self.words)


def parse_numbers(cells: Sequence[str], *, comma: bool) -> list[float] | None:
    """Return cells as numbers, NaN where they are missing; `None` if one is not a number. `comma` allows decimal commas."""
    try:
        numbers = [float(cell) if cell else nan for cell in cells]
    except ValueError:
        numbers = []
        for cell in map(str.strip, cells):
            if cell in MISSING:
                numbers.append(nan)
                continue
            try:
                numbers.append(float(cell.replace(",", ".") if comma else cell))
            except ValueError:
                return None
    # Python allows underscores in numbers; in a table they are no numbers.
    return None if "_" in "".join(cells) else numbers


class _Kept:
    """A column of a file: the places in a store of the values of each chunk of rows."""

    dtype: type[np.generic]

    def __init__(self, store: Store) -> None:
        self.store = store
        self.places: list[int] = []
        self.sizes: list[int] = []

    def keep(self, values: NDArray[Any]) -> None:
        """Add what stands for the values of a chunk of rows."""
        self.places.append(self.store.add(values))
        self.sizes.append(len(values))

    def stored(self, first: int = 0, end: int | None = None) -> NDArray[Any]:
        """Return what was kept of the chunks from `first` to `end`."""
        return self.store.read(self.places[first:end], self.sizes[first:end], self.dtype)

    def read(self, first: int = 0, end: int | None = None) -> Values:
        """Return the values of the chunks from `first` to `end`."""
        return self.values(self.stored(first, end))

    @abstractmethod
    def values(self, stored: NDArray[Any]) -> Values:
        """Return what was kept as the values that it stands for."""


class Numbers(_Kept):
    """Numbers, float64."""

    dtype = np.float64

    def add(self, numbers: Sequence[float]) -> None:
        """Add the values of a chunk of rows."""
        self.keep(np.array(numbers, np.float64))

    def values(self, stored: NDArray[Any]) -> Values:
        """Return numbers."""
        return Values(numbers=stored)


class Texts(_Kept):
    """Words, as numbers in the order in which they come first."""

    dtype = np.int32

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.known: dict[str, int] = {}

    def add(self, cells: Iterable[str]) -> None:
        """Add the text of a chunk of rows."""
        known = self.known
        self.keep(np.fromiter((known.setdefault(cell, len(known)) for cell in cells), np.int32))

    def as_numbers(self, *, comma: bool) -> Numbers | None:
        """Return the same column as numbers; `None` if a word is not a number."""
        parsed = parse_numbers([*self.known], comma=comma)
        if parsed is None:
            return None
        numbers, found = np.array(parsed), Numbers(self.store)
        for chunk in range(len(self.places)):
            found.keep(numbers[self.stored(chunk, chunk + 1)])
        return found

    @cached_property
    def _clean(self) -> tuple[NDArray[np.int32], tuple[str, ...]]:
        """The words without blanks around them, which do not make another; and for each as it was written its number, or -1."""
        words: dict[str, int] = {}
        codes = [-1 if (word := cell.strip()) in MISSING else words.setdefault(word, len(words)) for cell in self.known]
        return np.array(codes, np.int32), tuple(words)

    def values(self, stored: NDArray[Any]) -> Values:
        """Return words without blanks around them."""
        codes, words = self._clean
        return Values(codes=codes[stored], words=words)


class Stored(Mapping[str, Values]):
    """The columns of a file, read from a store when they are asked for: all at once may not fit in memory."""

    def __init__(self, columns: Mapping[str, _Kept], chunk: int) -> None:
        self._columns = columns
        # All chunks but the last have so many rows, which are fewer the more columns there are.
        self.chunk = chunk

    def __getitem__(self, name: str) -> Values:
        return self._columns[name].read()

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def part(self, begin: int, end: int) -> dict[str, Values]:
        """Return the rows from `begin`, where a chunk begins, to `end`."""
        return {name: column.read(begin // self.chunk, -(-end // self.chunk)) for name, column in self._columns.items()}
