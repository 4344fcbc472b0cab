"""Tables: files, and columns in a program. One column, or several, are to be predicted; others are learned from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from epochal.data.attributes import Attributes, read_attributes
from epochal.data.examples import Found, Part
from epochal.data.inputs.table.columns import ColumnKind
from epochal.data.inputs.table.files import about_encoding
from epochal.data.inputs.table.meaning import choose_columns, is_key, meaning_of
from epochal.data.inputs.table.rule import TableRule
from epochal.data.inputs.table.values import (
    Table,
    columns_of,
    find_column,
    header_of,
    holds_table,
    names_of,
    read_table,
    title_of,
)
from epochal.data.inputs.values import subset
from epochal.data.options import ReadOptions, TableOptions
from epochal.data.sources.labels import JOINED, Labels
from epochal.data.sources.rows import Rows, grouped_by, read_groups, read_rows
from epochal.data.spec import SPLITS, DataSpec
from epochal.data.storage.fill import fill, numbered
from epochal.errors import DataError, RecipeError, suggest
from epochal.tasks.words import Words

# What --column says of columns that are learned from.
_KINDS: tuple[ColumnKind, ...] = get_args(ColumnKind)

# What y is called where it comes without a name.
_TARGET = "target"

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
        return _for_model(name, files, options, options.like)
    return _for_training(name, files, options)


def stem_of(what: Any) -> str:
    """Return the name of a table's file without its suffixes; "" for a table in a program."""
    return Path(what).name.removesuffix(".gz").rpartition(".")[0] if isinstance(what, str | Path) else ""


def splits_of(what: Any) -> dict[str, Any]:
    """Return the tables that a user passed, by split: only a mapping from split to table has several."""
    return dict(what) if isinstance(what, Mapping) and "train" in what and set(what) <= set(SPLITS) else {"train": what}


def with_targets(what: Any, options: ReadOptions) -> tuple[Any, tuple[str, ...]]:
    """Return pairs (x, y) whose `x` is a table, or an array of words and numbers, as tables with the names of their target.

    Anything else is returned as it is, without names.
    """
    splits, rule = splits_of(what), options.input if options.like is None else options.like.input
    is_other = options.table.targets or not (rule in (None, "table") or isinstance(rule, TableRule))
    if is_other or not all(isinstance(one, tuple) and len(one) == 2 and _is_frame(one[0]) for one in splits.values()):
        return what, ()
    x, y = splits["train"]
    given = getattr(y, "name", None)
    name = given if isinstance(given, str) and given not in ("", *columns_of(x)) else _TARGET
    names = rule.target if isinstance(rule, TableRule) else (name,)
    if len(names) > 1:
        raise DataError(f"The model predicts {len(names)} columns, which one y does not have.", "Pass a table with all of them.")
    return {split: {**columns_of(x), names[0]: y} for split, (x, y) in splits.items()}, names


def _is_frame(what: Any) -> bool:
    """Whether this is a table of a library, or an array [n, columns] of words and numbers."""
    return not isinstance(what, Mapping | list | tuple | str | Path) and holds_table(what)


