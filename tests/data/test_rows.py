"""A column of a table may say which split each row is in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from epochal import load
from epochal.data.inputs.table.rule import TableRule
from epochal.errors import DataError, RecipeError


def _table(words: list[str]) -> dict[str, list[Any]]:
    rows = range(12 * len(words))
    table: dict[str, list[Any]] = {"x": [row % 7 for row in rows], "y": ["n" if row % 5 else "m" for row in rows]}
    return {**table, "split": [words[row % len(words)] for row in rows]}


def _names(data: Any) -> tuple[str, ...]:
    assert isinstance(data.input, TableRule)
    return data.input.names


@pytest.mark.parametrize(
    "words", [["train", "test"], ["Training", "TEST"], ["train", "dev"], ["trn", "val", "eval"], ["训练集", "验证集", "测试集"], ["train"]]
)
def test_a_column_named_split_is_obeyed_in_any_spelling(words: list[str], tmp_path: Path) -> None:
    table = _table(words)
    data = load(table, target="y")
    meant = {"test": "test", "TEST": "test", "eval": "test", "测试集": "test", "dev": "valid", "val": "valid", "验证集": "valid"}
    assert [*data.splits] == [split for split in ("train", "valid", "test") if split in {meant.get(word, "train") for word in words}]
    assert {len(examples) for examples in data.splits.values()} == {12}
    assert _names(data) == ("x",)
    assert "split by the column split" in data.notes
    assert data.spec.listing.split == "split"
    if len(words) > 1:
        place = words.index(next(word for word in words if word in meant))
        other = data.splits[meant[words[place]]]
        assert other.input(2).item() == table["x"][2 * len(words) + place]
    file = tmp_path / "t.csv"
    file.write_text("\n".join(["x,y,split", *(",".join(map(str, row)) for row in zip(*table.values(), strict=True))]), "utf-8")
    from_file = load(file, target="y")
    assert {name: examples.targets.tolist() for name, examples in from_file.splits.items()} == {
        name: examples.targets.tolist() for name, examples in data.splits.items()
    }


def test_another_column_is_obeyed_when_named() -> None:
    table = _table(["train", "test"])
    table["fold"] = table.pop("split")
    assert load(table, target="y").test is None
    data = load(table, target="y", split_column="fold")
    assert data.test is not None
    # Other tables for the model are split by it, if they have it.
    again = load(table, like=data.spec)
    assert again.test is not None
    assert again.test.targets.equal(data.test.targets)
    assert load({name: table[name] for name in ("x", "y")}, like=data.spec).test is None
    table["fold"] = ["test"] * 24
    alone = load(table, like=data.spec)
    assert (alone.test, len(alone.train)) == (None, 24)


def test_a_column_of_other_words_is_a_column_like_others() -> None:
    table = _table(["banana", "cherry"])
    assert _names(load(table, target="y")) == ("x", "split")
    with pytest.raises(DataError, match="row 0: the column split is 'banana', not train, valid or test"):
        load(table, target="y", split_column="split")
    words = _table(["train", "test"])
    assert _names(load(words, target="y", ignore="split")) == ("x",)
    assert load(words, target="y", ignore="split").test is None
    assert _names(load(words, target="y", columns={"split": "category"})) == ("x", "split")


def test_rows_that_do_not_say_are_refused() -> None:
    table = _table(["train", "test"])
    table["split"][5] = None
    with pytest.raises(DataError, match="row 5: the column split is missing"):
        load(table, target="y")
    table["split"][5] = "later"
    with pytest.raises(DataError, match="row 5: the column split is 'later', not train, valid or test") as raised:
        load(table, target="y")
    assert raised.value.fix == "Fix it; or if that column is something else: --ignore split"
    with pytest.raises(DataError, match="the column split has no row of train"):
        load(_table(["test", "valid"]), target="y")
    with pytest.raises(DataError, match="no column 'splt'"):
        load(_table(["train"]), target="y", split_column="splt")
    with pytest.raises(RecipeError, match="The column y says the splits, and cannot be something else too"):
        load(_table(["train"]), target="y", split_column="y")
    with pytest.raises(RecipeError, match="There are two sources of test: the column split, and a table"):
        load({"train": _table(["train", "test"]), "test": _table(["test"])}, target="y")
    # A file of each split may have the column all the same.
    both = load({"train": _table(["train"]), "test": _table(["test"])}, target="y")
    assert both.test is not None
    assert len(both.test) == 12


def test_texts_are_split_by_a_column(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    rows = [f'{{"text": "words of {row}", "label": {row % 2}, "split": "{"dev" if row % 5 == 4 else "train"}"}}' for row in range(50)]
    file.write_text("\n".join(rows))
    data = load(file, text="text", target="label")
    assert data.valid is not None
    assert (len(data.train), len(data.valid)) == (40, 10)
    assert data.valid.where(0) == "t.jsonl:5"
    assert load(file, like=data.spec).valid is not None


def test_classes_of_test_rows_must_be_in_training() -> None:
    table = _table(["train", "test"])
    table["y"][1] = "new"
    with pytest.raises(DataError, match="row 1: the target y is 'new', which training has not"):
        load(table, target="y")
