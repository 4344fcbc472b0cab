"""Columns of text in a file with a row for each example: separated by tabs, commas or semicolons, with or without a header."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from epochal.data.examples import Found
from epochal.data.inputs.text.read import decoded
from epochal.data.inputs.text.rule import TextRule
from epochal.data.options import ReadOptions, TableOptions
from epochal.data.sources.texts import Texts, as_targets, found_texts
from epochal.data.storage.archives import is_archive
from epochal.errors import DataError, suggest
from epochal.io.safe_read import open_file

# The most bytes of a file.
MAX_BYTES = 2_000_000_000


class _Table(NamedTuple):
    """The columns of a file by number: their names, if there is a header; and the rows with the line on which each ends."""

    path: Path
    names: list[str] | None
    rows: list[list[str]]
    lines: list[int]

    def place(self, column: str) -> int:
        """Return the number of a column from 0, by its name, or by its number, negative from the end. Raises `DataError`."""
        width = len(self.rows[0])
        if self.names is not None and column in self.names:
            return self.names.index(column)
        if column.lstrip("-").isdigit() and -width <= int(column) < width:
            return int(column) % width
        known = self.names or [str(number) for number in range(width)]
        header = "" if self.names else f" It has {width} columns and no header: they are numbered from 0; -1 is the last."
        raise DataError(f"{self.path} has no column '{column}'.{header}", suggest(column, known))


def has_texts(path: Path, options: ReadOptions) -> bool:
    """Whether a path is a file with texts in columns that the user named, or that a model was trained on."""
    known = None if options.like is None else options.like.input
    named = options.table.texts or (isinstance(known, TextRule) and known.columns)
    return bool(named) and path.is_file() and not is_archive(path)


def read(path: Path, options: ReadOptions) -> Found:
    """Read the columns that `options.table` names as texts and targets, from a file and those of further splits. Raises `DataError`."""
    asked = options.table
    if options.like is not None and isinstance(rule := options.like.input, TextRule):
        # What the user names is another name for the same.
        asked = replace(asked, texts=asked.texts or rule.columns, targets=asked.targets or (rule.target,) * bool(rule.target))
    if len(asked.targets) != 1:
        raise DataError(f"{path}: texts have one target column, not {len(asked.targets)}.", "Name it: --target COLUMN, by name or number.")
    files = {"train": path, "valid": asked.valid, "test": asked.test}
    notes: list[str] = []
    parts = {split: _read(Path(file).expanduser(), asked, notes) for split, file in files.items() if file is not None}
    if options.exclusion.names:
        options.exclusion.check((name for part in parts.values() for name in part.names or ()), str(path))
        parts = {split: part.without(options.exclusion, split) for split, part in parts.items()}
    everything = as_targets([word for part in parts.values() for word in part.targets if isinstance(word, str)])
    begin = 0
    for split, part in parts.items():
        end = begin + len(part.texts)
        parts[split] = Texts(part.texts, everything[begin:end], part.names)
        begin = end
    found = found_texts(path.stem, parts, options, notes=notes)
    assert isinstance(found.input, TextRule)
    if options.like is not None:
        return found
    return replace(found, input=found.input.model_copy(update={"columns": asked.texts, "target": asked.targets[0]}))


def _read(path: Path, asked: TableOptions, notes: list[str]) -> Texts:
    table = _parsed(path, asked.targets[0])
    if table.names is None:
        notes.append(f"{path.name} has no header: its columns are numbers")
    columns, target = [table.place(column) for column in asked.texts], table.place(asked.targets[0])
    if target in columns:
        raise DataError(f"{path}: the column '{asked.targets[0]}' is both text and target.", "Name another as --target.")
    for row, line in zip(table.rows, table.lines, strict=True):
        if not row[target].strip():
            raise DataError(f"{path}, line {line:,}: the target is missing.", "Fill it in, or remove that line.")
    texts = [" ".join(row[column] for column in columns) for row in table.rows]
    return Texts(texts, [row[target].strip() for row in table.rows], [f"{path.name}:{line}" for line in table.lines])


def _parsed(path: Path, target: str) -> _Table:
    """Read the rows of a file, all with the same number of values."""
    try:
        with open_file(path) as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.", "Check the path.") from error
    if len(content) > MAX_BYTES:
        raise DataError(f"{path} is larger than {MAX_BYTES / 1e9:g} GB.", "Split it.")
    text = decoded(content, str(path))
    separator = _separator(text)
    quoting = csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, quoting=quoting)  # type: ignore[arg-type]
    rows, lines = list[list[str]](), list[int]()
    try:
        for row in reader:
            if not row:
                continue
            if rows and len(row) != len(rows[0]):
                raise DataError(
                    f"{path}, line {reader.line_num:,}: {len(row)} values, while the first line has {len(rows[0])}.",
                    "Fix that line: a value with a separator in it takes quotes.",
                )
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num:,}: {error}.", "Fix that line.") from error
    if not rows:
        raise DataError(f"{path} is empty.", "Give a file with a row for each example.")
    table = _Table(path, [name.strip() for name in rows[0]], rows, lines)
    if _has_header(table, target):
        table = table._replace(rows=rows[1:], lines=lines[1:])
        if not table.rows:
            raise DataError(f"{path} has a header, but no rows.", "Give a file with a row for each example.")
        return table
    return table._replace(names=None)


def _has_header(table: _Table, target: str) -> bool:
    """Whether the first row has names: if the target has one, or else if its value there is no number and in no other row."""
    assert table.names is not None
    if not target.lstrip("-").isdigit():
        return True
    values = [row[table._replace(names=None).place(target)].strip() for row in table.rows]
    return isinstance(as_targets(values[:1]), list) and values[0] not in set(values[1:])


def _separator(text: str) -> str:
    """Return what separates the values of the first line."""
    first = text.lstrip("\n").split("\n", 1)[0]
    return "\t" if "\t" in first else max(",;", key=first.count)
