"""Tables, texts and sounds are read from their files once, from archives too, and streamed where they do not fit in memory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from epochal import check, load, train
from epochal.data.inputs.table import values as table_values
from epochal.data.inputs.values import access, in_memory
from epochal.data.load import Data
from epochal.data.sources import manifest, sounds, table, text_tables, texts
from epochal.data.storage import kept
from epochal.data.storage.cache import open_cache
from epochal.errors import DataError
from tests.tones import low_and_high

ROWS = 60
TINY = 1e-7


class Case(NamedTuple):
    """What is loaded, with which options; a file of it, the bytes there to change, and the name of an example."""

    what: Path
    options: dict[str, Any]
    file: Path
    change: tuple[bytes, bytes]
    name: str


def _table(folder: Path) -> Case:
    rows = [f"{place % 7 / 4},{'abc'[place % 3]},{place % 5 or ''},{'no' if place % 2 else 'yes'}" for place in range(ROWS)]
    for name, some in (("train.csv", rows), ("test.csv", rows[:20])):
        (folder / name).write_text("\n".join(["width,kind,size,sold", *some]) + "\n")
    file = folder / "train.csv"
    return Case(file, {"target": "sold", "test_data": str(folder / "test.csv")}, file, (b"\n0.25", b"\n9.25"), "train[7]")


def _text_table(folder: Path) -> Case:
    file = folder / "said.tsv"
    file.write_text("\n".join(["words\tlabel", *(f"word {place % 9} and {place % 4}\t{place % 2}" for place in range(ROWS))]) + "\n")
    return Case(file, {"text": "words", "target": "label"}, file, (b"word 1", b"work 1"), "said.tsv:8")


def _texts(folder: Path) -> Case:
    for split in ("train", "test"):
        for name in ("good", "bad"):
            (folder / "said" / split / name).mkdir(parents=True)
            for place in range(6):
                (folder / "said" / split / name / f"{place}.txt").write_text(f"a {name} film, number {place}, to {split}")
    return Case(folder / "said", {}, folder / "said/train/good/3.txt", (b"film", b"flim"), "train/good/2.txt")


def _sounds(folder: Path) -> Case:
    root = low_and_high(folder / "tones", 6)
    file = root / "train/low/3.wav"
    return Case(root, {}, file, (file.read_bytes()[60:80], bytes(20)), "train/low/2.wav")


CASES: dict[str, Callable[[Path], Case]] = {"table": _table, "text table": _text_table, "texts": _texts, "sounds": _sounds}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    (tmp_path / "data").mkdir()
    return CASES[request.param](tmp_path / "data")


@pytest.fixture(autouse=True)
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keep everything, in a cache of this test; return what was read from files, by its name."""
    monkeypatch.setenv("EPOCHAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "QUICK_SECONDS", 0)
    names: list[str] = []

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            names.append(str(arguments[0]))
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(table, "read", counted(table.read))
    monkeypatch.setattr(text_tables, "read", counted(text_tables.read))
    for module in (texts, manifest):
        monkeypatch.setattr(module, "found_texts", counted(texts.found_texts))
    monkeypatch.setattr(sounds, "choose_rule", counted(sounds.choose_rule))
    return names


def same(one: Data, other: Data) -> bool:
    """Whether data are the same, wherever their inputs are."""
    assert one.spec == other.spec.model_copy(update={"name": one.name})
    assert one.splits.keys() == other.splits.keys()
    for a, b in zip(one.splits.values(), other.splits.values(), strict=True):
        everything = torch.arange(len(a))
        assert a.inputs[everything].nan_to_num(-1).equal(b.inputs[everything].nan_to_num(-1))
        assert a.targets.equal(b.targets)
        assert a.targets.dtype == b.targets.dtype
        assert [a.where(place) for place in range(len(a))] == [b.where(place) for place in range(len(b))]
        assert (a.hashes is None) == (b.hashes is None)
        assert a.hashes is None or b.hashes is None or (a.hashes == b.hashes).all()
    return True


def test_what_has_not_changed_is_not_read_again(case: Case, read: list[str]) -> None:
    first = load(case.what, **case.options)
    assert read
    read.clear()
    again = load(case.what, **case.options)
    assert read == []
    assert same(first, again)
    assert again.notes == first.notes
    assert in_memory(again.train.inputs) is not None


def test_a_changed_file_is_read_again(case: Case, read: list[str]) -> None:
    first = load(case.what, **case.options)
    status = case.file.stat()
    content = case.file.read_bytes()
    assert case.change[0] in content
    case.file.write_bytes(content.replace(*case.change, 1))
    os.utime(case.file, ns=(status.st_atime_ns, status.st_mtime_ns))
    read.clear()
    again = load(case.what, **case.options)
    assert read
    assert again.fingerprint != first.fingerprint


def test_other_options_are_read_by(tmp_path: Path, read: list[str]) -> None:
    case = _table(tmp_path)
    first = load(case.what, **case.options)
    read.clear()
    other = load(case.what, **{**case.options, "ignore": "size"})
    assert read
    assert other.spec.shape == (2,)
    assert first.spec.shape == (3,)


def test_what_does_not_fit_in_memory_is_streamed(case: Case, read: list[str]) -> None:
    streamed = load(case.what, memory=TINY, **case.options)
    assert access(streamed.train.inputs) == "file"
    assert "0.0 GB of memory: they are streamed from the cache (see data.memory)" in streamed.notes[-1]
    read.clear()
    again, whole = load(case.what, memory=TINY, **case.options), load(case.what, **case.options)
    assert read == []
    assert access(again.train.inputs) == "file"
    assert in_memory(whole.train.inputs) is not None
    assert same(streamed, again)
    assert same(streamed, whole)
    assert same(streamed.split(0.25, 0.25, seed=1), whole.split(0.25, 0.25, seed=1))


def test_a_model_does_not_depend_on_where_examples_are(case: Case) -> None:
    weights = []
    for memory in (None, TINY):
        run = train(case.what, memory=memory, epochs=2, batch_size=8, valid=0.25, threads=1, device="cpu", quiet=True, **case.options)
        weights.append(run.bundle.model.state_dict())
    assert weights[0].keys() == weights[1].keys()
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])


