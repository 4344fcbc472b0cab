"""Tables in text files, row by row: separated values (CSV, TSV, ;), also compressed, and JSON lines.

Nothing is guessed from a file's name: the separator, quotes and a header are found in its beginning.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from epochal.data.storage.cache import signature
from epochal.errors import DataError
from epochal.io.safe_read import PIECE, Unpacked

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")

# How many rows are read at a time: few enough to stay in caches, which makes reading twice as fast as 20,000 do.
CHUNK = 1000

# More columns are more likely rows and columns swapped, or another format.
MAX_COLUMNS = 20_000

# What stands for a missing value.
MISSING = frozenset(("", "?", "NA", "N/A", "n/a", "#N/A", "nan", "NaN", "NAN", "null", "NULL", "None", "<NA>", "NaT"))

# The beginning of a file, in which its format is recognised: characters and rows.
_SAMPLE = 1 << 18
_SAMPLE_ROWS = 200

_SEPARATORS = (",", ";", "\t", "|")
_ICONV = "iconv -f GB18030 -t UTF-8 for Chinese, -f CP1252 for western languages"
_SAVE = "Save it as CSV in UTF-8, with the same number of values in each row."


class Chunk(NamedTuple):
    """Consecutive rows, and the line of the file on which each begins."""

    rows: list[list[str]]
    lines: list[int]


class _Form(NamedTuple):
    """How values are separated, and whether quotes have a meaning."""

    separator: str
    quoting: int


@dataclass(frozen=True)
class TableFile:
    """A table in a text file: the names of its columns, which are numbers where there is no header."""

    path: Path
    names: tuple[str, ...]
    has_header: bool
    encoding: str
    form: _Form | None = None

    @property
    def has_decimal_comma(self) -> bool:
        """Whether commas may stand for decimal points, because something else separates values."""
        return self.form is not None and self.form.separator != ","

    def chunks(self) -> Iterator[Chunk]:
        """Yield the rows of the file. Raises `DataError` that names the line of a row with more or fewer values."""
        with _opened(self.path, self.encoding) as text:
            rows = _json_rows(text, self.names, self.path) if self.form is None else self._rows(text, self.form)
            chunk = Chunk([], [])
            for row, line in rows:
                chunk.rows.append(row)
                chunk.lines.append(line)
                if len(chunk.rows) == CHUNK:
                    yield chunk
                    chunk = Chunk([], [])
            if chunk.rows:
                yield chunk

    def _rows(self, text: io.TextIOBase, form: _Form) -> Iterator[tuple[list[str], int]]:
        reader, width, is_header = _reader(text, form), len(self.names), self.has_header
        line = 1
        try:
            for row in reader:
                if is_header and row:
                    is_header = False
                elif len(row) == width:
                    yield row, line
                elif row:
                    raise DataError(f"{self.path}, line {line}: the row has {len(row):,} values; there are {width:,} columns.", _SAVE)
                line = reader.line_num + 1
        except csv.Error as error:
            raise DataError(f"{self.path}, line {line}: {error}.", f"Is a quote not closed? {_SAVE}") from error
        except UnicodeDecodeError as error:
            raise _not_text(self.path, self.encoding) from error


def is_table(path: Path) -> bool:
    """Whether a path is named like a table."""
    name = path.name.lower()
    return name.endswith(SUFFIXES) or name.removesuffix(".gz").endswith(SUFFIXES[:-1])


def open_table(path: Path) -> TableFile:
    """Recognise the form of a text file with a table. Raises `DataError`."""
    try:
        return _recognised(path, signature(path.stat()))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", "Check the file.") from error


@lru_cache(maxsize=16)
def _recognised(path: Path, _: tuple[int, ...]) -> TableFile:
    encoding = _encoding(path)
    try:
        with _opened(path, encoding) as text:
            if path.name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson")):
                return TableFile(path, _json_names(text, path), has_header=True, encoding=encoding)
            sample = text.read(_SAMPLE)
            is_whole = not text.read(1)
    except UnicodeDecodeError as error:
        raise _not_text(path, encoding) from error
    if not sample.strip():
        raise DataError(f"{path} is empty.", "Give a table with a row for each example.")
    form = _form(sample, is_whole=is_whole, prefers_tab=".tsv" in path.name.lower())
    rows = _parse(sample, form, is_whole=is_whole)
    if not rows:
        raise DataError(f"{path}, line 1: a quote is not closed, or a value has more than {csv.field_size_limit():,} characters.", _SAVE)
    width = len(rows[0])
    if width > MAX_COLUMNS:
        raise DataError(f"{path} has {width:,} columns, more than {MAX_COLUMNS:,}.", "Leave some out.")
    first = [cell.strip() for cell in rows[0]]
    has_header = _is_header(first, rows[1:])
    if has_header:
        twice = next((name for name, number in Counter(first).items() if number > 1), None)
        if twice is not None:
            raise DataError(f"{path}, line 1: two columns are named '{twice}'.", "Give each column a name of its own.")
    names = tuple(name or str(place) for place, name in enumerate(first)) if has_header else tuple(map(str, range(width)))
    return TableFile(path, names, has_header, encoding, form)


def _not_text(path: Path, encoding: str) -> DataError:
    """Return the error for a file that is not in its encoding, with the first line that is not."""
    line = 1
    with suppress(OSError, ValueError), Unpacked(path) as raw, io.BufferedReader(raw, PIECE) as content:
        for bare in content if encoding != "utf-16" else ():
            bare.decode(encoding)
            line += 1
    name = encoding.removesuffix("-sig").upper()
    return DataError(
        f"{path}, line {line:,}: it is not text in {name}.", f"Save the file as UTF-8 ({_ICONV}), with a row for each example."
    )


@contextmanager
def _opened(path: Path, encoding: str) -> Iterator[io.TextIOBase]:
    """Open a text file, compressed or not, and name it in errors of reading."""
    try:
        with Unpacked(path) as raw, io.TextIOWrapper(io.BufferedReader(raw, PIECE), encoding, newline="") as text:
            yield text
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.", "Check the file.") from error
    except UnicodeDecodeError:
        raise
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {error}.", "Copy the file again.") from error


def _encoding(path: Path) -> str:
    try:
        with Unpacked(path) as raw:
            start = raw.upto(2)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}.", "Check the file.") from error
    return "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _reader(text: Any, form: _Form) -> Any:
    return csv.reader(text, delimiter=form.separator, quoting=form.quoting, skipinitialspace=form.separator != "\t", strict=True)  # type: ignore[arg-type]


def _parse(sample: str, form: _Form, *, is_whole: bool) -> list[list[str]]:
    """Return the rows at the beginning of a file; the last of an incomplete sample is left out."""
    rows: list[list[str]] = []
    reader = _reader(io.StringIO(sample, newline=""), form)
    try:
        for row in reader:
            if row:
                rows.append(row)
            if len(rows) > _SAMPLE_ROWS:
                return rows
    except csv.Error:
        return rows
    return rows if is_whole else rows[:-1]


def _form(sample: str, *, is_whole: bool, prefers_tab: bool) -> _Form:
    """Return the form by which most rows have the same number of values, more than one if possible."""
    best, form = (-1.0, 0), _Form(",", csv.QUOTE_MINIMAL)
    separators = ("\t", *_SEPARATORS) if prefers_tab else _SEPARATORS
    lines = sample.count("\n") + 1
    for separator in separators:
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
            rows = _parse(sample, _Form(separator, quoting), is_whole=is_whole)
            width, same = Counter(map(len, rows)).most_common(1)[0] if rows else (1, 0)
            # Where quotes have no meaning, one that is closed must not be needed.
            is_odd = quoting == csv.QUOTE_NONE and separator != "\t"
            # Rows are lost where a quote is never closed.
            read = len(rows) if len(rows) > _SAMPLE_ROWS else min(lines, len(rows) + sum(cell.count("\n") for row in rows for cell in row))
            score = (0.0 if width == 1 or is_odd else same / max(1, len(rows)) * (read > 1), read)
            if (score[0] > best[0] + 0.05) or (
                quoting == csv.QUOTE_NONE and separator == form.separator and score > (best[0], 2 * best[1])
            ):
                best, form = score, _Form(separator, quoting)
    return form


def _is_header(first: list[str], others: list[list[str]]) -> bool:
    """Whether the first row has the names of columns: words all different, above numbers or words that are not among them."""
    if any(_is_number(cell) for cell in first) or sum(cell in MISSING for cell in first) > 1:
        return False
    columns = [column for column in zip(*others, strict=False) if column]
    if any(all(_is_number(cell) or cell.strip() in MISSING for cell in column) for column in columns):
        return True
    return not any(name in {cell.strip() for cell in column} for name, column in zip(first, columns, strict=False))


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return cell.strip() not in MISSING


def _json_names(text: io.TextIOBase, path: Path) -> tuple[str, ...]:
    """Return the names in all objects, in the order in which they come."""
    names: dict[str, None] = {}
    for found, _ in _objects(text, path):
        names.update(dict.fromkeys(found))
        if len(names) > MAX_COLUMNS:
            raise DataError(f"{path} has more than {MAX_COLUMNS:,} columns.", "Leave some out.")
    if not names:
        raise DataError(f"{path} is empty.", "Give a table with a row for each example.")
    return tuple(names)


def _json_rows(text: io.TextIOBase, names: tuple[str, ...], path: Path) -> Iterator[tuple[list[str], int]]:
    for found, line in _objects(text, path):
        row = [found.get(name, "") for name in names]
        if any(isinstance(value, list | dict) for value in row):
            raise DataError(f"{path}, line {line}: a value is a list or an object.", "Give each line as an object of numbers and words.")
        yield ["" if value is None else str(value) for value in row], line


def _objects(text: io.TextIOBase, path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    line = 0
    try:
        for line, content in enumerate(text, start=1):
            if not content.strip():
                continue
            found = json.loads(content, parse_int=str, parse_float=str)
            if not isinstance(found, dict):
                raise DataError(f"{path}, line {line}: it is not an object.", 'Write an object on each line: {"age": 39, "sex": "F"}')
            yield found, line
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8, after line {line:,}.", "Save it in UTF-8.") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path}, line {line}: {error}.", 'Write an object on each line: {"age": 39, "sex": "F"}') from error
