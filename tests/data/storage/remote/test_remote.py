"""Packed data, read from a web server, with faults."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import epochal
from epochal.data import packing
from epochal.data.feed import feed
from epochal.data.inputs.values import access
from epochal.data.load import Data, load
from epochal.data.slices import Slices
from epochal.data.storage.remote import rows, transfer
from epochal.data.storage.remote.index import NAME
from epochal.data.storage.remote.place import Store
from epochal.data.storage.remote.rows import RemoteRows
from epochal.errors import DataError, DownloadError, OutputError, RecipeError
from epochal.io.checksums import with_checksum
from tests.ranges import FAULTS, at_random, range_server

# The share of answers that have a fault, and how many faults are tried.
_SHARE = 0.35
_FAULTS = int(os.environ.get("EPOCHAL_REMOTE_FAULTS", "40"))

# Gigabytes of memory that no example fits in: data are streamed.
_NOTHING = 1e-9

_ROWS = 600


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPOCHAL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "DELAYS", (0.0,) * 20)
    monkeypatch.setattr(transfer, "_CHANGES", 20)


def _arrays() -> dict[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, _ROWS)
    pictures = draw.integers(0, 256, (_ROWS, 1, 12, 12)).astype(np.uint8) // 2 + (40 * labels[:, None, None, None]).astype(np.uint8)
    return {"train": (pictures, labels), "test": (pictures[:50], labels[:50])}


@pytest.fixture(scope="module")
def small_blocks() -> Iterator[None]:
    """Blocks of 7 rows, and shards of 11 blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "BLOCK_BYTES", 7 * 144 + 5)
        patch.setattr(packing, "SHARD_BYTES", 11 * 7 * 144 + 9)
        yield


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, small_blocks: None) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "data"
    epochal.pack(_arrays(), folder)
    return folder


def _same(data: Data, other: Data) -> None:
    assert (data.fingerprint, data.outputs, data.input) == (other.fingerprint, other.outputs, other.input)
    for split, part in other.splits.items():
        everything = torch.randperm(len(part), generator=torch.Generator().manual_seed(1))
        assert torch.equal(data.splits[split].inputs[everything], part.inputs[everything])
        assert torch.equal(data.splits[split].targets, part.targets)


def test_packed_data_are_the_same(packed: Path) -> None:
    original, again = load(_arrays()), load(str(packed))
    _same(again, original)
    assert again.split(seed=3).spec == original.split(seed=3).spec


def test_they_are_streamed_from_a_server_in_the_same_order(packed: Path) -> None:
    with range_server(packed) as server:
        streamed = load(server.url, memory=_NOTHING)
        assert access(streamed.train.inputs) == "file"
        whole = load(_arrays())
        _same(streamed, load(_arrays()))
        found = [epochal.train(one, model="mlp", epochs=2, batch_size=32, seed=5, threads=1, quiet=True) for one in (whole, streamed)]
    first, second = ({name: value.clone() for name, value in run.bundle.model.state_dict().items()} for run in found)
    assert all(torch.equal(first[name], second[name]) for name in first)


def _kept(data: Data) -> RemoteRows:
    """Return the rows of data, once all that has come is in the cache."""
    rows = data.train.inputs
    while not isinstance(rows, RemoteRows):
        rows = rows.inputs  # type: ignore[attr-defined]
    until = time.monotonic() + 60
    while rows._coming and time.monotonic() < until:
        time.sleep(0.001)
    assert not rows._coming
    return rows


def test_rows_that_are_in_the_cache_are_not_asked_for_again(packed: Path) -> None:
    with range_server(packed) as server:
        data = load(server.url, memory=_NOTHING)
        _ = data.train.inputs[torch.arange(len(data.train))]
        asked = len(server.asked)
        _ = data.train.inputs[torch.randperm(len(data.train))]
        _kept(data)
        again = load(server.url, memory=_NOTHING)
        _ = again.train.inputs[torch.randperm(len(data.train))]
    assert [name for name, *_ in server.asked[asked:]] == [f"/{NAME}"]


def test_what_a_sample_needs_is_what_is_read(packed: Path) -> None:
    with range_server(packed) as server:
        data = load(server.url, memory=_NOTHING)
        spec = data.split().spec
        begun = sum(end - begin for name, begin, end in server.asked if "shard" in name)
    assert begun < 0.2 * _ROWS * 144  # Its statistics were measured when it was packed.
    assert spec == load(_arrays()).split().spec


