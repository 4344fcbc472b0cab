"""Tars in WebDataset's layout: the same as a folder of the same pictures, here and from a web server."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import epochal
from epochal.data.inputs.values import access
from epochal.data.load import load
from epochal.errors import DataError, DownloadError
from tests.ranges import at_random, range_server

_COUNT = 60


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPOCHAL_CACHE", str(tmp_path / "cache"))


def _png(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _tar(path: Path, files: Sequence[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def _label(number: int, kind: str = "cls") -> bytes:
    return json.dumps({"label": number % 3, "other": 1}).encode() if kind == "json" else str(number % 3).encode()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four tars, whose labels are written in three ways, and whose numbers begin anew."""
    folder = tmp_path_factory.mktemp("shards")
    for shard in range(4):
        kind = ("cls", "txt", "json", "cls")[shard]
        files = [
            (f"{number:03d}.{end}", content)
            for number in range(_COUNT // 4)
            for end, content in (("png", _png(shard * 100 + number)), (kind, _label(number, kind)))
        ]
        _tar(folder / f"{'test' if shard == 3 else 'part'}-{shard:02d}.tar", files)
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pictures in folders, in the order of the tars."""
    folder = tmp_path_factory.mktemp("folder")
    for shard in range(4):
        for number in range(_COUNT // 4):
            file = folder / ("test" if shard == 3 else "train") / str(number % 3) / f"{shard}-{number:03d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(_png(shard * 100 + number))
    return folder


def _rows(data: epochal.Data) -> dict[str, list[tuple[bytes, int]]]:
    everything = {split: part.inputs[torch.arange(len(part))] for split, part in data.splits.items()}
    return {
        split: sorted((inputs[place].numpy().tobytes(), int(data.splits[split].targets[place])) for place in range(len(inputs)))
        for split, inputs in everything.items()
    }


def test_tars_are_as_a_folder_of_the_same_pictures(shards: Path, original: Path) -> None:
    data, folder = load(str(shards)), load(str(original))
    assert _rows(data) == _rows(folder)
    assert (data.outputs, data.input, data.task) == (folder.outputs, folder.input, folder.task)
    assert data.train.where(0) == "part-00.tar/000.png"
    pattern, one = load(f"{shards}/part-{{00..02}}.tar"), load(str(shards / "part-01.tar"))
    assert torch.equal(pattern.train.inputs[torch.arange(45)], data.train.inputs[torch.arange(45)])
    assert len(one.train) == 15
    assert len(load(f"{shards}/{{part-00,test-03}}.tar").splits["test"]) == 15
    assert len(load(str(shards), exclude=["part-00.tar/003.png"]).train) == 44


def test_they_are_read_from_a_server_once(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = load(str(shards))
    with range_server(shards, at_random(0.3, ("cut", "500", "short", "closed"), seed=1)) as server:
        url = f"{server.url}/{{part-00,part-01,part-02,test-03}}.tar"
        streamed = load(url, memory=1e-9)
        assert access(streamed.train.inputs) == "file"
        assert _rows(streamed) == _rows(local)
        assert streamed.fingerprint == local.fingerprint
        asked = len(server.asked)
        assert _rows(load(url)) == _rows(local)
        assert len(server.asked) == asked  # The index and the pictures are in the cache.
        # Where the cache has no room, they are read again, and are the same.
        monkeypatch.setenv("EPOCHAL_CACHE", str(tmp_path / "none"))
        monkeypatch.setenv("EPOCHAL_CACHE_SIZE", "0")
        again = load(url, memory=1e-9)
        assert _rows(again) == _rows(local)
        assert len(server.asked) > asked


def test_what_changes_after_it_was_indexed_is_refused(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPOCHAL_CACHE_SIZE", "0")
    path = _tar(tmp_path / "a.tar", [("1.png", _png(1)), ("1.cls", b"0"), ("2.png", _png(2)), ("2.cls", b"1")])
    data = load(str(path), memory=1e-9)
    content = bytearray(path.read_bytes())
    content[560] ^= 1
    path.write_bytes(content)
    monkeypatch.setattr("epochal.data.storage.remote.transfer.DELAYS", (0.0,))
    with pytest.raises(DownloadError, match=r"Bytes [\d,]+ to [\d,]+ of .*a.tar cannot be had: they are not what they were"):
        _ = data.train.inputs[torch.tensor([0])]


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ([("1.png", _png(1))], "the example 1.png has no label"),
        ([("1.cls", b"3")], "the example 1 has no picture"),
        ([("1.png", _png(1)), ("1.cls", b"3"), ("1.mp4", b"")], "the file 1.mp4 is of an unknown kind: 'mp4'"),
        ([("a/1.png", _png(1)), ("a/1.cls", b"3"), ("a/1.jpg", _png(1))], "the example a/1 has both a/1.png and a/1.jpg"),
        ([("1.png", _png(1)), ("1.cls", b"3")] * 2, "the example 1 has both 1.png and 1.png"),
        ([(f"{n}.{end}", _png(1) if end == "png" else b"3") for n in (1, 2, 1) for end in ("png", "cls")], "the example 1 comes twice"),
        ([("1.png", _png(1)), ("1.json", b'{"text": "cat"}')], "1.json has no label"),
        ([("1.png", _png(1)), ("1.json", b"{")], "1.json cannot be read"),
        ([("1.png", b"no picture"), ("1.cls", b"3"), ("2.png", _png(1)), ("2.cls", b"4")], "1.png is not a picture"),
        ([("1.png", b"no picture"), ("1.cls", b"3")], "1.png is not a picture"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, files: list[tuple[str, bytes]], problem: str) -> None:
    folder = tmp_path / "tars"
    folder.mkdir()
    _tar(folder / "x.tar", files)
    with pytest.raises(DataError, match=rf"x\.tar.*{problem}"):
        load(str(folder))


def test_a_damaged_tar_is_named(tmp_path: Path) -> None:
    path = _tar(tmp_path / "x.tar", [("1.png", _png(1)), ("1.cls", b"3")])
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(DataError, match=r"x\.tar cannot be read: it is truncated"):
        load(str(tmp_path))
    with pytest.raises(DataError, match=r"There is no .*y-01\.tar"):
        load(f"{tmp_path}/y-{{01..03}}.tar")


def test_a_tar_of_folders_is_still_unpacked(original: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "folders.tar", "w") as tar:
        tar.add(original, "folders")
        (tmp_path / "readme.txt").write_text("whose pictures these are")
        tar.add(tmp_path / "readme.txt", "folders/0/0-readme.txt")
    assert load(str(tmp_path / "folders.tar")).outputs == ("0", "1", "2")


@pytest.fixture
def run(shards: Path, tmp_path: Path) -> epochal.Run:
    return epochal.train(load(str(shards)), model="mlp", epochs=1, threads=1, quiet=True)


def test_a_model_is_evaluated_on_tars(shards: Path, run: epochal.Run) -> None:
    data = load(f"{shards}/{{part-00,part-01}}.tar", like=run.bundle.spec)
    assert data.outputs == run.bundle.spec.outputs
    assert len(data.train) == 30
