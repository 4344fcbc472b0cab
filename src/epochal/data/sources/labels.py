"""Target columns of tables: what they mean, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from epochal.data.inputs.table.cells import Values
from epochal.data.inputs.table.dates import days
from epochal.data.inputs.table.values import Table
from epochal.data.spec import DataSpec
from epochal.errors import DataError
from epochal.tasks.base import TaskName
from epochal.tasks.words import Words

# Whole numbers from here on are not exact as float64: they are words.
_EXACT = 2**53

# Whole numbers with more distinct values than this are quantities rather than classes, unless the user says otherwise.
_MANY_NUMBERS = 20

# More classes than this are more likely identifiers or text.
_MANY_CLASSES = 1000


# What --column says of a target whose labels are one if they differ only by blanks, case or a full stop.
JOINED = "joined"


def about_others(number: int) -> str:
    """Return in how many other rows of `number` something is so too."""
    if number < 3:
        return ", there and in 1 other row" * (number == 2)
    return f", there and in {number - 1:,} other rows"


def complete_words(table: Table, name: str, what: str, fix: str) -> Words:
    """Return the words in a column. Raises `DataError`, which calls them `what`, if one is missing."""
    return _words_of(_complete(table, name, what, fix).as_words())


def _complete(table: Table, name: str, what: str, fix: str) -> Values:
    values = table.columns[name]
    missing = np.flatnonzero(values.missing)
    if len(missing):
        raise DataError(f"{table.where(int(missing[0]))}: {what} is missing{about_others(len(missing))}.", fix)
    return values


def _words_of(values: Values) -> Words:
    assert values.codes is not None
    return Words(values.words, values.codes)


def _target(table: Table, name: str) -> Values:
    """Return a column of targets: as words, unless those would be very many different numbers."""
    values = _complete(table, name, f"the target {name}", "Fill it in, or remove these rows.")
    return values if values.has_many_numbers else values.as_words()


@dataclass(frozen=True)
class Labels:
    """The targets of all splits, as words. With `joins`, labels that differ only by blanks, case or a full stop are one."""

    tables: Mapping[str, Table]
    targets: Mapping[str, list[Values]]
    names: tuple[str, ...]
    joins: bool

    @classmethod
    def of(cls, tables: Mapping[str, Table], names: tuple[str, ...], *, joins: bool) -> Labels:
        """Return the columns with these `names` of all tables. Raises `DataError` for a missing value."""
        return cls(tables, {split: [_target(table, name) for name in names] for split, table in tables.items()}, names, joins)

    def read(self, notes: list[str]) -> tuple[dict[str, Tensor | Words], TaskName | None]:
        """Return raw targets, and the task if it is known: numbers with a fraction, or with many values, are quantities."""
        numbers = {split: self._numbers(split) for split in self.targets}
        if len(self.names) > 1:
            return {split: self._quantities(split, one) for split, one in numbers.items()}, None
        name, words = self.names[0], self.targets["train"][0].words
        first = numbers["train"]
        if first is None:
            if len(words) > 1 and not isinstance(days(self.targets["train"][0]), str):
                raise DataError(f"The target {name} is a date.", "Predict a number or a class; a date can be learned from.")
            rows = len(self.tables["train"])
            if len(words) > _MANY_CLASSES or len(words) > max(_MANY_NUMBERS, rows / 2):
                raise DataError(
                    f"The target {name} has {len(words):,} different values in {rows:,} rows, such as '{words[0][:60]}': too many classes.",
                    "Choose another column: --target NAME",
                )
            return self._words(), None
        is_whole = bool((first == first.round()).all()) and not any("." in word or "e" in word.lower() for word in words)
        distinct = len(np.unique(first))
        if is_whole and distinct <= _MANY_NUMBERS:
            if distinct > 2:
                notes.append(f"{name} has {distinct} whole numbers, taken as classes; --task regression if they are quantities")
            if np.abs(first).max() >= _EXACT:
                return self._words(), None
            return {split: self._whole(split, self._quantities(split, one)) for split, one in numbers.items()}, None
        if is_whole:
            notes.append(f"{name} has {distinct:,} whole numbers, taken as quantities; --task single-label if they are classes")
        return {split: self._quantities(split, one) for split, one in numbers.items()}, "regression"

    def like(self, like: DataSpec) -> dict[str, Tensor | Words]:
        """Return raw targets for the task of a trained model."""
        if like.task.name != "single-label":
            return {split: self._quantities(split, self._numbers(split)) for split in self.targets}
        known = {self._plain(name): name for name in like.outputs}
        found: dict[str, Tensor | Words] = {}
        for split, values in self._as_words():
            words = [known.get(self._plain(word), word) if self.joins else word for word in values.words]
            self._check_known(split, values, words, like.outputs)
            found[split] = Words(words, _words_of(values).codes)
        return found

    def _numbers(self, split: str) -> NDArray[np.float64] | None:
        """Return all targets of a split as numbers: float64 [n, targets]; `None` if some are words."""
        found = [self._as_numbers(split, values) for values in self.targets[split]]
        columns = [numbers for numbers in found if not isinstance(numbers, str)]
        for name, numbers in zip(self.names, columns, strict=False):
            if len(infinite := np.flatnonzero(np.isinf(numbers))):
                where = self.tables[split].where(int(infinite[0]))
                raise DataError(f"{where}: the target {name} is infinite.", "Fix it, or remove that row.")
        return np.stack(columns, 1) if len(columns) == len(found) else None

    def _as_numbers(self, split: str, values: Values) -> NDArray[np.float64] | str:
        """Return a column as numbers, or its first word that is none. Of several columns, those of true and false are 1 and 0."""
        if len(self.names) > 1 and values.words and {word.lower() for word in values.words} <= {"true", "false"}:
            return np.array([float(word.lower() == "true") for word in values.words])[_words_of(values).codes]
        return values.as_numbers(comma=self.tables[split].comma)

    def _quantities(self, split: str, numbers: NDArray[np.float64] | None) -> Tensor:
        if numbers is None:
            name, word, row = next(self._strange(split))
            raise DataError(
                f"{self.tables[split].where(row)}: the target {name} is '{word}', which is not a number.",
                "Of several targets, each is 0 or 1 (a label), or a quantity." if len(self.names) > 1 else "Fix it.",
            )
        return torch.from_numpy(numbers)

    def _whole(self, split: str, numbers: Tensor) -> Tensor:
        """Return class numbers, int64 [n]."""
        if len(odd := (numbers[:, 0] != numbers[:, 0].round()).nonzero()):
            row = int(odd[0])
            raise DataError(
                f"{self.tables[split].where(row)}: the target {self.names[0]} is {float(numbers[row, 0]):g}, which training has not.",
                "Fix it, or remove that row; if these are quantities: --task regression",
            )
        return numbers[:, 0].long()

    def _strange(self, split: str) -> Iterator[tuple[str, str, int]]:
        for name, values in zip(self.names, self.targets[split], strict=True):
            word = self._as_numbers(split, values)
            if isinstance(word, str):
                yield name, word, _words_of(values).first([values.words.index(word)])

    def _words(self) -> dict[str, Tensor | Words]:
        """Return targets as words, spelled as in training where the user wants those joined that differ little."""
        found: dict[str, Tensor | Words] = {}
        spelled: dict[str, str] = {}
        for split, values in self._as_words():
            words = list(values.words)
            if self.joins:
                words = [spelled.setdefault(self._plain(word), word) for word in words]
            elif split == "train":
                self._check_alike(values)
            if split != "train":
                self._check_known(split, values, words, self.targets["train"][0].words)
            found[split] = Words(words, _words_of(values).codes)
        return found

    def _as_words(self) -> Iterator[tuple[str, Values]]:
        """Yield the only target column of each split as words."""
        for split, (values,) in self.targets.items():
            yield split, values.as_words()

    def _check_alike(self, values: Values) -> None:
        """Refuse labels of one file that differ only in how they are written."""
        seen: dict[str, str] = {}
        for word in values.words:
            other = seen.setdefault(self._plain(word), word)
            if other != word:
                raise DataError(
                    f"The target {self.names[0]} has both '{other}' and '{word}', which differ only by blanks, case or a full stop.",
                    f"If they are one class: --column {self.names[0]}={JOINED}; otherwise rename one.",
                )

    def _check_known(self, split: str, values: Values, words: Sequence[str], known: Sequence[str]) -> None:
        """Refuse labels that training has not, and say where they differ only in how they are written."""
        plain = {self._plain(name): name for name in known}
        for place, word in enumerate(words):
            if word in known:
                continue
            where = self.tables[split].where(_words_of(values).first([place]))
            if (other := plain.get(self._plain(word))) is not None:
                raise DataError(
                    f"{where}: the target {self.names[0]} is '{word}', in training '{other}': "
                    "they differ only by blanks, case or a full stop.",
                    f"If they are one class, train with --column {self.names[0]}={JOINED}; otherwise fix that file.",
                )
            raise DataError(f"{where}: the target {self.names[0]} is '{word}', which training has not.", "Fix it, or remove that row.")

    @staticmethod
    def _plain(word: str) -> str:
        return " ".join(word.casefold().split()).rstrip(". ")
