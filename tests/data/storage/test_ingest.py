"""Folders of pictures from the cache: the same pixels every way, made once, made again when anything is not as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from epochal.data.inputs.picture.decoding import decode, decode_to
from epochal.data.inputs.picture.read import StreamedPictures
from epochal.data.inputs.picture.rule import PictureRule
from epochal.data.inputs.values import access
from epochal.data.load import load
from epochal.data.storage import cache, ingest
from epochal.data.storage.cache import open_cache
from epochal.data.storage.fill import PackedInputs
from epochal.data.storage.ingest import Ingested, Wanted
from epochal.errors import DataError

NAMES = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(3)]
BYTES = len(NAMES) * 3 * 8 * 8


@pytest.fixture(autouse=True)
def _cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache on an endless disk, which no set is too small for."""
    monkeypatch.setenv("EPOCHAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ingest, "SMALL_SECONDS", 0)
    monkeypatch.setattr(cache, "SPARE", 0)


@pytest.fixture
def root(save_picture: Callable[..., Path], tmp_path: Path) -> Path:
    for seed, name in enumerate(NAMES):
        save_picture(f"photos/{name}", seed=seed)
    return tmp_path / "photos"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many files were decoded into packs, each time."""
    counts: list[int] = []

    def count(file: Path, paths: Any, *rest: Any) -> Any:
        counts.append(len(paths))
        return decode_to(file, paths, *rest)

    monkeypatch.setattr(ingest, "decode_to", count)
    return counts


def read(root: Path, names: list[str] = NAMES, training: int | None = None, **options: Any) -> Ingested:
    return ingest.ingest(Wanted(root, names, len(names) if training is None else training, **options))


def pixels(found: Ingested) -> Tensor:
    return found.inputs[torch.arange(len(found.inputs))]


def expected(root: Path, rule: PictureRule, names: list[str] = NAMES) -> Tensor:
    return decode([str(root / name) for name in names], rule)[0]


def test_made_once(root: Path, decoded: list[int]) -> None:
    first, second = read(root), read(root)
    assert decoded == [6]
    for found in (first, second):
        assert isinstance(found.inputs, Tensor)
        assert found.inputs.equal(expected(root, found.rule))
        assert (found.rule, found.notes, found.is_deep) == (PictureRule(shape=(3, 8, 8), fit="squash"), (), False)
    assert (first.hashes == second.hashes).all()
    pixels(first).add_(1)
    assert pixels(read(root)).equal(expected(root, first.rule))


def test_by_content_wherever_it_lies(root: Path, decoded: list[int], tmp_path: Path) -> None:
    read(root)
    root.rename(tmp_path / "moved")
    read(tmp_path / "moved")
    assert len(open_cache().entries()) == 1
    assert open_cache().entries()[0][1:3] == ("moved", (6, 3, 8, 8))
    read(tmp_path / "moved", size=4)
    assert len(open_cache().entries()) == 2


def test_a_changed_file_is_another_pack(root: Path, decoded: list[int], save_picture: Callable[..., Path]) -> None:
    before = read(root)
    save_picture(f"photos/{NAMES[2]}", seed=99)
    after = read(root)
    assert decoded == [6, 6]
    assert (before.hashes != after.hashes).tolist() == [False, False, True, False, False, False]
    assert pixels(after).equal(expected(root, after.rule))


def test_the_rule_is_that_of_measured_pictures(root: Path, decoded: list[int], save_picture: Callable[..., Path], monkeypatch: Any) -> None:
    monkeypatch.setattr(ingest, "SAMPLE", 1)
    save_picture("photos/odd.png", (8, 30))
    names = [*NAMES, "odd.png"]
    assert read(root, names, 6).rule.side == (8, 8)
    assert decoded == [7]
    found = read(root, names)
    assert decoded == [7, 7]
    assert found.rule.fit == "pad"
    next(open_cache().folder.glob("*.files")).unlink()
    again = read(root, names)  # The sample does not see that one is unlike the others.
    assert decoded == [7, 7, 7, 7]
    assert (again.rule, again.notes) == (found.rule, found.notes)
    assert pixels(again).equal(expected(root, found.rule, names))


@pytest.mark.parametrize("memory", [BYTES, BYTES - 1])
def test_a_known_rule_is_followed(root: Path, memory: int) -> None:
    rule = PictureRule(shape=(1, 5, 4), fit="crop")
    found = read(root, rule=rule, memory=memory)
    assert (found.rule, found.notes) == (rule, ())
    assert pixels(found).equal(expected(root, rule))


def test_streamed(root: Path) -> None:
    found = read(root, memory=BYTES - 1)
    assert isinstance(found.inputs, PackedInputs)
    assert access(found.inputs) == "file"
    assert found.notes == ("6 pictures would take 0.0 GB of memory: they are streamed from the cache (see data.memory)",)
    whole = expected(root, found.rule)
    assert found.inputs[torch.tensor([4, 1, 1])].equal(whole[[4, 1, 1]])
    assert pixels(found).equal(whole)
    with pytest.raises(IndexError):
        found.inputs[torch.tensor([6])]


class TestDamage:
    @staticmethod
    def spoil(change: Callable[[bytes], bytes]) -> None:
        (path,) = open_cache().folder.glob("*.pack")
        path.write_bytes(change(path.read_bytes()))

    @pytest.mark.parametrize(
        ("change", "reported"),
        [
            (lambda content: content[:-1], "their end is missing"),
            (lambda content: content[:300] + b"?" + content[301:], "those from 0 on have changed since they were written"),
        ],
        ids=["cut", "changed"],
    )
    def test_what_is_damaged_is_reported_and_made_again(
        self, root: Path, decoded: list[int], change: Callable[[bytes], bytes], reported: str
    ) -> None:
        read(root)
        self.spoil(change)
        found = read(root)
        (note,) = found.notes
        assert note.endswith(f".pack are damaged: {reported}; they were decoded again")
        assert pixels(found).equal(expected(root, found.rule))
        assert decoded == [6, 6]
        assert read(root).notes == ()

    def test_while_it_streams(self, root: Path) -> None:
        found = read(root, memory=1)
        self.spoil(lambda content: content[:300] + b"?" + content[301:])
        assert isinstance(found.inputs, PackedInputs)
        with pytest.raises(
            DataError, match=r"\.pack are damaged: example 1 has changed since it was written\.\nRemove them with `epochal cache clear`"
        ):
            found.inputs[torch.tensor([0, 1])]


class TestWithoutCache:
    @pytest.fixture(params=["file", "limit", "full"])
    def reported(self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        """Make the cache impossible; return the note about it."""
        if request.param == "file":
            (tmp_path / "cache").write_text("")
            return "Not a directory"
        if request.param == "limit":
            monkeypatch.setenv("EPOCHAL_CACHE_SIZE", "0")
            return "0.0 GB are more than its limit of 0.0 GB (EPOCHAL_CACHE_SIZE)"
        monkeypatch.setattr(cache, "SPARE", 1 << 60)
        return "No space left on device"

    def test_it_goes_on(self, root: Path, reported: str) -> None:
        found = read(root)
        assert found.notes == (f"decoded pictures are not cached: {reported}",)
        assert pixels(found).equal(expected(root, found.rule))

    def test_beyond_memory(self, root: Path, reported: str) -> None:
        found = read(root, memory=BYTES - 1)
        assert isinstance(found.inputs, StreamedPictures)
        assert found.notes == (
            f"decoded pictures are not cached: {reported}",
            "6 pictures would take 0.0 GB of memory: they are decoded again in each epoch (see data.size)",
        )
        assert pixels(found).equal(expected(root, found.rule))
        assert (found.hashes == read(root).hashes).all()


class TestFew:
    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ingest, "SMALL_SECONDS", 0.5)

    def test_they_are_kept_too(self, root: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
        first = read(root)
        assert [entry[1:3] for entry in open_cache().entries()] == [("photos", (6, 3, 8, 8))]
        monkeypatch.setattr(ingest, "decode", None)
        second, streamed = read(root), read(root, memory=1)
        assert decoded == []
        assert isinstance(streamed.inputs, PackedInputs)
        for found in (second, streamed):
            assert (found.rule, (found.hashes == first.hashes).all()) == (first.rule, True)
            assert pixels(found).equal(expected(root, found.rule))

    def test_damage_is_reported(self, root: Path) -> None:
        first = read(root)
        TestDamage.spoil(lambda content: content[:-1])
        found = read(root)
        assert found.notes[0].endswith("they were decoded again")
        assert pixels(found).equal(pixels(first))
        assert read(root).notes == ()

    def test_that_they_are_not_kept_is_reported_where_it_costs_time(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EPOCHAL_CACHE_SIZE", "0")
        assert read(root).notes == ()
        monkeypatch.setattr(ingest, "seconds_to_decode", lambda _: 0)
        monkeypatch.setattr(ingest, "SMALL_SECONDS", 1e-9)
        reported = "decoded pictures are not cached: 0.0 GB are more than its limit of 0.0 GB (EPOCHAL_CACHE_SIZE)"
        assert read(root).notes == (reported,)


@pytest.mark.parametrize("seconds", [0, 0.5])
def test_giants_are_named_when_they_are_read(
    root: Path, monkeypatch: pytest.MonkeyPatch, save_picture: Callable[..., Path], seconds: float
) -> None:
    monkeypatch.setattr(ingest, "SMALL_SECONDS", seconds)
    monkeypatch.setattr(ingest, "GIANT", 1_000_000)
    save_picture(f"photos/{NAMES[3]}", (2000, 600))
    assert read(root).notes[-1] == (
        "1 picture has more than 1 million pixels, which take seconds to read the first time: dog/0.png (2,000×600)"
    )
    assert not any("million" in note for note in read(root).notes)


@pytest.mark.parametrize("sample", [1, 100])
def test_all_bad_files_are_named(root: Path, monkeypatch: pytest.MonkeyPatch, sample: int) -> None:
    monkeypatch.setattr(ingest, "SAMPLE", sample)
    for name in NAMES[2:4]:
        (root / name).write_text("no")
    with pytest.raises(DataError, match=r"2 pictures cannot be read:\n  .*cat/2\.png is not a picture.*\n  .*dog/0\.png is not a picture"):
        read(root)
    assert list(open_cache().folder.glob("*")) == []


def test_a_run_does_not_depend_on_how_they_are_read(root: Path) -> None:
    """The description of the data, and so the model, is the same in memory and streamed."""
    kept, streamed = load(root), load(root, memory=1e-6)
    assert access(streamed.train.inputs) == "file"
    assert streamed.spec == kept.spec
    parts = kept.split(0.25, 0.25, 1), streamed.split(0.25, 0.25, 1)
    assert parts[0].spec == parts[1].spec
    for name, examples in parts[1].splits.items():
        assert access(examples.inputs) == "file"
        assert torch.equal(examples.inputs[torch.arange(len(examples))], parts[0].splits[name].inputs)  # type: ignore[arg-type]


def test_fingerprint_is_of_the_content(root: Path, save_picture: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(root).fingerprint
    monkeypatch.setenv("EPOCHAL_CACHE_SIZE", "0")
    assert load(root).fingerprint == load(root, memory=1e-6).fingerprint == first
    assert load(root, size=4).fingerprint != first
    save_picture(f"photos/{NAMES[2]}", seed=99)
    assert load(root).fingerprint != first
