"""Tables in Parquet files, read by pyarrow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from epochal.data.inputs.table.files import MAX_COLUMNS
from epochal.errors import DataError, EpochalError
from epochal.io.safe_read import unpacked_limit


@contextmanager
def open_parquet(path: Path) -> Iterator[Any]:
    """Open a Parquet file by pyarrow, after comparing what it says about itself with its size, and name it in errors of reading."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(
            f"{path} is a Parquet file, which pyarrow reads.", "Install it: pip install 'epochal[tables]'; or save as CSV."
        ) from error
    try:
        packed = path.stat().st_size
        with parquet.ParquetFile(path, thrift_string_size_limit=packed, thrift_container_size_limit=packed) as file:
            _check(path, file, packed)
            yield file
    except EpochalError:
        raise
    except Exception as error:  # pyarrow raises errors of many kinds for damaged files
        raise DataError(f"{path} cannot be read: {str(error).splitlines()[0].rstrip('.')}.", "Save it again.") from error


def _check(path: Path, file: Any, packed: int) -> None:
    """Refuse a Parquet file of `packed` bytes that has too many columns or rows to be true."""
    described, names = file.metadata, file.schema_arrow.names
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(f"{path}: two columns are named '{twice[0]}'.", "Give each column a name of its own.")
    rows, columns, limit = described.num_rows, described.num_columns, unpacked_limit(packed)
    if columns > MAX_COLUMNS:
        raise DataError(f"{path} has {columns:,} columns, more than {MAX_COLUMNS:,}.", "Leave some out.")
    sizes = [described.row_group(number).total_byte_size for number in range(described.num_row_groups)]
    if rows * columns > limit or sum(sizes) > limit or min((rows, *sizes)) < 0:
        raise ValueError(f"its {packed:,} bytes claim to hold {rows:,} rows, {sum(sizes):,} bytes")


def parquet_columns(file: Any, skip: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Yield the columns of a Parquet file one by one: numbers as an array, others as a list."""
    for name, kind in zip(file.schema_arrow.names, map(str, file.schema_arrow.types), strict=True):
        if name not in skip:
            column = file.read([name]).column(0)
            column.validate(full=True)
            yield name, column if kind.startswith(("int", "uint", "float", "double", "halffloat")) else column.to_pylist()
