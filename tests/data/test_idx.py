import gzip
import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from epochal.data.sources import idx
from epochal.data.sources.idx import FASHION_MNIST, KMNIST, MNIST, read_idx, read_idx_folder
from epochal.errors import DataError

STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx_bytes(array: Any, kind: Any = 8) -> Any:
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()


def write_set(folder: Any, train: Any = 5, test: Any = 3, side: Any = 4, top: Any = 9, ending: str = ".gz", stems: Any = STEMS) -> Any:
    """Write a data set of numbered pictures, with labels up to `top`."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = []
    for count in (train, test):
        labels = np.arange(count) % 10
        labels[-1] = top
        images = np.zeros((count, side, side), np.uint8)
        images[:, 0, 0] = np.arange(count) % 256
        arrays += [images, labels]
    for stem, array in zip(stems, arrays, strict=True):
        content = idx_bytes(array)
        (folder / f"{stem}{ending}").write_bytes(gzip.compress(content, 1) if ending else content)
    return arrays


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idx, "fetch", lambda name, *_, **__: pytest.fail(f"asked the network for {name}"))


class TestReadIdx:
    @settings(max_examples=40, deadline=None)
    @given(hnp.arrays(np.uint8, hnp.array_shapes(max_dims=4, max_side=6)), st.booleans())
    def test_round_trip(self, tmp_path_factory: pytest.TempPathFactory, array: Any, packed: bool) -> None:
        path = tmp_path_factory.getbasetemp() / "round.idx"
        path.write_bytes(gzip.compress(idx_bytes(array)) if packed else idx_bytes(array))
        found = read_idx(path)
        assert found.dtype == torch.uint8
        assert found.shape == array.shape
        assert (found.numpy() == array).all()

    @pytest.mark.parametrize("packed", [False, True])
    def test_a_file_cut_anywhere_is_refused(self, tmp_path: Path, packed: bool) -> None:
        content = idx_bytes(np.arange(60).reshape(3, 4, 5))
        content = gzip.compress(content) if packed else content
        path = tmp_path / "images.idx"
        for length in range(len(content)):
            path.write_bytes(content[:length])
            with pytest.raises(DataError, match=r"images\.idx (is damaged|is not an IDX file|cannot be read)"):
                read_idx(path)

    @pytest.mark.parametrize("packed", [False, True])
    def test_more_than_declared_is_refused(self, tmp_path: Path, packed: bool) -> None:
        content = idx_bytes(np.arange(60)) + b"x"
        (tmp_path / "a").write_bytes(gzip.compress(content) if packed else content)
        with pytest.raises(DataError, match=r"a is damaged: it declares 60 numbers and has more than 60\.\nCopy or download it again"):
            read_idx(tmp_path / "a")

    @pytest.mark.parametrize("packed", [False, True])
    def test_huge_declarations_are_refused_before_memory_is_taken(self, tmp_path: Path, packed: bool) -> None:
        content = bytes([0, 0, 8, 3]) + b"\xff" * 12 + bytes(100)
        (tmp_path / "a").write_bytes(gzip.compress(content) if packed else content)
        with pytest.raises(DataError, match=r"a is damaged: it declares 79,228,162,458,924,105,385,300,197,375 numbers, more than fit in"):
            read_idx(tmp_path / "a")

    def test_a_wrong_checksum_is_noticed(self, tmp_path: Path) -> None:
        content = bytearray(gzip.compress(idx_bytes(np.arange(60))))
        content[-8] ^= 1
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(DataError, match=r"a cannot be read: CRC check failed"):
            read_idx(tmp_path / "a")

    @pytest.mark.parametrize(
        ("content", "text"),
        [
            (b"\x89PNG etc", r"a is not an IDX file: it begins with 89 50 4e 47"),
            (b"", r"a is not an IDX file: it begins with nothing"),
            (bytes([0, 0, 8, 0]), r"a is not an IDX file"),
            (idx_bytes(np.arange(4), kind=0x0C), r"a contains int32; only uint8 can be read"),
            (idx_bytes(np.arange(4), kind=0x55), r"a contains unknown numbers"),
            (idx_bytes(np.zeros((0, 3))), r"a is damaged: it declares 0 numbers and has 0"),
        ],
    )
    def test_other_files(self, tmp_path: Path, content: Any, text: str) -> None:
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(DataError, match=text):
            read_idx(tmp_path / "a")

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"absent cannot be read: .*No such file"):
            read_idx(tmp_path / "absent")


class TestReadIdxFolder:
    @pytest.mark.parametrize("ending", ["", ".gz"])
    @pytest.mark.parametrize("stems", [STEMS, [stem.replace("-idx", ".idx") for stem in STEMS]])
    def test_any_set_of_four(self, tmp_path: Path, ending: str, stems: Any) -> None:
        images, labels, test_images, test_labels = write_set(tmp_path / "mine", ending=ending, stems=stems)
        found: Any = read_idx_folder(tmp_path / "mine")
        assert (found.name, found.classes) == ("mine", None)
        assert (found.parts["train"].inputs.numpy() == images[:, None]).all()
        assert (found.parts["test"].inputs.numpy() == test_images[:, None]).all()
        assert found.parts["train"].targets.tolist() == labels.tolist()
        assert found.parts["test"].targets.tolist() == test_labels.tolist()
        assert found.parts["train"].targets.dtype == torch.int64

    def test_missing_files_are_named(self, tmp_path: Path) -> None:
        write_set(tmp_path)
        (tmp_path / f"{STEMS[1]}.gz").unlink()
        with pytest.raises(DataError, match=r"lacks train-labels-idx1-ubyte \(packed with gzip or not\)\.\nPut all four"):
            read_idx_folder(tmp_path)

    def test_swapped_files_are_noticed(self, tmp_path: Path) -> None:
        write_set(tmp_path)
        (tmp_path / f"{STEMS[0]}.gz").write_bytes((tmp_path / f"{STEMS[1]}.gz").read_bytes())
        with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz has 1 axes instead of 3"):
            read_idx_folder(tmp_path)


@pytest.mark.usefixtures("no_network")
class TestPublished:
    @pytest.mark.parametrize("published", [MNIST, FASHION_MNIST, KMNIST])
    @pytest.mark.parametrize("torchvision", [False, True])
    def test_local_files_are_found(self, tmp_path: Path, published: idx.Published, torchvision: bool) -> None:
        folder = tmp_path / published.title / "raw" if torchvision else tmp_path / published.name
        write_set(folder, 60_000, 10_000, 28, ending="" if torchvision else ".gz")
        found: Any = published.read(tmp_path)
        assert (found.name, found.classes) == (published.name, published.classes)
        assert found.parts["train"].inputs.shape == (60_000, 1, 28, 28)
        assert found.parts["test"].targets.shape == (10_000,)

    @pytest.mark.parametrize("changes", [{"train": 59_999}, {"test": 9_999}, {"side": 27}, {"top": 10}])
    def test_another_data_set_is_refused(self, tmp_path: Path, changes: Any) -> None:
        write_set(tmp_path / "mnist", **{"train": 60_000, "test": 10_000, "side": 28, "ending": "", **changes})
        with pytest.raises(
            DataError, match=r"does not contain MNIST: (train|test) has pictures .*28×28 pixels, with labels up to 9\.\nMove"
        ):
            MNIST.read(tmp_path)

    def test_files_directly_in_the_data_folder_are_nobodys(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # They have the same names for all three sets: taking MNIST for KMNIST would go unnoticed.
        write_set(tmp_path)
        asked = []
        monkeypatch.setattr(idx, "fetch", lambda name, mirrors, *, sha256, size, to: asked.append((name, to)))
        with pytest.raises(KeyError):
            KMNIST.read(tmp_path)
        assert asked == [(f"{stem}.gz", tmp_path / "kmnist") for stem in STEMS]


class TestDownload:
    def test_only_what_is_missing_is_fetched(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_set(tmp_path / "there", 60_000, 10_000, 28)
        write_set(tmp_path / "data" / "mnist", 60_000, 10_000, 28)
        (tmp_path / "data" / "mnist" / f"{STEMS[3]}.gz").unlink()
        asked = []

        def fetch(name: str, mirrors: Any, *, sha256: Any, size: Any, to: Path) -> None:
            asked.append((name, mirrors, sha256, size, to))
            (to / name).write_bytes((tmp_path / "there" / name).read_bytes())

        monkeypatch.setattr(idx, "fetch", fetch)
        MNIST.read(tmp_path / "data")
        assert asked == [(f"{STEMS[3]}.gz", MNIST.mirrors, *MNIST.files[3], tmp_path / "data" / "mnist")]

    def test_without_a_data_folder_the_cache_is_used(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(idx, "cache_folder", lambda: tmp_path)
        write_set(tmp_path / "kmnist", 60_000, 10_000, 28)
        assert KMNIST.read(None).name == "kmnist"

    def test_every_set_is_pinned(self) -> None:
        for published in (MNIST, FASHION_MNIST, KMNIST, replace(MNIST, name="copy")):
            assert len(published.files) == 4
            assert len(published.classes) == 10
            assert all(len(bytes.fromhex(sha256)) == 32 and size > 4000 for sha256, size in published.files)
            assert len(published.mirrors) >= 2
            assert all(mirror.startswith("http") and mirror.endswith("/") for mirror in published.mirrors)


@pytest.mark.skipif("EPOCHAL_DATA" not in os.environ, reason="EPOCHAL_DATA is not set")
@pytest.mark.usefixtures("no_network")
def test_the_real_mnist() -> None:
    folder = Path(os.environ["EPOCHAL_DATA"])
    if not (folder / "mnist").exists() and not (folder / "MNIST").exists():
        pytest.skip("EPOCHAL_DATA has no MNIST")
    found: Any = MNIST.read(folder)
    train, test = found.parts["train"], found.parts["test"]
    assert train.targets.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert test.targets.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    # The mean of MNIST that everyone knows.
    assert round(train.inputs.double().mean().item() / 255, 4) == 0.1307
