"""Columns that a model does not learn from: which are kept with examples, of each kind of table, through splitting and leaving out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import epochal
from epochal.data.attributes import read_attributes
from epochal.data.examples import Examples
from epochal.data.load import Data, load
from epochal.data.storage import kept

SITES = ("north", "south", "east")


def _rows(count: int = 60) -> list[dict[str, object]]:
    return [
        {
            "x": row % 7,
            "site": SITES[row % 3],
            "age": 20 + row % 40,
            "key": f"row-{row:05}",
            "note": f"the quick brown fox number {row}",
            "same": "yes",
            "text": f"{'good' if row % 2 else 'bad'} film {row}",
            "label": "no" if row % 2 else "yes",
        }
        for row in range(count)
    ]


def _write(file: Path, rows: Sequence[dict[str, object]]) -> Path:
    lines = [",".join(rows[0]), *(",".join("" if value is None else str(value) for value in row.values()) for row in rows)]
    file.write_text("\n".join(lines), "utf-8")
    return file


def _values(data: Data, examples: Examples, name: str) -> list[str]:
    column = next(place for place, column in enumerate(data.attributes.columns) if column.name == name)
    assert examples.attributes is not None
    values = examples.attributes[examples.positions][:, column]
    return [data.attributes.columns[column].words_of(value) for value in values.tolist()]


def _names(data: Data) -> list[str]:
    return [column.name for column in data.attributes.columns]


def test_columns_that_are_ignored_in_a_table(tmp_path: Path) -> None:
    table = _write(tmp_path / "t.csv", _rows())
    data = load(table, target="label", ignore=("site", "age", "key", "note", "same", "text")).split()
    assert _names(data) == ["site", "age"]
    assert data.test is not None
    wanted = [SITES[position % 3] for position in data.test.positions.tolist()]
    assert _values(data, data.test, "site") == wanted
    assert _values(data, data.test, "age") == [str(20 + position % 40) for position in data.test.positions.tolist()]
    assert load(table, target="label").attributes.columns == ()


def test_all_other_columns_of_a_table_of_texts(tmp_path: Path) -> None:
    table = _write(tmp_path / "t.csv", _rows())
    data = load(table, target="label", text="text", exclude=["t.csv:3", "t.csv:4"])
    assert _names(data) == ["x", "site", "age"]
    assert _values(data, data.train, "site") == [SITES[row % 3] for row in (0, *range(3, 60))]
    # Nothing is read again where there is nothing else.
    two = _write(tmp_path / "two.csv", [{"text": row["text"], "label": row["label"]} for row in _rows()])
    assert load(two, target="label", text="text").attributes.columns == ()


def test_all_other_columns_of_a_list_of_files(tmp_path: Path) -> None:
    rows = []
    for row in range(12):
        Image.new("RGB", (8, 8), (20 * row, 99, 0)).save(tmp_path / f"{row}.png")
        split = ("train", "train", "test")[row // 4]
        rows.append({"file": f"{row}.png", "label": "ab"[row % 2], "site": SITES[row % 3], "age": row, "who": row % 4, "split": split})
    data = load(_write(tmp_path / "list.csv", rows), file="file", target="label", group="who")
    assert _names(data) == ["site", "age"]
    assert data.test is not None
    assert _values(data, data.test, "site") == [SITES[row % 3] for row in range(8, 12)]
    again = load(tmp_path / "list.csv", like=data.split(test=0, valid=0.3).spec)
    assert _names(again) == ["site", "age"]


def test_they_are_kept_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "QUICK_SECONDS", 0.0)
    table = _write(tmp_path / "t.csv", _rows())
    first, second = (load(table, target="label", text="text") for _ in range(2))
    assert first.attributes == second.attributes
    assert first.train.attributes is not None
    assert second.train.attributes is not None
    assert torch.equal(first.train.attributes, second.train.attributes)


def test_other_tables_may_lack_them_or_have_them_otherwise(tmp_path: Path) -> None:
    train = _write(tmp_path / "t.csv", _rows())
    test = _write(tmp_path / "test.csv", [{**row, "age": "old", "site": "west"} for row in _rows(9)])
    asked: dict[str, Any] = {"target": "label", "ignore": ("site", "age", "key", "note", "same", "text")}
    data = load(train, test_data=test, **asked)
    assert _names(data) == ["site"]
    assert data.test is not None
    assert _values(data, data.test, "site") == ["not in training data"] * 9
    assert any(note.startswith("age is not looked at: ") for note in data.notes)
    bare = _write(tmp_path / "bare.csv", [{"x": row["x"], "label": row["label"]} for row in _rows(9)])
    data = load(train, test_data=bare, **asked)
    assert data.test is not None
    assert _values(data, data.test, "age") == ["missing"] * 9


def test_infinite_and_missing_values_are_missing() -> None:
    table = {"a": [1.0, float("inf"), float("nan"), 2.0] * 10, "b": ["x", None, "y", "x"] * 10}
    found, values = read_attributes({"train": table}, set(), [])
    assert [column.name for column in found.columns] == ["a", "b"]
    assert values["train"][:4].isnan().tolist() == [[False, False], [True, True], [True, False], [False, False]]
    found.learn(values["train"])


def test_programs_too(tmp_path: Path) -> None:
    columns = {name: [row[name] for row in _rows()] for name in ("x", "site", "label")}
    run = epochal.train(columns, target="label", ignore="site", epochs=1, quiet=True, device="cpu", threads=1, out=tmp_path / "run")
    assert run.assessment is not None
    assert run.assessment.slices is not None
    assert run.assessment.slices.columns == 2
