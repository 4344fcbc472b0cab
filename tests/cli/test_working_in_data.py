"""What is written below a folder of pictures never becomes data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name, level in (("dark", 60), ("bright", 200)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(10):
            pixels = np.random.default_rng(number).integers(level - 40, level + 40, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def test_runs_speeds_and_titled_pictures_are_no_data(
    call: Callable[..., tuple[int, str, str]], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    assert call("train", ".", "--model", "linear", "--epochs", "1")[0] == 0
    assert call("bench", ".", "--model", "linear", "--devices", "cpu", "--batch-sizes", "10", "--seconds", "0.01")[0] == 0
    assert call("predict", "runs/photos-1", "dark/0.png", "--picture", "dark/seen")[0] == 0
    code, out, err = call("evaluate", "runs/photos-1")
    assert (code, err) == (0, "")
    assert "n = 4" in out
    assert call("resume", "runs/photos-1", "--epochs", "2")[0] == 0
    code, out, _ = call("train", ".", "--model", "linear", "--epochs", "1")
    assert code == 0
    assert "2 classes; 14 train, 2 valid, 4 test" in out
    assert call("check", ".")[1].startswith("photos: 2 classes; 20 train")
    assert len(call("predict", "runs/photos-1", ".")[1].splitlines()) == 20


def test_titled_pictures_do_not_come_among_others(call: Callable[..., tuple[int, str, str]], photos: Path) -> None:
    assert call("train", photos, "--model", "linear", "--epochs", "1", "--out", "run")[0] == 0
    for _ in range(2):
        assert call("predict", "run", photos / "dark/0.png", "--picture", "seen")[0] == 0
    code, out, err = call("predict", "run", photos / "dark/0.png", "--picture", photos / "dark")
    assert (code, out) == (1, "")
    assert f"error: {photos / 'dark'} has other files in it.\nName a new folder" in err


def test_predicting_a_folder_skips_what_training_does_and_tells(call: Callable[..., tuple[int, str, str]], photos: Path) -> None:
    assert call("train", photos, "--model", "linear", "--epochs", "1", "--out", photos / "run")[0] == 0
    (photos / "dark/@eaDir").mkdir()
    for name in ("dark/@eaDir/0.jpg", "dark/.hidden.png", "dark/a.heic", "dark/b.HEIC", "notes.txt"):
        (photos / name).write_bytes(b"")
    code, out, err = call("predict", photos / "run", photos)
    assert (code, len(out.splitlines())) == (0, 20)
    assert err.splitlines() == [
        f"note: skipped 2 pictures in a format that is not read: {photos}/dark/a.heic, ...",
        f"note: skipped 1 file without the suffix of a picture: {photos}/notes.txt",
        f"note: skipped 1 item of the operating system: {photos}/dark/@eaDir",
        f"note: skipped 1 folder written by Epochal: {photos}/run",
    ]
    assert "was written by Epochal" in call("predict", photos / "run", photos / "run")[2]
