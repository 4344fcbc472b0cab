"""Texts from folders, tables and programs."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from epochal import check, load
from epochal.data.inputs.text.rule import TextRule
from epochal.data.inputs.values import in_memory
from epochal.errors import DataError, UnreadableError

GOOD, BAD = ["a good film", "很好看", "good, really good"], ["a bad film", "不好看", "bad, really bad"]


def folder(root: Path, encoding: str = "utf-8") -> Path:
    for split in ("train", "test"):
        for name, texts in (("good", GOOD), ("bad", BAD)):
            (root / split / name).mkdir(parents=True)
            for number, text in enumerate(texts):
                (root / split / name / f"{number}.txt").write_text(text if split == "train" else f"{text} too", encoding)
    return root


def test_a_folder_has_a_folder_of_texts_for_each_class(tmp_path: Path) -> None:
    data = load(folder(tmp_path))
    assert data.outputs == ("bad", "good")
    assert {name: len(part) for name, part in data.splits.items()} == {"train": 6, "test": 6}
    assert isinstance(data.input, TextRule)
    assert data.train.where(0) == "train/bad/0.txt"
    assert torch.equal(data.train.input(4), data.input.encode([GOOD[1]])[0])
    assert data.notes == ()


def test_pictures_may_have_texts_beside_them(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "about.txt").write_text("words")
        for number in range(2):
            Image.new("L", (8, 8), 20 * number + len(name)).save(tmp_path / name / f"{number}.png")
    assert load(tmp_path).input.kind == "picture"


def test_files_that_are_no_text_are_named_or_left_out(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "train" / "good" / "0.txt").write_bytes(b"ok\n\xff")
    with pytest.raises(UnreadableError, match=r"good/0\.txt, line 2: byte 0xFF is not UTF-8"):
        load(tmp_path)
    data = load(tmp_path, unreadable="count")
    assert data.excluded == ("train/good/0.txt",)
    assert len(data.train) == 5
    assert len(load(tmp_path, exclude=["train/good/0.txt", "train/bad/1.txt"]).train) == 4


def test_empty_texts_are_told(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "train" / "good" / "1.txt").write_text(" \n")
    assert load(tmp_path).notes == ("1 text is empty in train: train/good/1.txt",)
    with pytest.raises(DataError, match="all training texts are empty"):
        load(([" ", ""], ["a", "b"]))


def test_what_is_cut_off_is_told() -> None:
    texts = ["one two"] * 300 + [" ".join(map(str, range(1000)))]
    data = load((texts, [0, 1] * 150 + [1]), tokens="words")
    assert data.spec.shape == (2,)
    assert data.notes == ("of each text, up to 2 words are used: 62 % of all words of train are cut off",)


def test_programs_pass_strings() -> None:
    pairs = [(text, "good") for text in GOOD] + [(text, "bad") for text in BAD]
    texts, labels = [text for text, _ in pairs], [label for _, label in pairs]
    data = load((texts, labels))
    assert data.spec.describe() == f"texts: 2×{data.spec.shape[1]} int32, 2 classes; 6 train"
    for same in (pairs, (np.array(texts), np.array(labels)), (tuple(texts), labels), (np.array(texts, object), labels)):
        assert load(same).fingerprint == data.fingerprint
    split = load({"train": (texts, labels), "test": (["very good", "very bad"], ["good", "bad"])})
    assert len(split.test or ()) == 2
    scores = load((texts, [0.5, 1.0, 1.5, -2.0, 0.0, 3.0]))
    assert scores.task.name == "regression"
    with pytest.raises(DataError, match=r"the inputs of train\[1\] is of type NoneType, while others are texts"):
        load((["a", None], [0, 1]))
    with pytest.raises(DataError, match="texts has texts, which are not read as picture"):
        load((texts, labels), input="picture")


def test_the_same_texts_are_read_for_a_model() -> None:
    data = load((GOOD + BAD, [1, 1, 1, 0, 0, 0]))
    like = load((["unseen words, good", "bad"], [1, 0]), like=data.spec)
    assert like.input == data.spec.input
    values = in_memory(like.train.inputs)
    assert values is not None
    assert values.shape[1:] == data.spec.shape


def test_check_finds_copies_and_leakage() -> None:
    texts = [*GOOD, *BAD, "a Good film"]
    found = str(check(load({"train": (texts, [1, 1, 1, 0, 0, 0, 1]), "test": (["不好看", "other"], [0, 1])})))
    assert "error: 1 text is in both train and test" in found
    assert "warning: 1 text is present more than once" in found


def test_check_finds_nearly_equal_and_empty_texts() -> None:
    long = "one two three four five six seven eight nine ten eleven twelve"
    data = load({"train": ([long, f"{long} thirteen", "", "short", "longer"], [0, 1, 0, 1, 1]), "test": ([f"{long}!", "others"], [0, 1])})
    found = check(data)
    cases = {finding.kind: [case.examples for case in finding.cases] for finding in found.findings}
    assert cases["near leakage"] == [("train[0]", "train[1]", "test[0]")]
    assert cases["empty"] == [("train[2]",)]
    assert list(found.quarantine()) == ["train[2]"]


def test_check_reads_every_file(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "train" / "good" / "0.txt").write_bytes(b"\xff")
    (tmp_path / "test" / "bad" / "2.txt").write_bytes(b"a\0b")
    found = check(tmp_path)
    assert "error: 2 files cannot be read" in str(found)
    assert {"train/good/0.txt", "test/bad/2.txt"} <= found.quarantine().keys()


TABLE = 'text\tlabel\na good film\tgood\na "bad film\tbad\n很好看\tgood\n不好看\tbad\n'


class TestTables:
    def test_columns_have_names_or_numbers(self, tmp_path: Path) -> None:
        (tmp_path / "a.tsv").write_text(TABLE, "utf-8")
        data = load(tmp_path / "a.tsv", text="text", target="label")
        assert data.outputs == ("bad", "good")
        assert len(data.train) == 4
        assert data.train.where(1) == "a.tsv:3"
        assert load(tmp_path / "a.tsv", text="0", target="-1").fingerprint == data.fingerprint
        (tmp_path / "b.tsv").write_text(TABLE.partition("\n")[2], "utf-8")
        bare = load(tmp_path / "b.tsv", text="0", target="1")
        assert bare.fingerprint == data.fingerprint
        assert bare.notes == ("b.tsv has no header: its columns are numbers",)

    def test_several_files_and_columns(self, tmp_path: Path) -> None:
        for name in ("train", "valid", "test"):
            (tmp_path / f"{name}.csv").write_text('class,title,text\n1,"one, two",three\n2,four,"fi\nve"\n')
        data = load(
            tmp_path / "train.csv", text=["title", "text"], target="class",
            valid_data=tmp_path / "valid.csv", test_data=tmp_path / "test.csv",
        )  # fmt: skip
        assert list(data.splits) == ["train", "valid", "test"]
        assert data.outputs == ("1", "2")
        assert torch.equal(data.train.input(0), data.input.encode(["one, two three"])[0])  # type: ignore[attr-defined]

    def test_a_model_knows_its_columns(self, tmp_path: Path) -> None:
        (tmp_path / "a.tsv").write_text(TABLE, "utf-8")
        spec = load(tmp_path / "a.tsv", text="text", target="label").spec
        (tmp_path / "b.tsv").write_text("label\tid\ttext\ngood\t1\tfine\n", "utf-8")
        again = load(tmp_path / "b.tsv", like=spec)
        assert isinstance(spec.input, TextRule)
        assert torch.equal(again.train.input(0), spec.input.encode(["fine"])[0])
        (tmp_path / "c.tsv").write_text("label\treview\nbad\tpoor\n", "utf-8")
        assert len(load(tmp_path / "c.tsv", like=spec, text="review").train) == 1
        with pytest.raises(DataError, match="has no column 'text'"):
            load(tmp_path / "c.tsv", like=spec)

    def test_quantities(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("text;stars\nfine;3.5\nbad;0.5\nso so;2\n")
        assert load(tmp_path / "a.csv", text="text", target="stars").task.name == "regression"

    @pytest.mark.parametrize(
        ("content", "asked", "message"),
        [
            ("text\tlabel\na\tb\nc\n", {}, r"a\.tsv, line 3: the row has 1 value; there are 2 columns"),
            ("text\tlabel\na\tb\nc\t \n", {}, r"a\.tsv, line 3: the target is missing"),
            ("text\tlabel\na\tb\n", {"target": "lable"}, r"has no column 'lable'\.\nDid you mean 'label'"),
            ("a\tb\nc\tb\n", {"text": "7", "target": "1"}, r"has no column '7'\.\nKnown: 0, 1"),
            ("text\tlabel\na\tb\n", {"target": "text"}, "is both text and target"),
            ("text\tlabel\na\tb\n", {"target": ()}, "texts have one target column, not 0"),
            ("text\tlabel\n", {}, "has no rows"),
            ("", {}, r"a\.tsv is empty"),
            (b"text\tlabel\ncaf\xff\tb\n", {}, r"a\.tsv, line 2: it is not text in UTF-8"),
        ],
    )  # fmt: skip
    def test_bad_files(self, tmp_path: Path, content: str | bytes, asked: dict[str, str], message: str) -> None:
        (tmp_path / "a.tsv").write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(DataError, match=message):
            load(tmp_path / "a.tsv", **{"text": "text", "target": "label", **asked})  # type: ignore[arg-type]

    def test_tables_in_programs(self, tmp_path: Path) -> None:
        columns = {"text": GOOD + BAD, "label": ["good"] * 3 + ["bad"] * 3}
        data = load(columns, text="text", target="label")
        both = load({"train": columns, "test": columns}, text="text", target="label")
        assert list(both.splits) == ["train", "test"]
        lines = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in zip(*columns.values(), strict=True))
        (tmp_path / "a.jsonl").write_text(lines)
        table = "".join(f'"{text}",{label}\n' for text, label in [("text", "label"), *zip(*columns.values(), strict=True)])
        (tmp_path / "b.csv.gz").write_bytes(gzip.compress(table.encode()))
        for name in ("a.jsonl", "b.csv.gz"):
            assert load(tmp_path / name, text="text", target="label").fingerprint == data.fingerprint
        pandas = pytest.importorskip("pandas")
        assert load(pandas.DataFrame(columns), text="text", target="label").fingerprint == data.fingerprint

    def test_lines_can_be_left_out(self, tmp_path: Path) -> None:
        (tmp_path / "a.tsv").write_text(TABLE, "utf-8")
        assert len(load(tmp_path / "a.tsv", text="text", target="label", exclude=["a.tsv:2"]).train) == 3


def test_memory_is_limited() -> None:
    data, whole = load((GOOD, [0, 1, 0]), memory=1e-9), load((GOOD, [0, 1, 0]))
    assert in_memory(data.train.inputs) is None
    assert data.train.input(2).equal(whole.train.input(2))
    assert data.spec == whole.spec
