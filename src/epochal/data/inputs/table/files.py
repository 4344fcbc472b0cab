"""Tables in text files, row by row: separated values (CSV, TSV, ;), also compressed, and JSON lines.

Nothing is guessed from a file's name: the separator, quotes and a header are found in its beginning.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from epochal.data.inputs.table.encoding import Encoding, encoding_of
from epochal.data.inputs.table.title import refuse_title
from epochal.data.storage.cache import signature
from epochal.errors import DataError
from epochal.io.safe_read import PIECE, Unpacked
from epochal.shown import are, counted

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")

# How many rows are read at a time: few enough to stay in caches, which makes reading twice as fast as 20,000 do. Of wide tables fewer:
# so many values.
CHUNK = 1000
_VALUES = 1_000_000

# The most characters of a row.
MAX_ROW = 1 << 22

# More columns are more likely rows and columns swapped, or another format.
MAX_COLUMNS = 20_000

# What stands for a missing value.
MISSING = frozenset(("", "?", "NA", "N/A", "n/a", "#N/A", "nan", "NaN", "NAN", "null", "NULL", "None", "<NA>", "NaT"))

# The beginning of a file, in which its format is recognised: characters and rows. It has at least the first two lines.
_SAMPLE = 1 << 18
_SAMPLE_ROWS = 200

# Objects whose names are mostly those of others would take far more memory than their file: these many values for each that is given.
_SPARSE, _FEW_VALUES = 1000, 1_000_000

_SEPARATORS = (",", ";", "\t", "|")
_ICONV = "iconv -f GB18030 -t UTF-8 for Chinese, -f CP1252 for western languages"
_WORKBOOK = "Save the sheet as CSV UTF-8; or in Python, pass pandas.read_excel(PATH) and the target's name."
_FRAME = "Save it as CSV; or in Python, read it with pandas, and pass the table and the target's name."

# Tables in other formats: by suffix, and by what their content begins with.
_OTHERS = {
    **dict.fromkeys((".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".numbers"), ("a spreadsheet", _WORKBOOK)),
    **dict.fromkeys(
        (".feather", ".arrow", ".orc", ".dta", ".sav", ".sas7bdat", ".rds", ".h5", ".hdf5"), ("a table in another format", _FRAME)
    ),
    **dict.fromkeys((".pkl", ".pickle"), ("a pickle, which could run any code", _FRAME)),
    **dict.fromkeys((".db", ".sqlite", ".sqlite3"), ("a database", _FRAME)),
    ".json": ("JSON as a whole", "Write an object on each line, in a .jsonl file: pandas has to_json(PATH, orient='records', lines=True)."),
}
_BEGINNINGS = {
    b"PK\x03\x04": ("an Excel workbook, or a zip archive", _WORKBOOK),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook", _WORKBOOK),
    b"PAR1": ("Parquet", "Name it .parquet."),
    b"BZh": ("compressed by bzip2", "Unpack it, or compress it by gzip."),
    b"\x28\xb5\x2f\xfd": ("compressed by zstd", "Unpack it, or compress it by gzip."),
    b"SQLite format 3": ("a database", _FRAME),
}
_MARK = max(map(len, _BEGINNINGS))
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
    encoding: Encoding
    form: _Form | None = None

    @property
    def has_decimal_comma(self) -> bool:
        """Whether commas may stand for decimal points, because something else separates values."""
        return self.form is not None and self.form.separator != ","

    def chunks(self) -> Iterator[Chunk]:
        """Yield the rows of the file. Raises `DataError` that names the line of a row with more or fewer values."""
        with _opened(self.path, self.encoding.name) as text:
            _check_unpacks(self.path)
            lines = _Lines(text, self.path)
            rows = _json_rows(lines, self.names) if self.form is None else self._rows(lines, self.form)
            chunk, many = Chunk([], []), max(1, min(CHUNK, _VALUES // len(self.names)))
            for row, line in rows:
                chunk.rows.append(row)
                chunk.lines.append(line)
                if len(chunk.rows) == many:
                    yield chunk
                    chunk = Chunk([], [])
            if chunk.rows:
                yield chunk

    def _rows(self, lines: _Lines, form: _Form) -> Iterator[tuple[list[str], int]]:
        width, is_header = len(self.names), self.has_header
        line = 1
        try:
            for row in _reader(lines, form):
                if is_header and row:
                    is_header = False
                elif len(row) == width:
                    yield row, line
                elif row:
                    raise DataError(
                        f"{self.path}, line {line:,}: the row has {counted(len(row), 'value')}; "
                        f"there {are(width)} {counted(width, 'column')}.",
                        _SAVE,
                    )
                line = lines.count + 1
                lines.taken = 0
        except csv.Error as error:
            raise _damaged(self.path, line, error) from error


class _Lines:
    """The lines of a text, those of table rows. `count` is the number of lines so far, and `taken` that of characters in this row.

    Raises `DataError` for a zero byte, and for a row that is too long to be one: nothing is kept of a line that never ends.
    """

    def __init__(self, text: io.TextIOBase, path: Path) -> None:
        self.text = text
        self.path = path
        self.count = self.taken = 0

    def __iter__(self) -> Iterator[str]:
        for line in iter(partial(self.text.readline, MAX_ROW + 1), ""):
            self.count += 1
            self.taken += len(line)
            if self.taken > MAX_ROW:
                raise _too_long(self.path, self.count)
            if "\0" in line:
                raise _zero_byte(self.path, self.count)
            yield line


def is_table(path: Path) -> bool:
    """Whether a path is named like a table."""
    name = path.name.lower()
    return name.endswith(SUFFIXES) or name.removesuffix(".gz").endswith(SUFFIXES[:-1])


def refuse_others(path: Path) -> None:
    """Raise `DataError` for a file named like a table in a format that is not read."""
    if path.is_file() and (other := _OTHERS.get(path.suffix.lower())) is not None:
        raise DataError(f"{path} is {other[0]}, which is not read.", other[1])


def open_table(path: Path, *, header: bool | None = None) -> TableFile:
    """Recognise the form of a text file with a table. Raises `DataError`.

    `header` says whether the first row has the names of columns, where that is known; otherwise it is guessed from the values.
    """
    try:
        return _recognised(path, header, signature(path.stat()))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", "Check the file.") from error


@lru_cache(maxsize=16)
def _recognised(path: Path, header: bool | None, _: tuple[int, ...]) -> TableFile:
    refuse_others(path)
    encoding = _encoding(path)
    with _opened(path, encoding.name) as text:
        if path.name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson")):
            return TableFile(path, _json_names(_Lines(text, path)), has_header=True, encoding=encoding)
        sample = text.read(_SAMPLE)
        while len(sample) <= MAX_ROW and _ends(sample) < 2 and (more := text.read(_SAMPLE)):
            sample += more
        is_whole = not text.read(1)
    if not sample.strip():
        raise DataError(f"{path} is empty.", "Give a table with a row for each example.")
    if "\0" in sample:
        raise _zero_byte(path, 1 + _ends(sample[: sample.index("\0")]))
    form = _form(sample, is_whole=is_whole, prefers_tab=".tsv" in path.name.lower())
    rows = _parse(sample, form, is_whole=is_whole)
    if not rows:
        raise _no_row(path, sample, form)
    refuse_title(path, sample, rows)
    width = len(rows[0])
    if width > MAX_COLUMNS:
        raise DataError(f"{path} has {width:,} columns, more than {MAX_COLUMNS:,}.", "Leave some out.")
    first = [cell.strip() for cell in rows[0]]
    has_header = _is_header(first, rows[1:]) if header is None else header
    names = tuple(name or str(place) for place, name in enumerate(first)) if has_header else tuple(map(str, range(width)))
    if (twice := next((name for name, number in Counter(names).items() if number > 1), None)) is not None:
        raise DataError(f"{path}, line 1: two columns are named '{twice}'.", "Give each column a name of its own.")
    return TableFile(path, names, has_header, encoding, form)


def about_encoding(what: Any) -> Iterator[str]:
    """Yield a note if the encoding of a table's file was guessed."""
    if isinstance(what, str | Path) and Path(what).suffix.lower() != ".parquet" and (note := open_table(Path(what)).encoding.note):
        yield note


