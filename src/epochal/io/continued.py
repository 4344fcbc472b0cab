"""A table that is written row by row, and goes on where an interrupted program stopped."""

from __future__ import annotations

import csv
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from epochal.io.files import shortened, sync_directory, write_errors


class Writer(Protocol):
    """What `csv.writer` returns."""

    def writerow(self, row: Iterable[Any], /) -> Any:
        """Write a row."""
        ...


class Continued(NamedTuple):
    """A table to add rows to, how many rows it has from before, and how many of these have nothing behind the given columns."""

    writer: Writer
    rows: int
    empty: int


@contextmanager
def continued_table(path: Path, header: Sequence[str], key: str, given: int = 1) -> Iterator[Continued]:
    """Yield a CSV file that becomes `path` when the block succeeds; until then, it is beside it and called PATH.KEY.part.

    If the block ends early, that file stays, and the next block with the same `path`, `header` and `key` continues it. `key` tells tables
    of other contents apart. The first `given` columns say what a row is about. Raises `OutputError`.
    """
    part = path.with_name(f"{shortened(path.name)}.{hashlib.sha256(key.encode()).hexdigest()[:12]}.part")
    with write_errors(path):
        with part.open("a+", encoding="utf-8", errors=sys.getfilesystemencodeerrors(), newline="") as file:
            rows, empty, end = _complete(file, header, given)
            file.truncate(end)
            file.seek(end)
            writer = csv.writer(file, lineterminator="\n")
            if not end:
                writer.writerow(header)
            yield Continued(writer, rows, empty)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_directory(path.parent)


def _complete(file: Any, header: Sequence[str], given: int) -> tuple[int, int, int]:
    """Return how many complete rows the file has below its header, how many of these are empty, and where they end.

    If that is another header, all are 0.
    """
    file.seek(0)
    rows, empty, end, record = -1, 0, 0, ""
    for line in iter(file.readline, ""):
        record += line
        # A line break within quotes is part of a value.
        if record.count('"') % 2 or not record.endswith("\n"):
            continue
        values = next(csv.reader([record]))
        if len(values) != len(header) or (rows < 0 and values != list(header)):
            break
        rows, empty, end, record = rows + 1, empty + (not any(values[given:])), file.tell(), ""
    return max(rows, 0), empty, end
