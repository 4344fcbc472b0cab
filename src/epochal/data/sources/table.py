"""Tables: files, and columns in a program. One column, or several, are to be predicted; others are learned from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from epochal.data.examples import Found, Part
from epochal.data.inputs.table.columns import ColumnKind
from epochal.data.inputs.table.dates import days
from epochal.data.inputs.table.meaning import choose_columns, is_key, meaning_of
from epochal.data.inputs.table.rule import TableRule
from epochal.data.inputs.table.values import Table, Values, find_column, names_of, read_table, title_of
from epochal.data.inputs.values import subset
from epochal.data.options import ReadOptions, TableOptions
from epochal.data.spec import SPLITS, DataSpec
from epochal.data.storage.fill import fill, numbered
from epochal.errors import DataError, RecipeError, suggest
from epochal.tasks.base import TaskName

# What --column says of columns that are learned from, and of the target.
_KINDS: tuple[ColumnKind, ...] = get_args(ColumnKind)
_JOINED = "joined"

# Whole numbers with more distinct values than this are quantities rather than classes, unless the user says otherwise.
_MANY_NUMBERS = 20

# More classes than this are more likely identifiers or text.
_MANY_CLASSES = 1000

# How many candidates for the target are listed.
_LISTED = 12


@dataclass(frozen=True)
class _Wanted:
    """What the user wants of the columns, by their names."""

    target: tuple[str, ...]
    ignore: tuple[str, ...]
    kinds: Mapping[str, ColumnKind]
    joins: bool


def read(what: Any, options: ReadOptions) -> Found:
    """Read a table for training; or with `options.like`, for a trained model.

    `what` is a file, a table in a program, or a mapping from split to these. Raises `DataError`.
    """
    files = splits_of(what)
    files |= {name: path for name, path in (("valid", options.table.valid), ("test", options.table.test)) if path is not None}
    first = files["train"]
    name = stem_of(first) or "table"
    if options.like is not None:
        return _for_model(name, files, options.like, options.memory)
    return _for_training(name, files, options.table, options.memory)


def stem_of(what: Any) -> str:
    """Return the name of a table's file without its suffixes; "" for a table in a program."""
    return Path(what).name.removesuffix(".gz").rpartition(".")[0] if isinstance(what, str | Path) else ""


def splits_of(what: Any) -> dict[str, Any]:
    """Return the tables that a user passed, by split: only a mapping from split to table has several."""
    return dict(what) if isinstance(what, Mapping) and "train" in what and set(what) <= set(SPLITS) else {"train": what}


def _for_training(name: str, files: Mapping[str, Any], options: TableOptions, memory: float | None) -> Found:
    train = files["train"]
    names = names_of(train)
    wanted = _wanted(train, names, options)
    texts = {*wanted.target, *(column for column, kind in wanted.kinds.items() if kind in ("category", "date"))}
    numbers = {column for column, kind in wanted.kinds.items() if kind == "number"}
    table = read_table(train, words=texts, numbers=numbers, skip=wanted.ignore)
    notes: list[str] = [] if table.has_header else [f"{table.name} has no header: columns are called 0 to {len(names) - 1}"]
    columns, found = choose_columns(table, [column for column in table.columns if column not in wanted.target], wanted.kinds)
    if not columns:
        raise DataError(f"{title_of(train)} has no column to learn from.", "Add one; or say what one means: --column NAME=category")
    notes += found
    rule = TableRule(shape=(len(columns),), columns=columns, target=wanted.target, has_header=table.has_header, joins=wanted.joins)
    tables = {"train": table}
    for split, file in files.items():
        if split != "train":
            notes += [f"{title_of(file)}: {note}" for note in rule.differing(names_of(file), title_of(file))]
            tables[split] = _with_target(rule, file)
    targets = {split: [_target(one, column) for column in wanted.target] for split, one in tables.items()}
    labels = _Labels(tables, targets, wanted.target, joins=wanted.joins)
    read_targets, task = labels.read(notes)
    parts = _parts(name, rule, tables, read_targets, memory)
    return Found(name, parts, classes=wanted.target if task or len(wanted.target) > 1 else None, input=rule, notes=tuple(notes), task=task)


