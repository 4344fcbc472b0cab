"""Lists of examples to leave out: written, read back, and followed before anything is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from epochal.data.exclude import NOTHING, as_exclusion, read_exclusion, write_exclusion
from epochal.data.load import load
from epochal.errors import DataError

NAMES = st.text(st.characters(exclude_characters="\0") | st.sampled_from('#"\\ \n\r\t\u2028\udcff'), min_size=1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reasons=st.dictionaries(NAMES, st.text()), head=st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_written_is_read_back(tmp_path: Path, reasons: dict[str, str], head: str) -> None:
    write_exclusion(tmp_path / "list.txt", reasons, head)
    found = read_exclusion(tmp_path / "list.txt")
    assert list(found.names) == list(reasons)
    lines = (tmp_path / "list.txt").read_text("utf-8").split("\n")
    for name, where in found.names.items():
        line = lines[int(where.rpartition(" ")[2]) - 1]
        assert line == name or line.startswith('"')


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_by_hand(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes('# bad ones\r\n\r\n  cat/1.jpg \r\n"#odd/\\n.jpg"\r\ncat/ü 2.jpg'.encode(encoding))
    assert dict(as_exclusion(path).names) == {
        "cat/1.jpg": f"{path}, line 3",
        "#odd/\n.jpg": f"{path}, line 4",
        "cat/ü 2.jpg": f"{path}, line 5",
    }
    assert as_exclusion(None) is NOTHING
    assert dict(as_exclusion(["a", "b"]).names) == {"b": "exclude[1]", "a": "exclude[0]"}


@pytest.mark.parametrize(
    ("content", "reported"),
    [
        (
            None,
            r"The list of examples to leave out, .*list.txt, cannot be read: No such file or directory\.\nCheck the setting data.exclude",
        ),
        (b"\xff", r"cannot be read: it is not text in UTF-8"),
        (b'a\n"b', r"list.txt, line 2: a line in quotation marks must be a JSON string"),
    ],
)
def test_a_list_that_is_none(tmp_path: Path, content: bytes | None, reported: str) -> None:
    if content is not None:
        (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(DataError, match=reported):
        as_exclusion(tmp_path / "list.txt")


@pytest.fixture
def photos(save_picture: Callable[..., Path], tmp_path: Path) -> Path:
    for seed, name in enumerate(
        f"{split}/{kind}/{number}.png" for split in ("train", "test") for kind in ("cat", "dog") for number in range(3)
    ):
        save_picture(f"photos/{name}", seed=seed)
    return tmp_path / "photos"


def test_files_that_are_left_out_are_not_read(photos: Path) -> None:
    (photos / "train/cat/0.png").write_bytes(b"damaged")
    with pytest.raises(DataError, match="0.png is not a picture"):
        load(photos)
    data = load(photos, exclude=["train/cat/0.png", "test/dog/1.png"])
    assert data.train.files == ["train/cat/1.png", "train/cat/2.png", "train/dog/0.png", "train/dog/1.png", "train/dog/2.png"]
    assert data.test is not None
    assert len(data.test) == 5
    assert data.excluded == ("train/cat/0.png", "test/dog/1.png")
    assert data.fingerprint != load(photos, exclude=["train/cat/0.png"]).fingerprint


def test_a_test_split_may_lose_a_class_but_not_all(photos: Path) -> None:
    data = load(photos, exclude=[f"test/cat/{number}.png" for number in range(3)])
    assert data.spec.task.class_counts["test"] == (0, 3)
    with pytest.raises(DataError, match=r"exclude leaves out all of the pictures of test\."):
        load(photos, exclude=[f"test/{kind}/{number}.png" for kind in ("cat", "dog") for number in range(3)])
    with pytest.raises(DataError, match=r"exclude leaves out all of the pictures of the class 'dog'\.\nLeave out fewer"):
        load(photos, exclude=[f"train/dog/{number}.png" for number in range(3)])


def test_a_name_that_is_not_there(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("# none\ntrain/cat/1.png\ntrain/cat/7.png\n")
    with pytest.raises(DataError, match=r"list.txt, line 3: there is no example 'train/cat/7.png' in .*photos\.\nRemove or fix that line"):
        load(photos, exclude=tmp_path / "list.txt")


class TestWithoutFiles:
    def test_by_place(self, blobs: tuple[Tensor, Tensor]) -> None:
        inputs, labels = blobs
        inputs[5] = torch.nan
        data = load((inputs, labels), exclude=["train[5]", "train[7]"])
        kept = [place for place in range(60) if place not in (5, 7)]
        assert torch.equal(torch.as_tensor(data.train.input(5)), inputs[6])
        assert data.train.positions.tolist() == kept
        assert data.train.where(6) == "train[8]"
        assert data.train.targets.tolist() == labels[kept].tolist()
        assert data.split(seed=3).train.where(0).startswith("train[")

    def test_errors_name_places_as_they_were(self, blobs: tuple[Tensor, Tensor]) -> None:
        inputs, labels = blobs
        inputs[9] = torch.nan
        with pytest.raises(DataError, match=r"The input train\[9\] has a NaN"):
            load((inputs, labels), exclude=["train[5]"])

    def test_words_and_datasets(self) -> None:
        data = load((torch.arange(4.0)[:, None], ["a", "b", "c", "b"]), exclude=["train[2]"])
        assert (data.outputs, data.train.targets.tolist()) == (("a", "b"), [0, 1, 1])

        class Wobbling(torch.utils.data.Dataset[Any]):
            def __len__(self) -> int:
                return 10

            def __getitem__(self, index: int) -> tuple[Tensor, int]:
                return torch.rand(3) + index, index % 2

        data = load(Wobbling(), exclude=["train[0]"])
        assert len(data.train) == 9
        assert float(data.train.input(0).min()) >= 1

    def test_what_is_not_there_or_all(self, blobs: tuple[Tensor, Tensor]) -> None:
        with pytest.raises(DataError, match=r"exclude\[0\]: there is no example 'train\[60\]' in"):
            load(blobs, exclude=["train[60]"])
        with pytest.raises(DataError, match=r"exclude leaves out all of train\."):
            load(blobs, exclude=[f"train[{place}]" for place in range(60)])
