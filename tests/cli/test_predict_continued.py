"""epochal predict --csv that was interrupted and goes on: nothing is forgotten, and nothing is put at another's place."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from epochal import load, train
from epochal.cli.main import cli
from epochal.predictor import Predictor
from tests.test_same_answers import LABELS, SETTINGS, SOUNDS
from tests.tones import save

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 9, 9), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    train((PIXELS, LABELS), model="linear", **{**SETTINGS, "out": tmp_path / "run"})
    (tmp_path / "files").mkdir()
    for place, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(tmp_path / "files" / f"{place:02}.png")
    (tmp_path / "files" / "03.png").write_bytes(b"no picture")
    return tmp_path


def _predict(folder: Path, monkeypatch: pytest.MonkeyPatch, stop: int = 0, *options: str) -> tuple[int, str]:
    stream = Predictor.stream

    def interrupted(self: Predictor, *arguments: object, **named: object) -> object:
        for place, answer in enumerate(stream(self, *arguments, **named)):  # type: ignore[arg-type]
            if stop and place == stop:
                raise KeyboardInterrupt
            yield answer

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "stream", interrupted)
        command = ["predict", str(folder / "run"), str(folder / "files"), "--csv", str(folder / "out.csv"), *options]
        found = CliRunner().invoke(cli, command)
    return found.exit_code, found.stderr


def test_what_could_not_be_read_before_is_still_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _predict(folder, monkeypatch, stop=10)[0] == 1
    code, said = _predict(folder, monkeypatch)
    assert code == 1
    assert "goes on after 10 rows" in said
    assert "1 of 30 could not be read" in said
    with (folder / "out.csv").open(newline="") as file:
        names = [row["file"] for row in csv.DictReader(file)]
    assert names == [str(path) for path in sorted((folder / "files").iterdir())]


def test_other_files_in_the_folder_are_another_table(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _predict(folder, monkeypatch, stop=10)[0] == 1
    Image.fromarray(PIXELS[0]).save(folder / "files" / "00a.png")
    code, said = _predict(folder, monkeypatch)
    assert code == 1
    assert "goes on" not in said
    with (folder / "out.csv").open(newline="") as file:
        names = [row["file"] for row in csv.DictReader(file)]
    assert names == [str(path) for path in sorted((folder / "files").iterdir())]


def test_other_windows_are_another_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sounds = [(sound, 8000) for sound in SOUNDS]
    train(load((sounds, LABELS), input="sound", seconds=0.1), model="conv", **{**SETTINGS, "out": tmp_path / "run"})
    for place, sound in enumerate(SOUNDS):
        save(tmp_path / "files" / f"{place:02}.wav", sound / 32768)
    assert _predict(tmp_path, monkeypatch, stop=10)[0] == 1
    assert "goes on" not in _predict(tmp_path, monkeypatch, 0, "--windows", "2")[1]
    (tmp_path / "out.csv").unlink()
    assert "goes on after 10 rows" in _predict(tmp_path, monkeypatch)[1]