def _for_training(name: str, files: Mapping[str, Any], options: ReadOptions) -> Found:
    train, *others = files.values()
    header = header_of((*options.table.targets, *options.table.ignore, *options.table.kinds))
    names = names_of(train, header)
    wanted = _wanted(train, names, options.table)
    rows = read_rows(train, options, wanted.target, [*files][1:], header=header)
    texts = {*wanted.target, *(column for column, kind in wanted.kinds.items() if kind in ("category", "date"))}
    numbers = {column for column, kind in wanted.kinds.items() if kind == "number"}
    whole = read_table(train, words=texts, numbers={*numbers, *wanted.target}, skip=(*wanted.ignore, *rows.columns), header=header)
    tables = rows.of(whole)
    table, groups = tables["train"], {split: rows.groups_of(split) for split in tables}
    notes = [f"{title_of(train)}: {note}" for note in about_encoding(train)]
    notes += [] if table.has_header else [f"{table.name} has no header: its columns are numbers"]
    columns, found = choose_columns(table, [column for column in table.columns if column not in wanted.target], wanted.kinds)
    if not columns:
        fix = "Add one; or say what one means: --column NAME=category"
        raise DataError(f"{title_of(train)} has no column to learn from.", "\n".join((*found, fix)))
    notes += [*found, *rows.notes]
    rule = TableRule(shape=(len(columns),), columns=columns, target=wanted.target, has_header=table.has_header, joins=wanted.joins)
    for split, file in zip([*files][1:], others, strict=True):
        notes += [f"{title_of(file)}: {note}" for note in rule.differing(file)]
        tables[split] = _with_target(rule, file)
        groups[split] = read_groups(file, rows.group, header=table.has_header)
    read_targets, task = Labels.of(tables, wanted.target, joins=wanted.joins).read(notes)
    parts = _parts(name, rule, tables, read_targets, groups, options.memory)
    known, parts = _with_attributes(files, {*names} - {*wanted.ignore}, rows, parts, notes, header)
    classes = wanted.target if task or len(wanted.target) > 1 else None
    return Found(name, parts, classes=classes, input=rule, notes=tuple(notes), task=task, listing=rows.listing, attributes=known)


def _for_model(name: str, files: Mapping[str, Any], options: ReadOptions, like: DataSpec) -> Found:
    rule = like.input
    if not isinstance(rule, TableRule):
        raise DataError(f"{title_of(files['train'])} is a table; the model takes inputs of another kind.", "Give what it was trained on.")
    notes = [note for file in files.values() for note in rule.differing(file)]
    rows = read_rows(files["train"], options, {*rule.target, *rule.names}, [*files][1:], header=rule.has_header)
    whole = {split: _with_target(rule, file) for split, file in files.items()}
    tables = whole | rows.of(whole["train"])
    targets = Labels.of(tables, rule.target, joins=rule.joins).like(like)
    parts = _parts(name, rule, tables, targets, {}, options.memory)
    used = {*rule.names, *rule.target, *grouped_by(like)}
    others, parts = _with_attributes(files, used, rows, parts, notes, rule.has_header)
    is_named = like.task.name != "single-label"
    return Found(name, parts, classes=rule.target if is_named else None, input=rule, notes=(*notes, *rows.notes), attributes=others)


def _parts(
    name: str,
    rule: TableRule,
    tables: Mapping[str, Table],
    targets: Mapping[str, Tensor | Words],
    groups: Mapping[str, Words | None],
    memory: float | None,
) -> dict[str, Part]:
    """Return the splits, whose inputs are put where there is room for them."""
    blocks = (rule.encode(block).numpy() for table in tables.values() for block in table.blocks())
    inputs = fill(numbered(blocks), (sum(map(len, tables.values())), *rule.shape), torch.float32, memory, name)
    parts, begin = {}, 0
    for split, table in tables.items():
        parts[split] = Part(subset(inputs, slice(begin, begin + len(table))), targets[split], groups=groups.get(split))
        begin += len(table)
    return parts


def _with_attributes(
    files: Mapping[str, Any], used: Collection[str], rows: Rows, parts: dict[str, Part], notes: list[str], header: bool | None
) -> tuple[Attributes, dict[str, Part]]:
    """Return the columns that are not learned from, and the splits with their values."""
    others, values = read_attributes(files, {*used, *rows.columns}, notes, header=header)
    if rows.splits is not None and values:
        values |= {split: values["train"][torch.from_numpy(places)] for split, places in rows.splits.items()}
    return others, {split: replace(part, attributes=values.get(split)) for split, part in parts.items()}


def _with_target(rule: TableRule, file: Any) -> Table:
    lacking = [name for name in rule.target if name not in rule.names_in(file)]
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
        if name in target and kind == JOINED:
            joins = True
        elif name not in target and kind in _KINDS:
            kinds[name] = kind
        else:
            allowed = (JOINED,) if name in target else _KINDS
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