def _for_model(name: str, files: Mapping[str, Any], like: DataSpec, memory: float | None) -> Found:
    rule = like.input
    if not isinstance(rule, TableRule):
        raise DataError(f"{title_of(files['train'])} is a table; the model takes inputs of another kind.", "Give what it was trained on.")
    notes = [note for file in files.values() for note in rule.differing(names_of(file), title_of(file))]
    tables = {split: _with_target(rule, file) for split, file in files.items()}
    targets = {split: [_target(one, column) for column in rule.target] for split, one in tables.items()}
    labels = _Labels(tables, targets, rule.target, joins=rule.joins)
    parts = _parts(name, rule, tables, labels.like(like), memory)
    is_named = like.task.name != "single-label"
    return Found(name, parts, classes=rule.target if is_named else None, input=rule, notes=tuple(notes))


def _parts(
    name: str, rule: TableRule, tables: Mapping[str, Table], targets: Mapping[str, Tensor | list[str]], memory: float | None
) -> dict[str, Part]:
    """Return the splits, whose inputs are put where there is room for them."""
    blocks = (rule.encode(block).numpy() for table in tables.values() for block in table.blocks())
    inputs = fill(numbered(blocks), (sum(map(len, tables.values())), *rule.shape), torch.float32, memory, name)
    parts, begin = {}, 0
    for split, table in tables.items():
        parts[split] = Part(subset(inputs, slice(begin, begin + len(table))), targets[split])
        begin += len(table)
    return parts


def _with_target(rule: TableRule, file: Any) -> Table:
    lacking = [name for name in rule.target if name not in names_of(file)]
    if lacking:
        raise DataError(f"{title_of(file)} has no column '{lacking[0]}', the target.", "Give a table with the true answers.")
    return rule.read_table(file, rule.target)


def _wanted(what: Any, names: Sequence[str], options: TableOptions) -> _Wanted:
    """Find the columns that the user named or numbered. Raises `DataError` for others, and if there is no target."""
    if not options.targets:
        raise DataError(
            f"{title_of(what)} has {len(names)} columns: which is to be predicted?", f"Say so: --target NAME. {_candidates(what)}"
        )
    target = tuple(find_column(name, names, what) for name in options.targets)
    ignore = tuple(find_column(name, names, what) for name in options.ignore)
    kinds: dict[str, ColumnKind] = {}
    joins = False
    for given, kind in options.kinds.items():
        name = find_column(given, names, what)
        if name in target and kind == _JOINED:
            joins = True
        elif name not in target and kind in _KINDS:
            kinds[name] = kind
        else:
            allowed = (_JOINED,) if name in target else _KINDS
            raise RecipeError(f"The setting data.columns has {name} = {kind}, which is not {' or '.join(allowed)}.", suggest(kind, allowed))
    if both := [name for name in ignore if name in target]:
        raise RecipeError(f"The column {both[0]} is the target, and is to be ignored.", "Choose one.")
    return _Wanted(target, ignore, kinds, joins)


def _candidates(what: Any) -> str:
    """List the columns that may be a target, the last first."""
    table = read_table(what)
    found = []
    for name, values in reversed(list(table.columns.items())):
        meaning = meaning_of(name, values)
        if meaning in ("number", "category") and not is_key(name):
            words = values.as_words().words
            found.append(f"{name} ({len(words)} values)" if len(words) > 3 else f"{name} ({', '.join(words)})")
    return f"Candidates: {', '.join(found[:_LISTED])}{', ...' * (len(found) > _LISTED)}."


def _target(table: Table, name: str) -> Values:
    """Return the values of a target, none of them missing."""
    values = table.columns[name].as_words()
    missing = np.flatnonzero(values.missing)
    if len(missing):
        raise DataError(
            f"{table.where(int(missing[0]))}: the target {name} is missing, there and in {len(missing) - 1:,} other rows.",
            "Fill it in, or remove these rows.",
        )
    return values


