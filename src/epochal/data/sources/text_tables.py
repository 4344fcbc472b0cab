"""Texts in columns of a table: a file with a row for each example, or a table in a program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from epochal.data.examples import Found
from epochal.data.inputs.table.files import MISSING, open_table
from epochal.data.inputs.table.values import find_column, holds_table, names_of, read_table, title_of
from epochal.data.inputs.text.rule import TextRule
from epochal.data.options import ReadOptions, TableOptions
from epochal.data.sources.rows import read_groups, read_rows
from epochal.data.sources.table import splits_of, stem_of
from epochal.data.sources.texts import Texts, as_targets, found_texts
from epochal.data.storage.archives import is_archive
from epochal.errors import DataError


def has_texts(what: Any, options: ReadOptions) -> bool:
    """Whether `what` is a table with texts in columns that the user named, or that a model was trained on."""
    known = None if options.like is None else options.like.input
    if not (options.table.texts or (isinstance(known, TextRule) and known.columns)):
        return False
    if isinstance(what, str | Path):
        path = Path(what).expanduser()
        return path.is_file() and not is_archive(path)
    return holds_table(splits_of(what)["train"])


def read(what: Any, options: ReadOptions) -> Found:
    """Read the columns that `options.table` names as texts and targets, from a table and those of further splits. Raises `DataError`."""
    asked = options.table
    if options.like is not None and isinstance(rule := options.like.input, TextRule):
        asked = replace(asked, texts=asked.texts or rule.columns, targets=asked.targets or (rule.target,) * bool(rule.target))
    tables = splits_of(Path(what).expanduser() if isinstance(what, str | Path) else what)
    tables |= {split: Path(file) for split, file in (("valid", asked.valid), ("test", asked.test)) if file is not None}
    first = tables["train"]
    if len(asked.targets) != 1:
        listed = ", ".join(names_of(first)[:12])
        raise DataError(
            f"{title_of(first)}: texts have one target column, not {len(asked.targets)}.",
            f"Name it: --target COLUMN. There are the columns {listed}.",
        )
    notes: list[str] = []
    taken = [find_column(name, names_of(first), first) for name in (*asked.texts, *asked.targets)]
    rows = read_rows(first, options, taken, [*tables][1:])
    parts = {split: _read(table, asked, notes) for split, table in tables.items()}
    groups = {split: rows.groups if split == "train" else read_groups(table, rows.group) for split, table in tables.items()}
    parts = {split: replace(part, groups=groups[split]) for split, part in parts.items()}
    if rows.splits is not None:
        parts |= {split: parts["train"].take(places.tolist()) for split, places in rows.splits.items()}
    if options.exclusion.names:
        options.exclusion.check((name for part in parts.values() for name in part.names or ()), title_of(first))
        parts = {split: part.without(options.exclusion, split) for split, part in parts.items()}
    # Whether targets are numbers is decided for all splits together.
    everything, begin = as_targets([word for part in parts.values() for word in part.targets if isinstance(word, str)]), 0
    for split, part in parts.items():
        end = begin + len(part.texts)
        parts[split] = replace(part, targets=everything[begin:end])
        begin = end
    found = found_texts(stem_of(first) or "texts", parts, options, notes=(*notes, *rows.notes))
    if options.like is not None or found.input is None:
        return found
    *columns, target = taken
    rule = found.input.model_copy(update={"columns": tuple(columns), "target": target})
    return replace(found, input=rule, listing=rows.listing)


def _read(what: Any, asked: TableOptions, notes: list[str]) -> Texts:
    names = names_of(what)
    columns, target = [find_column(name, names, what) for name in asked.texts], find_column(asked.targets[0], names, what)
    if target in columns:
        raise DataError(f"{title_of(what)}: the column '{target}' is both text and target.", "Name another as --target.")
    cells, lines = _cells(what, names, [*columns, target], notes)
    named = [f"row {row}" for row in range(len(cells))] if lines is None else [f"line {line:,}" for line in lines]
    for row, where in zip(cells, named, strict=True):
        if row[-1].strip() in MISSING:
            raise DataError(f"{title_of(what)}, {where}: the target is missing.", "Fill it in, or remove that line.")
    if not cells:
        raise DataError(f"{title_of(what)} has no rows.", "Give a row for each example.")
    files = [f"{Path(what).name}:{line}" for line in lines] if lines is not None else None
    return Texts([" ".join(row[:-1]) for row in cells], [row[-1].strip() for row in cells], files)


def _cells(what: Any, names: Sequence[str], columns: Sequence[str], notes: list[str]) -> tuple[list[list[str]], list[int] | None]:
    """Return the cells of some columns by row, and the lines of the file, if it is a text file."""
    if not isinstance(what, str | Path) or Path(what).suffix.lower() == ".parquet":
        values = [read_table(what, words=columns, skip=set(names) - {*columns}).columns[name].as_words() for name in columns]
        found = [["" if code < 0 else one.words[code] for code in one.codes.tolist()] for one in values if one.codes is not None]
        return [list(row) for row in zip(*found, strict=True)], None
    file = open_table(Path(what))
    if not file.has_header:
        notes.append(f"{file.path.name} has no header: its columns are numbers")
    places = [names.index(name) for name in columns]
    cells, lines = list[list[str]](), list[int]()
    for chunk in file.chunks():
        cells += [[row[place] for place in places] for row in chunk.rows]
        lines += chunk.lines
    return cells, lines
