"""Texts in columns of a table: a file with a row for each example, or a table in a program."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from epochal.data.attributes import read_attributes
from epochal.data.examples import Found
from epochal.data.inputs.table.files import MISSING, about_encoding
from epochal.data.inputs.table.values import find_column, has_header, header_of, holds_table, names_of, rows_of, title_of
from epochal.data.inputs.text.rule import TextRule
from epochal.data.options import ReadOptions, TableOptions
from epochal.data.sources.rows import grouped_by, read_groups, read_rows
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
    notes = [f"{title_of(table)}: {note}" for table in tables.values() for note in about_encoding(table)]
    # Files of further splits have a header if the first has one; those for a model, if those of training had one.
    named = header_of((*asked.texts, *asked.targets))
    header = named if named is not None else options.like is None and has_header(first)
    taken = [find_column(name, names_of(first, header), first) for name in (*asked.texts, *asked.targets)]
    rows = read_rows(first, options, taken, [*tables][1:], header=header)
    parts = {split: _read(table, asked, notes, header=header) for split, table in tables.items()}
    groups = {split: rows.groups if split == "train" else read_groups(table, rows.group, header=header) for split, table in tables.items()}
    others, values = read_attributes(tables, {*taken, *rows.columns, *grouped_by(options.like)}, notes, header=header)
    parts = {split: replace(part, groups=groups[split], attributes=values.get(split)) for split, part in parts.items()}
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
    found = replace(found_texts(stem_of(first) or "texts", parts, options, notes=(*notes, *rows.notes)), attributes=others)
    if options.like is not None or found.input is None:
        return found
    *columns, target = taken
    rule = found.input.model_copy(update={"columns": tuple(columns), "target": target})
    return replace(found, input=rule, listing=rows.listing)


def _read(what: Any, asked: TableOptions, notes: list[str], *, header: bool) -> Texts:
    names = names_of(what, header)
    columns, target = [find_column(name, names, what) for name in asked.texts], find_column(asked.targets[0], names, what)
    if target in columns:
        raise DataError(f"{title_of(what)}: the column '{target}' is both text and target.", "Name another as --target.")
    cells, lines = rows_of(what, [*columns, target], header=header)
    if lines is not None and not header:
        notes.append(f"{Path(what).name} has no header: its columns are numbers")
    named = [f"row {row}" for row in range(len(cells))] if lines is None else [f"line {line:,}" for line in lines]
    for row, where in zip(cells, named, strict=True):
        if row[-1].strip() in MISSING:
            raise DataError(f"{title_of(what)}, {where}: the target is missing.", "Fill it in, or remove that line.")
    if not cells:
        raise DataError(f"{title_of(what)} has no rows.", "Give a row for each example.")
    files = [f"{Path(what).name}:{line}" for line in lines] if lines is not None else None
    return Texts([" ".join(row[:-1]) for row in cells], [row[-1].strip() for row in cells], files)