@pytest.mark.usefixtures("quick_retries")
def test_faults_never_give_a_wrong_example(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = torch.from_numpy(_arrays()["train"][0])
    faults, round_ = dict.fromkeys(FAULTS, 0), 0
    # A cache with room for a third, so that blocks are asked for again.
    monkeypatch.setenv("EPOCHAL_CACHE_SIZE", str(40_000 / 1e9))
    while sum(faults.values()) < _FAULTS:
        with range_server(packed, at_random(_SHARE, seed=round_)) as server:
            data = load(server.url, memory=_NOTHING)
            for places in torch.randperm(_ROWS, generator=torch.Generator().manual_seed(round_)).split(64):
                assert torch.equal(data.train.inputs[places], pictures[places])
            for fault in server.faults:
                faults[fault] += 1
        round_ += 1
    print(f"{sum(faults.values())} faults, no wrong example: {faults}")


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize(
    ("fault", "reason", "fix"),
    [
        ("500", "the server answers 500", "Check the network and the server"),
        ("short", r"only [\d,]+ bytes came", "Check the network and the server"),
        ("changed", "they are not what they were", "pack the data again"),
        ("elsewhere", "the server sends another range", "Check the network and the server"),
        ("closed", "isconnected|closed", "Check the network and the server"),
    ],
)
def test_what_cannot_be_had_is_an_error_with_its_range(packed: Path, fault: str, reason: str, fix: str) -> None:
    with range_server(packed, lambda name, *_: fault if "shard-00002" in name else "") as server:
        data = load(server.url, memory=_NOTHING)
        assert len(data.train.inputs[torch.arange(10)]) == 10
        with pytest.raises(
            DownloadError, match=rf"Bytes [\d,]+ to [\d,]+ of {server.url}/shard-00002.* cannot be had: .*({reason})"
        ) as error:
            _ = data.train.inputs[torch.arange(_ROWS)]
    assert fix in error.value.fix


def test_a_damaged_cache_is_fetched_again(packed: Path) -> None:
    data = load(str(packed), memory=_NOTHING)
    everything = torch.arange(_ROWS)
    right = data.train.inputs[everything].clone()
    _kept(data)
    path = next(Path(os.environ["EPOCHAL_CACHE"]).rglob("*.blocks"))
    content = bytearray(path.read_bytes())
    for place in range(len(content) - 60_000, len(content), 997):
        content[place] ^= 255
    with path.open("r+b") as file:
        file.write(content)
    assert torch.equal(data.train.inputs[everything], right)
    assert torch.equal(load(str(packed), memory=_NOTHING).train.inputs[everything], right)


def test_where_some_cannot_be_had_others_are_not_waited_for(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def fails(store: Store, name: str, begin: int, *_: object) -> bytes:
        asked.append(begin)
        time.sleep(0.05)
        raise DownloadError(f"{name} cannot be had.", "Try again.")

    monkeypatch.setattr(rows, "_REQUESTS", 2)
    monkeypatch.setattr(rows, "_RANGE", 1)
    with range_server(packed) as server:
        data = load(server.url, memory=_NOTHING)
        monkeypatch.setattr(rows, "fetch", fails)
        with pytest.raises(DownloadError, match="cannot be had"):
            _ = data.train.inputs[torch.arange(_ROWS)]
        _kept(data)
    assert 1 <= len(asked) <= 4 < _ROWS // 7


def test_a_cache_that_is_no_folder_keeps_nothing(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("EPOCHAL_CACHE", str(tmp_path / "file"))
    _same(load(str(packed), memory=_NOTHING), load(_arrays()))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("size", ["0", "0.00003"])
def test_data_larger_than_the_cache(packed: Path, size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPOCHAL_CACHE_SIZE", size)
    data = load(str(packed), memory=_NOTHING)
    pictures = torch.from_numpy(_arrays()["train"][0])
    for epoch in range(2):
        places = torch.randperm(_ROWS, generator=torch.Generator().manual_seed(epoch))
        assert torch.equal(data.train.inputs[places], pictures[places])
    used = sum(file.stat().st_size for file in Path(os.environ["EPOCHAL_CACHE"]).rglob("*.blocks"))
    assert used <= float(size) * 1e9


def test_processes_share_a_cache(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPOCHAL_CACHE_SIZE", "0.00004")
    pictures, children = torch.from_numpy(_arrays()["train"][0]), []
    for number in range(3):
        child = os.fork()
        if not child:
            try:
                data = load(str(packed), memory=_NOTHING)
                for turn in range(6):
                    places = torch.randperm(_ROWS, generator=torch.Generator().manual_seed(10 * number + turn))
                    assert torch.equal(data.train.inputs[places], pictures[places])
            except (AssertionError, DataError):
                os._exit(1)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]


def test_packing_goes_on_where_it_was_cut_off(tmp_path: Path, small_blocks: None) -> None:
    first = epochal.pack(_arrays(), tmp_path / "data")
    (tmp_path / "data" / NAME).unlink()
    shards = sorted((tmp_path / "data").glob("shard*"))
    shards[1].unlink()
    again = epochal.pack(_arrays(), tmp_path / "data")
    assert (first.reused, again.reused) == (0, len(shards))
    with pytest.raises(OutputError, match=f"{NAME} exists already"):
        epochal.pack(_arrays(), tmp_path / "data")


def test_nothing_is_packed_among_other_files(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"has other files, such as mine.txt"):
        epochal.pack(_arrays(), tmp_path)


def _changed(packed: Path, to: Path, change: dict[str, Any]) -> Path:
    index = json.loads((packed / NAME).read_text())
    index.pop("sha256")
    to.mkdir()
    for file in packed.iterdir():
        (to / file.name).symlink_to(file)
    (to / NAME).unlink()
    (to / NAME).write_text(json.dumps(with_checksum({**index, **change})))
    return to


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"block_rows": 10**15}, "blocks are too large"),
        ({"shape": [1, 12, 13]}, "not that of its rule"),
        ({"shard_blocks": 4}, "shards for 650 examples"),
        ({"shards": []}, "0 shards for 650 examples"),
        ({"extra": 1}, "Extra inputs"),
        ({"format": "epochal packed data, version 2"}, "format"),
        ({"examples": {"name": "../../secret", "size": 10, "sha256": "0" * 64}}, "impossible name"),
    ],
)
def test_an_index_is_not_believed(packed: Path, tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=f"cannot be used: .*{reason}"):
        load(str(_changed(packed, tmp_path / "changed", change)))


