"""A table of any form, read into columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epochal.data.inputs.table.cells import MANY, Numbers, Stored, Texts, Values, parse_numbers
from epochal.data.inputs.table.files import CHUNK, Chunk, TableFile, is_table, open_table
from epochal.data.inputs.table.parquet import open_parquet, parquet_columns
from epochal.data.inputs.table.store import Store
from epochal.data.numbers import check_characters
from epochal.errors import DataError, suggest
from epochal.shown import counted

# About so many values are in memory at once where a table is read in blocks.
_BLOCK = 1 << 18

# What is surely one value of a column.
_PLAIN = (str, float, int, bytes, type(None))


@dataclass(frozen=True)
class Table:
    """A table that was read. `lines` are those of the file on which rows begin, if it is a text file; `first` is the number of the
    first row, and `rows` are the numbers of all if some were left out."""

    name: str
    columns: Mapping[str, Values]
    lines: NDArray[np.int64] | None = None
    has_header: bool = True
    comma: bool = False
    first: int = 0
    rows: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ())) if self.lines is None else len(self.lines)

    def take(self, rows: NDArray[np.int64]) -> Table:
        """Return some rows."""
        columns = {name: values.take(rows) for name, values in self.columns.items()}
        lines, numbers = (None if values is None else values[rows] for values in (self.lines, self.rows))
        return replace(self, columns=columns, lines=lines, rows=rows if numbers is None else numbers)

    def where(self, row: int) -> str:
        """Return the name of a row for messages."""
        number = self.first + row if self.rows is None else int(self.rows[row])
        return f"{self.name}, row {number}" if self.lines is None else f"{self.name}, line {self.lines[row]}"

    def blocks(self) -> Iterator[Table]:
        """Yield the rows in order, a block at a time: few enough that they take little memory."""
        chunk = self.columns.chunk if isinstance(self.columns, Stored) else CHUNK
        step = chunk * max(1, _BLOCK // (chunk * max(1, len(self.columns))))
        for begin in range(0, len(self), step):
            end = min(begin + step, len(self))
            if isinstance(self.columns, Stored):
                columns = self.columns.part(begin, end)
            else:
                columns = {name: values.part(begin, end) for name, values in self.columns.items()}
            lines, rows = (None if values is None else values[begin:end] for values in (self.lines, self.rows))
            yield replace(self, columns=columns, lines=lines, rows=rows, first=begin)


def read_table(
    what: Any, *, words: Collection[str] = (), numbers: Collection[str] = (), skip: Collection[str] = (), header: bool | None = None
) -> Table:
    """Read a table: a path, a mapping of columns, a list of mappings, or a table of pandas, Polars or Arrow.

    Columns in `words` keep the text of their values, those in `numbers` must be numbers, and those in `skip` are left out; others are
    numbers if all of their values are. Columns in both keep their text unless they are very many different numbers. `header` is whether a
    file has names in its first row, if that is known. Raises `DataError`.
    """
    if isinstance(what, str | Path):
        path = Path(what)
        if path.suffix.lower() == ".parquet":
            with open_parquet(path) as file:
                return _from_columns(path.name, parquet_columns(file, skip))
        return _from_file(open_table(path, header=header), {*words}, {*numbers}, {*skip})
    columns = ((str(name), values) for name, values in columns_of(what).items() if str(name) not in skip)
    return _from_columns(type(what).__name__ if not isinstance(what, dict | list) else "table", columns)


def pieces(
    path: Path, *, words: Collection[str] = (), numbers: Collection[str] = (), header: bool | None = None
) -> Iterator[tuple[list[list[str]], Table]]:
    """Yield the rows of a file as text, a few thousand at a time, with the columns in `words` and `numbers`, as `read_table` reads them."""
    if path.suffix.lower() == ".parquet":
        with open_parquet(path) as parquet:
            for batch in parquet.iter_batches(CHUNK):
                batch.validate(full=True)
                found = batch.to_pydict()
                yield [list(map(_text, row)) for row in zip(*found.values(), strict=True)], _from_columns(path.name, found.items())
        return
    file = open_table(path, header=header)
    places = {name: place for place, name in enumerate(file.names) if name in words or name in numbers}
    for chunk in file.chunks():
        store = Store()
        columns: dict[str, Texts | Numbers] = {name: Texts(store) if name in words else Numbers(store) for name in places}
        _add(columns, file, chunk, places, numbers)
        read = {name: column.read() for name, column in columns.items()}
        yield chunk.rows, Table(str(path), read, np.array(chunk.lines), file.has_header, file.has_decimal_comma)


def rows_of(what: Any, columns: Sequence[str], *, header: bool | None = None) -> tuple[list[list[str]], list[int] | None]:
    """Return the text of some columns of a table by row; and the lines of the file, if it is a text file."""
    if not isinstance(what, str | Path) or Path(what).suffix.lower() == ".parquet":
        table = read_table(what, skip={*names_of(what)} - {*columns})
        values = [table.columns[name].as_words() for name in columns]
        found = [["" if code < 0 else one.words[code] for code in one.codes.tolist()] for one in values if one.codes is not None]
        return [list(row) for row in zip(*found, strict=True)], None
    file = open_table(Path(what), header=header)
    places = [file.names.index(name) for name in columns]
    cells, lines = list[list[str]](), list[int]()
    for chunk in file.chunks():
        cells += [[row[place] for place in places] for row in chunk.rows]
        lines += chunk.lines
    return cells, lines


def holds_table(what: Any) -> bool:
    """Whether `what` is a table that `read_table` reads."""
    if isinstance(what, str | Path):
        return is_table(Path(what))
    if isinstance(what, Mapping):
        return bool(what)
    if isinstance(what, list | tuple):
        return bool(what) and all(isinstance(row, Mapping) for row in what)
    if isinstance(what, np.ndarray):
        return what.ndim == 2 and what.dtype.kind in "OU"
    return hasattr(what, "columns") or hasattr(what, "column_names")


def names_of(what: Any, header: bool | None = None) -> tuple[str, ...]:
    """Return the names of the columns of a table, without reading it whole; `header` as for `read_table`."""
    if isinstance(what, str | Path):
        path = Path(what)
        if path.suffix.lower() != ".parquet":
            return open_table(path, header=header).names
        with open_parquet(path) as file:
            return tuple(file.schema_arrow.names)
    return tuple(map(str, columns_of(what)))


def header_of(columns: Sequence[str]) -> bool | None:
    """Whether a table with these columns has a header: yes where they have names, unknown where all are numbers."""
    return True if any(not name.lstrip("-").isdigit() for name in columns) else None


def has_header(what: Any) -> bool:
    """Whether the columns of a table have names, by its first rows."""
    is_text = isinstance(what, str | Path) and Path(what).suffix.lower() != ".parquet"
    return open_table(Path(what)).has_header if is_text else True


def find_column(name: str, names: Sequence[str], what: Any) -> str:
    """Return the column of that name, or of that number (-1 is the last), of a table with these `names`. Raises `DataError`."""
    if name in names:
        return name
    try:
        return names[range(len(names))[int(name)]]
    except (ValueError, IndexError):
        raise DataError(f"{title_of(what)} has no column '{name}'.", suggest(name, names)) from None


def title_of(what: Any) -> str:
    """Return what messages call a table: its file, if it has one."""
    return str(what) if isinstance(what, str | Path) else "The table"


def columns_of(what: Any) -> Mapping[str, Any]:
    """Return the columns of a table in a program, by name."""
    if isinstance(what, Mapping):
        alone = all(isinstance(value, str | bytes) or not hasattr(value, "__len__") for value in what.values())
        return {name: [value] for name, value in what.items()} if alone else what
    if isinstance(what, np.ndarray):
        return {str(place): column for place, column in enumerate(what.T)}
    if isinstance(what, list | tuple):
        return {name: [row.get(name) for row in what] for name in dict.fromkeys(name for row in what for name in row)}
    names = list(what.column_names if hasattr(what, "column_names") else what.columns)
    if twice := [name for name, count in Counter(map(str, names)).items() if count > 1]:
        raise DataError(f"Two columns of the table are named '{twice[0]}'.", "Give each column a name of its own.")
    return {str(name): what[name] for name in names}


def _from_file(file: TableFile, words: set[str], numbers: set[str], skip: set[str]) -> Table:
    """Read a text file: once, and again for columns that turn out not to be numbers, whose text was not kept."""
    places, store = {name: place for place, name in enumerate(file.names) if name not in skip}, Store()
    try:
        columns, lines = _pass(file, store, places, words, numbers)
        lost = [name for name in places if name not in columns]
        if lost:
            columns |= _pass(file, store, {name: places[name] for name in lost}, set(lost), set())[0]
    except OSError as error:
        raise DataError(f"{file.path} cannot be kept: {error.strerror}.", "Set TMPDIR to a folder with more room.") from error
    if not lines:
        raise DataError(f"{file.path} has a header and no rows.", "Give a row for each example.")
    stored = Stored({name: columns[name] for name in places}, len(lines[0]))
    return Table(str(file.path), stored, np.concatenate(lines), file.has_header, file.has_decimal_comma)


def _pass(
    file: TableFile, store: Store, places: Mapping[str, int], words: set[str], numbers: set[str]
) -> tuple[dict[str, Texts | Numbers], list[NDArray[np.int64]]]:
    """Read columns as words or numbers, and the lines of each chunk; columns that are neither are left out."""
    found: dict[str, Texts | Numbers] = {name: Texts(store) if name in words else Numbers(store) for name in places}
    lines: list[NDArray[np.int64]] = []
    for chunk in file.chunks():
        lines.append(np.array(chunk.lines, np.int64))
        _add(found, file, chunk, places, numbers)
    return found, lines


def _add(columns: dict[str, Texts | Numbers], file: TableFile, chunk: Chunk, places: Mapping[str, int], numbers: Collection[str]) -> None:
    """Add rows to columns; those that turn out later not to be numbers are dropped, or an error if they must be."""
    cells, comma = list(zip(*chunk.rows, strict=True)), file.has_decimal_comma
    for name, column in [*columns.items()]:
        found = cells[places[name]]
        if isinstance(column, Texts):
            were_few = len(column.known) <= MANY
            column.add(found)
            if were_few and len(column.known) > MANY and name in numbers:
                columns[name] = column.as_numbers(comma=comma) or column
        elif (parsed := parse_numbers(found, comma=comma)) is not None:
            column.add(parsed)
        elif name in numbers:
            row = next(row for row, cell in enumerate(found) if parse_numbers([cell], comma=comma) is None)
            raise DataError(
                f"{file.path}, line {chunk.lines[row]}: '{found[row].strip()[:60]}' is not a number, as others are in column {name}.",
                "Fix it; a missing value is an empty one.",
            )
        elif not column.places:  # Its text is all here.
            columns[name] = words = Texts(column.store)
            words.add(found)
        else:
            del columns[name]


def _from_columns(name: str, columns: Iterable[tuple[str, Any]]) -> Table:
    found = {column: _from_objects(values, column) for column, values in columns}
    counts = {column: len(values) for column, values in found.items()}
    if len(set(counts.values())) > 1:
        (first, one), (other, two) = next((pair, other) for pair in counts.items() for other in counts.items() if pair[1] != other[1])
        raise DataError(f"Column {first} has {counted(one, 'value')}, and {other} {two:,}.", "Give each column a value for each row.")
    if not found or not next(iter(counts.values())):
        raise DataError("The table has no rows.", "Give a row for each example.")
    return Table(name, found)


def _from_objects(values: Any, name: str) -> Values:
    """Return a column of a program: numbers, or words."""
    array = np.asarray(values) if hasattr(values, "__array__") else np.array(values, dtype=object)
    if array.ndim != 1:
        raise DataError(f"Column {name} has shape {array.shape}.", "Give one value for each row.")
    check_characters(array, f"Column {name} has")
    if array.dtype.kind in "iuf":
        return Values(numbers=array.astype(np.float64))
    if array.dtype.kind == "M":
        array = np.where(np.isnat(array), "", np.datetime_as_string(array.astype("datetime64[s]")))
    values = array.tolist()
    several = (row for row, value in enumerate(values) if not isinstance(value, _PLAIN) and hasattr(value, "__len__"))
    if (place := next(several, None)) is not None:
        raise DataError(f"Column {name}, row {place}: a {type(values[place]).__name__} is not one value.", "Give one value for each row.")
    cells = ["" if _is_missing(value) else value for value in values]
    # Files have words for true and false.
    if all(cell == "" or (isinstance(cell, int | float | Decimal) and not isinstance(cell, bool)) for cell in cells):
        return Values(numbers=np.array([nan if isinstance(cell, str) else _float(cell) for cell in cells]))
    words = Texts(Store())
    words.add(map(str, cells))
    return words.read()


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value != value


def _text(value: Any) -> str:
    return "" if _is_missing(value) else str(value)


def _float(number: float | Decimal) -> float:
    try:
        return float(number)
    except OverflowError:
        return inf
