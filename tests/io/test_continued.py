"""Tables that go on where an interrupted program stopped."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epochal.errors import OutputError
from epochal.io.continued import continued_table

HEADER = ("file", "label")


def _write(path: Path, rows: list[tuple[str, str]], *, fail_at: int | None = None, key: str = "k") -> int:
    """Write rows from where the table is, and return from which; fail before a row if wanted."""
    with continued_table(path, HEADER, key) as table:
        for place, row in enumerate(rows):
            if place < table.rows:
                continue
            if place == fail_at:
                raise KeyboardInterrupt
            table.writer.writerow(row)
        return table.rows


def _read(path: Path) -> list[tuple[str, ...]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [tuple(row) for row in csv.reader(file)]


ROWS = [("a.png", "cat"), ('b "x".png', "dog\nor two"), ("猫,c.png", ""), ("d.png", "cat")]


def test_an_interrupted_table_is_beside_its_name_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with pytest.raises(KeyboardInterrupt):
        _write(path, ROWS, fail_at=2)
    assert not path.exists()
    assert len(list(tmp_path.iterdir())) == 1
    # Another model, or other files, begin their own.
    with pytest.raises(KeyboardInterrupt):
        _write(path, ROWS, fail_at=0, key="other")
    assert _write(path, ROWS) == 2
    assert _read(path) == [HEADER, *ROWS]


@given(cut=st.integers(0, 200))
def test_what_was_cut_off_anywhere_is_written_again(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("cut") / "out.csv"
    with pytest.raises(KeyboardInterrupt):
        _write(path, [*ROWS, ("e", "f")], fail_at=4)
    (part,) = path.parent.iterdir()
    part.write_bytes(part.read_bytes()[:cut])
    _write(path, ROWS)
    assert _read(path) == [HEADER, *ROWS]


def test_a_folder_that_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere"):
        _write(tmp_path / "nowhere" / "out.csv", ROWS)