def test_examples_that_are_to_be_left_out_are(case: Case, tmp_path: Path) -> None:
    everything = load(case.what, **case.options)
    (tmp_path / "list.txt").write_text(f"# not these\n{case.name}\n")
    for memory in (None, TINY):
        data = load(case.what, exclude=tmp_path / "list.txt", memory=memory, **case.options)
        names = [data.train.where(place) for place in range(len(data.train))]
        assert case.name not in names
        assert sorted([*names, case.name]) == sorted(everything.train.where(place) for place in range(len(everything.train)))
        assert len(data.train) == len(everything.train) - 1
    (tmp_path / "list.txt").write_text("train[1000]\n")
    with pytest.raises(DataError, match=r"list\.txt, line 1: there is no example 'train\[1000\]'"):
        load(case.what, exclude=tmp_path / "list.txt", **case.options)


@pytest.mark.parametrize("form", ["zip", "tar", "gztar", "xztar"])
def test_archives_are_read_as_what_is_in_them(case: Case, tmp_path: Path, form: str) -> None:
    options = {name: value for name, value in case.options.items() if name != "test_data"}
    whole = load(case.what, **options)
    inside = case.what.parent if case.what.is_dir() else tmp_path / "alone"
    if not case.what.is_dir():
        inside.mkdir()
        shutil.copy(case.what, inside)
    archive = shutil.make_archive(str(tmp_path / "packed"), form, inside)
    packed = load(archive, **options)
    assert same(whole, packed)
    assert check(archive, **options).counts == {split: len(part) for split, part in whole.splits.items()}


@pytest.mark.parametrize("suffix", ["found", "pack"])
@pytest.mark.parametrize(
    "damage", [lambda content: content[:-3], lambda content: content[:70] + b"??" + content[72:]], ids=["cut", "changed"]
)
def test_what_is_damaged_is_read_again(case: Case, read: list[str], suffix: str, damage: Callable[[bytes], bytes]) -> None:
    first = load(case.what, **case.options)
    (path,) = open_cache().folder.glob(f"*.{suffix}")
    path.write_bytes(damage(path.read_bytes()))
    read.clear()
    again = load(case.what, **case.options)
    assert read
    assert same(first, again)
    assert any("they were read again" in note for note in again.notes) == (suffix == "pack")
    read.clear()
    assert load(case.what, **case.options).notes == first.notes
    assert read == []


