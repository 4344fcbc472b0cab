"""Lines above the header of a table: titles, comments, and the separator that Excel writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from epochal.errors import DataError

# A header is looked for in so many rows.
_ROWS = 20

# So large a share of the rows from the header on have as many values as it.
_ALIKE = 0.9

# How much of lines is shown.
_LINES, _LETTERS = 4, 60


def refuse_title(path: Path, sample: str, rows: Sequence[Sequence[str]]) -> None:
    """Raise `DataError` if the first of these rows (those of `sample`, without empty lines) are a title, and the table begins below."""
    begin = _header(rows)
    if not begin:
        return
    lines = sample.splitlines()
    line = [number for number, content in enumerate(lines, 1) if content.strip()][begin:][:1]
    if not line:
        return
    shown = [f"line {number}: {content[:_LETTERS]}" for number, content in enumerate(lines[: max(_LINES, line[0])], 1)][-_LINES - 1 :]
    fix = f"Remove lines 1 to {line[0] - 1}, which are no part of it. The file begins:"
    if line[0] == 2:
        fix = "Remove line 1, which is no part of it. The file begins:"
    raise DataError(f"{path}: the table seems to begin in line {line[0]:,}, below a title or a comment.", "\n".join((fix, *shown)))


def _header(rows: Sequence[Sequence[str]]) -> int:
    """Return the place of the row that is the header, if rows above it are something else; otherwise 0."""
    width = Counter(map(len, rows)).most_common(1)[0][0]
    begin = next((place for place, row in enumerate(rows[:_ROWS]) if len(row) == width and _is_full(row)), 0)
    below = [len(row) for row in rows[begin:]]
    is_title = all(_is_title(row, width) for row in rows[:begin])
    return begin if is_title and len(below) > 1 and below.count(width) >= _ALIKE * len(below) else 0


def _is_title(row: Sequence[str], width: int) -> bool:
    """Whether a row has far fewer values than others; spreadsheets fill it up with empty ones."""
    there = [cell for cell in row if cell.strip()]
    is_short = len(row) == 1 or len(row) < width - 1
    return bool(width > 1 and (is_short or (len(there) == 1 and width > 2 and not there[0].strip().replace(".", "").isdigit())))


def _is_full(row: Sequence[str]) -> bool:
    """Whether this may be a header: all cells are words, each another."""
    return len(set(row)) == len(row) and all(any(letter.isalpha() for letter in cell) for cell in row)