@dataclass(frozen=True)
class _Labels:
    """The targets of all splits, as words."""

    tables: Mapping[str, Table]
    targets: Mapping[str, list[Values]]
    names: tuple[str, ...]
    joins: bool

    def read(self, notes: list[str]) -> tuple[dict[str, Tensor | list[str]], TaskName | None]:
        """Return raw targets, and the task if it is known: numbers with a fraction, or with many values, are quantities."""
        numbers = {split: self._numbers(split) for split in self.targets}
        if len(self.names) > 1:
            return {split: self._quantities(split, one) for split, one in numbers.items()}, None
        name, words = self.names[0], self.targets["train"][0].words
        first = numbers["train"]
        if first is None:
            if self.tables["train"].has_header and len(words) > 1 and not isinstance(days(self.targets["train"][0]), str):
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
            return {split: torch.from_numpy(self._quantities(split, one).long().numpy()[:, 0]) for split, one in numbers.items()}, None
        if is_whole:
            notes.append(f"{name} has {distinct:,} whole numbers, taken as quantities; --task single-label if they are classes")
        return {split: self._quantities(split, one) for split, one in numbers.items()}, "regression"

    def like(self, like: DataSpec) -> dict[str, Tensor | list[str]]:
        """Return raw targets for the task of a trained model."""
        if like.task.name != "single-label":
            return {split: self._quantities(split, self._numbers(split)) for split in self.targets}
        known = {self._plain(name): name for name in like.outputs}
        found: dict[str, Tensor | list[str]] = {}
        for split, (values,) in self.targets.items():
            words = [known.get(self._plain(word), word) if self.joins else word for word in values.words]
            self._check_known(split, values, words, like.outputs)
            found[split] = [words[code] for code in self._codes(values)]
        return found

    def _numbers(self, split: str) -> np.ndarray[Any, Any] | None:
        """Return all targets of a split as numbers: float64 [n, targets]; `None` if some are words."""
        found = [values.as_numbers(comma=self.tables[split].comma) for values in self.targets[split]]
        columns = [numbers for numbers in found if not isinstance(numbers, str)]
        return np.stack(columns, 1) if len(columns) == len(found) else None

    def _quantities(self, split: str, numbers: np.ndarray[Any, Any] | None) -> Tensor:
        if numbers is None:
            name, word, row = next(self._strange(split))
            raise DataError(f"{self.tables[split].where(row)}: the target {name} is '{word}', which is not a number.", "Fix it.")
        return torch.from_numpy(numbers)

    def _strange(self, split: str) -> Iterator[tuple[str, str, int]]:
        for name, values in zip(self.names, self.targets[split], strict=True):
            word = values.as_numbers(comma=self.tables[split].comma)
            if isinstance(word, str):
                yield name, word, self._codes(values).index(values.words.index(word))

    def _words(self) -> dict[str, Tensor | list[str]]:
        """Return targets as words, spelled as in training where the user wants those joined that differ little."""
        found: dict[str, Tensor | list[str]] = {}
        spelled: dict[str, str] = {}
        for split, (values,) in self.targets.items():
            words = list(values.words)
            if self.joins:
                words = [spelled.setdefault(self._plain(word), word) for word in words]
            elif split == "train":
                self._check_alike(values)
            if split != "train":
                self._check_known(split, values, words, self.targets["train"][0].words)
            found[split] = [words[code] for code in self._codes(values)]
        return found

    def _check_alike(self, values: Values) -> None:
        """Refuse labels of one file that differ only in how they are written."""
        seen: dict[str, str] = {}
        for word in values.words:
            other = seen.setdefault(self._plain(word), word)
            if other != word:
                raise DataError(
                    f"The target {self.names[0]} has both '{other}' and '{word}', which differ only by blanks, case or a full stop.",
                    f"If they are one class: --column {self.names[0]}={_JOINED}; otherwise rename one.",
                )

    def _check_known(self, split: str, values: Values, words: Sequence[str], known: Sequence[str]) -> None:
        """Refuse labels that training has not, and say where they differ only in how they are written."""
        plain = {self._plain(name): name for name in known}
        for place, word in enumerate(words):
            if word in known:
                continue
            where = self.tables[split].where(self._codes(values).index(place))
            if (other := plain.get(self._plain(word))) is not None:
                raise DataError(
                    f"{where}: the target {self.names[0]} is '{word}', in training '{other}': "
                    "they differ only by blanks, case or a full stop.",
                    f"If they are one class, train with --column {self.names[0]}={_JOINED}; otherwise fix that file.",
                )
            raise DataError(f"{where}: the target {self.names[0]} is '{word}', which training has not.", "Fix it, or remove that row.")

    @staticmethod
    def _codes(values: Values) -> list[int]:
        assert values.codes is not None
        codes: list[int] = values.codes.tolist()
        return codes

    @staticmethod
    def _plain(word: str) -> str:
        return " ".join(word.casefold().split()).rstrip(". ")