def _not_text(path: Path, encoding: str) -> DataError:
    """Return the error for a file that is not in its encoding, with the first line that is not."""
    line, decoder = 1, codecs.getincrementaldecoder(encoding)()
    with suppress(OSError, ValueError), Unpacked(path) as raw:
        try:
            while piece := raw.upto(PIECE):
                line += _ends(decoder.decode(piece))
        except UnicodeDecodeError as error:
            kept = decoder.getstate()[0]
            line += _ends(decoder.decode(error.object[len(kept) : error.start]))
    name = encoding.removesuffix("-sig").upper()
    return DataError(
        f"{path}, line {line:,}: it is not text in {name}.", f"Save the file as UTF-8 ({_ICONV}), with a row for each example."
    )


def _zero_byte(path: Path, line: int) -> DataError:
    return DataError(f"{path}, line {line:,}: there is a zero byte, so it is not text.", "Save the file as text in UTF-8.")


def _too_long(path: Path, line: int) -> DataError:
    return DataError(f"{path}, line {line:,}: the row has more than {MAX_ROW:,} characters.", f"Is a quote not closed? {_SAVE}")


def _damaged(path: Path, line: int, error: csv.Error) -> DataError:
    """Return the error for what the csv module refuses, from that line on."""
    why = "a quote is not closed" if "end of data" in str(error) else str(error)
    if "limit" in why:
        why = f"a value has more than {csv.field_size_limit():,} characters"
    return DataError(f"{path}, line {line:,}: {why}.", f"Is a quote not closed, or does one stand within a value? {_SAVE}")


def _no_row(path: Path, sample: str, form: _Form) -> DataError:
    try:
        for _ in _reader(io.StringIO(sample, newline=""), form):
            pass
    except csv.Error as error:
        return _damaged(path, 1, error)
    return _too_long(path, 1)