def test_without_a_cache(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load(case.what, **case.options)
    monkeypatch.setenv("EPOCHAL_CACHE_SIZE", "0")
    shutil.rmtree(open_cache().folder)
    why = "0.0 GB are more than its limit of 0.0 GB (EPOCHAL_CACHE_SIZE)"
    found = load(case.what, **case.options)
    assert found.notes == (f"what was read is not cached: {why}", *whole.notes)
    if case.what.name == "tones":
        streamed = load(case.what, memory=TINY, **case.options)
        assert access(streamed.train.inputs) == "items"
        assert same(whole, streamed)
        assert streamed.notes[-1] == f"tones would take 0.0 GB of memory, and cannot be cached: {why}: sounds are read again in each epoch"
    else:
        with pytest.raises(DataError, match="would take 0.0 GB of memory, and cannot be cached: 0.0 GB are more than its limit"):
            load(case.what, memory=TINY, **case.options)


def test_what_is_read_quickly_is_not_kept(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "QUICK_SECONDS", 1000)
    load(case.what, **case.options)
    assert not open_cache().folder.exists()


def test_a_file_that_changes_while_it_is_read_is_not_kept(tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    case, plain = _table(tmp_path), table.read

    def changing(*arguments: Any) -> Any:
        found = plain(*arguments)
        case.file.write_bytes(case.file.read_bytes().replace(*case.change, 1))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(table, "read", changing)
        load(case.what, **case.options)
    read.clear()
    data = load(case.what, **case.options)
    assert read
    assert float(data.train.inputs[torch.tensor([1])][0, 0]) == 9.25


def test_a_table_is_the_same_in_blocks_and_from_a_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows beyond one chunk, columns that turn out late not to be numbers, and gaps."""
    rows = 5_500
    random = np.random.default_rng(0)
    lines = [
        "x,code,late,y",
        *(f"{random.normal():.4f},{place % 11:03},{place if place < 4000 else 'x'},{place % 2}" for place in range(rows)),
    ]
    lines[10] = ",005,,1"
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines) + "\n")
    whole = load(path, target="y", columns={"code": "category", "late": "category"})
    monkeypatch.setattr(table_values, "_BLOCK", 1)
    monkeypatch.setattr("epochal.data.inputs.table.store._IN_MEMORY", 100)
    shutil.rmtree(open_cache().folder)
    assert same(whole, load(path, target="y", columns={"code": "category", "late": "category"}))
    path.write_text("\n".join([*lines, "inf,001,x,1"]) + "\n")
    with pytest.raises(DataError, match=r"t\.csv, line 5,?502: column x is infinite"):
        load(path, target="y", columns={"code": "category", "late": "category"})


def test_groups_and_splits_are_kept_too(tmp_path: Path, read: list[str]) -> None:
    path = tmp_path / "t.csv"
    lines = [f"{place % 7},{place % 2},{'test' if place % 5 == 0 else 'train'},p{place % 12}" for place in range(ROWS)]
    path.write_text("\n".join(["x,y,split,person", *lines]) + "\n")
    first = load(path, target="y", group="person")
    read.clear()
    again, streamed = load(path, target="y", group="person"), load(path, target="y", group="person", memory=TINY)
    assert read == []
    assert first.listing.group == "person"
    for data in (again, streamed):
        assert data.listing == first.listing
        assert [*(data.train.group_names() or ())] == [*(first.train.group_names() or ())] != []
        assert same(first, data)
        assert same(first.split(0.25), data.split(0.25))


def _listed(case: Case, column: str = "label") -> Path:
    """A list of the files of a folder, which names class and another label of each, and the split."""
    files = sorted(file for file in case.what.rglob("*.*") if file.is_file())
    rows = [
        f"{file.relative_to(case.what.parent)},{file.parent.name},{place % 2},{file.parents[1].name}" for place, file in enumerate(files)
    ]
    path = case.what.parent / "list.csv"
    path.write_text("\n".join([f"file,{column},other,split", *rows]) + "\n")
    return path


@pytest.mark.parametrize("make", [_texts, _sounds])
def test_files_of_a_list_are_read_once(tmp_path: Path, read: list[str], make: Callable[[Path], Case]) -> None:
    case = make(tmp_path)
    what, options = _listed(case), dict[str, Any](file="file", target="label")
    first = load(what, **options)
    assert read
    assert {split: len(part) for split, part in first.splits.items()} == {"train": 12, "test": 12}
    read.clear()
    again, streamed = load(what, **options), load(what, memory=TINY, **options)
    assert read == []
    assert same(first, again)
    assert same(first, streamed)
    # Other labels are taken from the list.
    other = load(what, file="file", target="other")
    assert read == []
    assert other.outputs == ("0", "1")
    assert other.train.inputs[torch.arange(12)].equal(first.train.inputs[torch.arange(12)])
    # Another split is another choice of what training measures.
    lines = what.read_text().splitlines()
    last = max(place for place, line in enumerate(lines) if line.endswith(",train"))
    lines[last] = lines[last].removesuffix("train") + "test"
    what.write_text("\n".join(lines) + "\n")
    moved = load(what, **options)
    assert read
    assert {split: len(part) for split, part in moved.splits.items()} == {"train": 11, "test": 13}
    case.file.write_bytes(case.file.read_bytes().replace(*case.change, 1))
    read.clear()
    assert load(what, **options).fingerprint != moved.fingerprint
    assert read