def test_a_damaged_index_is_refused(packed: Path, tmp_path: Path) -> None:
    (tmp_path / NAME).write_text((packed / NAME).read_text().replace("picture", "pictures", 1))
    with pytest.raises(DataError, match="it has changed since it was written"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://me:secret@example.org/data", "has a user or password"),
        ("https://example.org/data?X-Amz-Signature=secret", "has a query"),
        ("ftp://example.org/data", "unknown kind"),
        ("http:///data", "names no server"),
    ],
)
def test_urls_with_keys_are_refused_without_showing_them(url: str, problem: str) -> None:
    with pytest.raises(DataError, match=problem) as error:
        load(url)
    assert "secret" not in str(error.value)


def test_a_url_without_an_index(tmp_path: Path) -> None:
    with range_server(tmp_path) as server, pytest.raises(DataError, match=f"There is no {server.url}/{NAME}"):
        load(server.url)


def test_a_web_server_is_only_read() -> None:
    with pytest.raises(OutputError, match="web servers are only read"):
        epochal.pack(_arrays(), "http://127.0.0.1:9/data")


def test_settings_of_reading_come_too_late(packed: Path) -> None:
    with pytest.raises(RecipeError, match=r"data.size comes too late"):
        load(str(packed), size=20)
    assert load(str(packed), size=12).input.shape == (1, 12, 12)
    with pytest.raises(RecipeError, match="it is for tables"):
        load(str(packed), target="label")


def test_examples_are_left_out_and_grouped_by_name(packed: Path) -> None:
    data = load(str(packed), exclude=["train[3]"], memory=_NOTHING)
    assert len(data.train) == _ROWS - 1
    assert data.fingerprint != load(str(packed)).fingerprint
    assert torch.equal(data.train.inputs[torch.tensor([3])], torch.from_numpy(_arrays()["train"][0][4:5]))


def test_the_hub(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    # A server that answers as the hub does: what there is of a data set, and its files by their addresses.
    known = tmp_path / "api/datasets/me/data"
    known.parent.mkdir(parents=True)
    known.write_text(
        json.dumps({"id": "me/data", "sha": "0" * 40, "siblings": [], "private": False, "tags": [], "downloads": 0, "likes": 0})
    )
    files = tmp_path / "datasets/me/data/resolve/main"
    files.mkdir(parents=True)
    (files / "below").symlink_to(packed)
    monkeypatch.setenv("HF_TOKEN", "secret")
    with range_server(tmp_path) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}")
        data = load("hf://datasets/me/data/below", memory=_NOTHING)
        _same(data, load(_arrays()))
    assert not any("tree" in name for name, *_ in server.asked)


def test_processes_fetch_each_block_once(packed: Path) -> None:
    pictures, children = torch.from_numpy(_arrays()["train"][0]), []
    with range_server(packed, latency=0.01) as server:
        load(server.url, memory=_NOTHING)
        for rank in range(2):
            child = os.fork()
            if not child:
                data = load(server.url, memory=_NOTHING)
                batches = feed(data.train, 32, torch.device("cpu"), shuffle_seed=4, slices=Slices(rank, 2))
                right = all(torch.equal(one.inputs, pictures[one.places]) for epoch in (1, 2) for one in batches.epoch(epoch))
                os._exit(0 if right else 1)
            children.append(child)
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
        asked = [(name, place) for name, begin, end in server.asked if "shard" in name for place in range(begin, end)]
    assert len(asked) == len(set(asked))


def test_a_killed_process_leaves_no_claim(packed: Path) -> None:
    rows = _kept(load(str(packed), memory=_NOTHING))
    child = os.fork()
    if not child:
        again = load(str(packed), memory=_NOTHING)
        inner = again.train.inputs.inputs.inputs  # type: ignore[attr-defined]
        os._exit(0 if inner.blocks.claim(range(3)) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert rows.blocks.claim(range(2, 5))