@contextmanager
def _opened(path: Path, encoding: str) -> Iterator[io.TextIOBase]:
    """Open a text file, compressed or not, and name it in errors of reading."""
    try:
        with Unpacked(path) as raw, io.TextIOWrapper(io.BufferedReader(raw, PIECE), encoding, newline="") as text:
            yield text
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.", "Check the file.") from error
    except UnicodeDecodeError as error:
        raise _not_text(path, encoding) from error
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {error}.", "Copy the file again.") from error


def _check_unpacks(path: Path) -> None:
    """Raise `ValueError` for a compressed file that is damaged, or a bomb: to unpack it takes far less time than to read its rows."""
    with Unpacked(path) as raw:
        while raw.is_packed and raw.upto(PIECE):
            pass


def _encoding(path: Path) -> Encoding:
    try:
        with Unpacked(path) as raw:
            start = raw.upto(_MARK)
        if (other := next((other for mark, other in _BEGINNINGS.items() if start.startswith(mark)), None)) is not None:
            raise DataError(f"{path} is not text: its content is {other[0]}.", other[1])
        return encoding_of(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.", "Check the file.") from error
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {error}.", "Copy the file again.") from error


def _ends(text: str) -> int:
    """Count the ends of lines: those of Unix, Windows and old Macs."""
    return text.count("\n") + text.count("\r") - text.count("\r\n")


def _reader(lines: Iterable[str], form: _Form) -> Any:
    return csv.reader(lines, delimiter=form.separator, quoting=form.quoting, skipinitialspace=form.separator != "\t", strict=True)  # type: ignore[arg-type]


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


# How well a separator fits, where it gives the first row another number of values, is multiplied by this.
_OTHER_HEADER = 0.9


def _form(sample: str, *, is_whole: bool, prefers_tab: bool) -> _Form:
    """Return the form by which most rows have the same number of values, more than one if possible."""
    best, form = (-1.0, 0), _Form(",", csv.QUOTE_MINIMAL)
    separators = ("\t", *_SEPARATORS) if prefers_tab else _SEPARATORS
    lines = _ends(sample) + 1
    for separator in separators:
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
            rows = _parse(sample, _Form(separator, quoting), is_whole=is_whole)
            width, same = Counter(map(len, rows)).most_common(1)[0] if rows else (1, 0)
            # Where quotes have no meaning, one that is closed must not be needed.
            is_odd = quoting == csv.QUOTE_NONE and separator != "\t"
            # Rows are lost where a quote is never closed.
            read = len(rows) if len(rows) > _SAMPLE_ROWS else min(lines, len(rows) + sum(_ends(cell) for row in rows for cell in row))
            fits = 0.0 if width == 1 or is_odd else same / max(1, len(rows)) * (read > 1)
            # Decimal commas are in every row, but not in the header.
            score = (fits if fits and len(rows[0]) == width else fits * _OTHER_HEADER, read)
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


def _json_names(lines: _Lines) -> tuple[str, ...]:
    """Return the names in all objects, in the order in which they come."""
    names: dict[str, None] = {}
    for found in _objects(lines):
        names.update(dict.fromkeys(found))
        if len(names) > MAX_COLUMNS:
            raise DataError(f"{lines.path} has more than {MAX_COLUMNS:,} columns.", "Leave some out.")
    if not names:
        raise DataError(f"{lines.path} is empty.", "Give a table with a row for each example.")
    return tuple(names)


def _json_rows(lines: _Lines, names: tuple[str, ...]) -> Iterator[tuple[list[str], int]]:
    given = values = 0
    for found in _objects(lines):
        row = [found.get(name, "") for name in names]
        if any(isinstance(value, list | dict) for value in row):
            problem = f"{lines.path}, line {lines.count:,}: a value is a list or an object."
            raise DataError(problem, "Give each line as an object of numbers and words.")
        given, values = given + len(found), values + len(names)
        if values > _FEW_VALUES and values > _SPARSE * given:
            problem = f"{lines.path}, line {lines.count:,}: objects have few of the {len(names):,} names that occur so far."
            raise DataError(problem, "Give all objects the same names.")
        yield ["" if value is None else str(value) for value in row], lines.count


def _objects(lines: _Lines) -> Iterator[dict[str, Any]]:
    """Yield the object on each line. Numbers are the text that stands there."""
    for content in lines:
        lines.taken = 0
        if content.strip():
            try:
                yield _parse_object(content)
            except (ValueError, RecursionError) as error:
                why = f"{error.msg}, at character {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
                problem = f"{lines.path}, line {lines.count:,}: {why}."
                raise DataError(problem, 'Write an object on each line: {"age": 39, "sex": "F"}') from error


def _parse_object(content: str) -> dict[str, Any]:
    found = json.loads(content, parse_int=str, parse_float=str, object_pairs_hook=_without_twins)
    if not isinstance(found, dict):
        raise ValueError("it is not an object")
    if "\\u" in content and any("\ud800" <= letter <= "\udfff" for letter in json.dumps(found, ensure_ascii=False)):
        raise ValueError("half a character is written as \\u")
    return found


def _without_twins(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    if twice := [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]:
        raise ValueError(f"the name '{twice[0]}' appears twice")
    return dict(pairs)
