"""Folders of sounds, and sounds that a program passes, through training, prediction and check."""

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from epochal import check, load, reproduce, resume, train
from epochal.checks.check import Check
from epochal.data.inputs.sound.rule import SoundRule
from epochal.data.inputs.values import in_memory
from epochal.errors import DataError, RecipeError
from epochal.run.evaluate import evaluate_run
from tests.outcome import outcome
from tests.quick import draw
from tests.tones import low_and_high, save, tone

SETTINGS: dict[str, Any] = {"epochs": 3, "batch_size": 8, "valid": 0.2, "threads": 1, "device": "cpu", "quiet": True}


def test_a_folder_is_read_with_a_rate_and_length_that_fit(tmp_path: Path) -> None:
    root = low_and_high(tmp_path / "sounds")
    data = load(root)
    assert data.notes == (
        "sounds of 0.20 to 0.24 s and 8,000 samples per second are read as 0.24 s with 8,000; --data-seconds and --rate change it",
    )
    assert data.spec.describe() == "sounds: 1904 int16, 2 classes; 40 train, 40 test"
    assert data.outputs == ("high", "low")
    assert data.train.where(0) == "train/high/0.wav"
    assert isinstance(data.input, SoundRule)
    again = load(root, like=data.spec)
    assert again.train.input(3).equal(data.train.input(3))
    other = load(root, rate=4000, seconds=0.1)
    assert other.spec.shape == (400,)
    assert "40 of 40 are longer, and cut off at both ends" in other.notes[0]
    streamed = load(root, memory=1e-6)
    assert in_memory(streamed.train.inputs) is None
    assert streamed.train.input(7).equal(data.train.input(7))
    assert streamed.fingerprint == data.fingerprint
    assert streamed.spec.input == data.spec.input


def test_mixed_rates_and_channels_become_the_most_common_one(tmp_path: Path) -> None:
    root = low_and_high(tmp_path / "sounds", 6, ("train",))
    save(root / "train/low/stereo.wav", np.stack([tone(400, 0.2, 44100)] * 2, 1), 44100)
    data = load(root)
    assert "8,000, 44,100 samples per second are read as 0.21 s with 8,000" in data.notes[0]
    assert data.train.input(12).abs().max() > 10000
    warnings = [finding.words for finding in check(root).findings if finding.kind == "rates"]
    assert warnings == ["1 sound: not of the most common rate, 8,000 samples per second"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return low_and_high(tmp_path_factory.mktemp("sounds") / "sounds")


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        draw(patch)
        found = train(folder, out=tmp_path_factory.mktemp("run") / "run", **SETTINGS)
    assert found.test is not None
    assert found.test.accuracy == 1
    return found.folder  # type: ignore[return-value]


def test_it_predicts_files_folders_and_arrays_alike(folder: Path, run: Path) -> None:
    from epochal import Bundle

    bundle = Bundle.load(run)
    files = [folder / "test/low/1.wav", folder / "test/high/2.wav"]
    found = bundle.predict(files)
    assert [one.label for one in found] == ["low", "high"]
    waves = [tone(400, 0.202, seed=1401), tone(1200, 0.204, seed=2202)]
    for what in ([(waves[0], 8000), (waves[1], 8000)], waves):
        assert [one.label for one in bundle.predict(what)] == ["low", "high"]
    assert bundle.predict((waves[1], 8000))[0].label == "high"
    assert bundle.predict((tone(1200, 0.2, 22050), 22050))[0].label == "high"
    inside = bundle.predict(folder / "test/low")
    assert {one.label for one in inside} == {"low"}
    assert len(inside) == 20
    raw = load(folder, like=bundle.spec).test
    assert raw is not None
    assert [one.label for one in bundle.predict(raw.inputs[torch.tensor([0, 39])])] == ["high", "low"]
    with pytest.raises(DataError, match="does not exist"):
        bundle.predict("none.wav")


def test_it_is_evaluated_and_comes_out_the_same(folder: Path, run: Path) -> None:
    assert evaluate_run(run, folder / "test").accuracy == 1
    assert reproduce(run, data=folder).divergence == ""


class _StopError(BaseException):
    """Like Ctrl-C without a handler."""


@pytest.mark.parametrize("step", ["plain", "traced"])
def test_it_resumes_to_the_bit(folder: Path, run: Path, tmp_path: Path, step: str) -> None:
    def stop(record: object) -> None:
        if type(record).__name__ == "EpochDone" and record.epoch == 2:  # type: ignore[attr-defined]
            raise _StopError

    with pytest.raises(_StopError):
        train(folder, out=tmp_path / "run", watchers=[stop], checkpoint_every=1e-9, step=step, **SETTINGS)
    assert resume(tmp_path / "run", quiet=True) is not None
    assert outcome(tmp_path / "run")["weights"] == outcome(run)["weights"]


def test_sounds_that_a_program_passes() -> None:
    waves = [tone((400, 1200)[number % 2], 0.2 + 0.001 * number, seed=number) for number in range(20)]
    labels = ["low", "high"] * 10
    data = load(([(wave, 8000) for wave in waves], labels), input="sound")
    assert data.spec.describe() == "sounds: 1752 int16, 2 classes; 20 train"
    same = load((waves, labels), input="sound", rate=8000)
    assert same.train.input(5).equal(data.train.input(5))
    by_rule = load({"train": (waves, labels), "test": (waves[:4], labels[:4])}, input=SoundRule(shape=(800,), rate=8000))
    assert by_rule.spec.shape == (800,)
    with pytest.raises(DataError, match=r"train\[0\] has no rate\.\nPass \(samples, rate\)"):
        load((waves, labels), input="sound")
    with pytest.raises(DataError, match="19 inputs but 20 targets"):
        load((waves[:19], labels), input="sound", rate=8000)
    with pytest.raises(DataError, match="are not a pair"):
        load(waves, input="sound")


def test_what_is_wrong_in_a_folder_is_found(tmp_path: Path) -> None:
    root = low_and_high(tmp_path / "sounds", 12)
    shutil.copy(root / "train/low/3.wav", root / "test/low/copy.wav")
    save(root / "train/low/silent.wav", np.zeros(1600))
    save(root / "train/high/clipped.wav", np.sign(tone(1200)))
    save(root / "train/high/long.wav", tone(1200, 4.0))
    save(root / "train/high/short.wav", tone(1200, 0.01))
    (root / "train/high/cut.wav").write_bytes((root / "train/high/1.wav").read_bytes()[:300])
    found = check(root)
    assert {finding.kind: len(finding.cases) for finding in found.findings} == {
        "unreadable": 1, "leakage": 1, "silent": 1, "clipped": 1, "short": 1, "long": 1, "reading": 0,
    }  # fmt: skip
    assert "cut.wav" in str(found.quarantine())
    # A list of the same files has the same findings, each with its examples.
    lines = [f"{file.relative_to(root)},{file.parent.name},{file.parents[1].name}" for file in sorted(root.rglob("*.wav"))]
    (root / "list.csv").write_text("\n".join(["file,label,split", *lines]))
    listed = check(root / "list.csv", file="file", target="label")

    def cases(found: Check) -> dict[str, list[tuple[set[str], str]]]:
        return {one.kind: sorted((set(case.examples), case.words) for case in one.cases) for one in found.findings}

    assert cases(listed) == cases(found)
    (root / "list.csv").unlink()
    with pytest.raises(DataError, match=r"train/high/cut\.wav is truncated"):
        load(root)
    assert load(root, unreadable="count").excluded == ("train/high/cut.wav",)


def test_each_file_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = low_and_high(tmp_path / "sounds", 6)
    opened = Counter[str]()
    plain = os.open

    def counted(path: Any, *others: Any, **more: Any) -> int:
        opened[str(path)] += 1
        return plain(path, *others, **more)

    monkeypatch.setattr(os, "open", counted)
    load(root)
    assert [opened[str(file)] for file in root.rglob("*.wav")] == [1] * 24


def test_what_is_not_held_in_memory_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = low_and_high(tmp_path / "sounds", 40)
    save(root / "train/low/stereo.wav", np.stack([tone(400, 0.2, 44100)] * 2, 1), 44100)
    whole = load(root)
    monkeypatch.setattr("epochal.data.sources.sounds._HELD_BYTES", 60_000)
    some = load(root)
    assert some.fingerprint == whole.fingerprint
    assert some.train.inputs[torch.arange(81)].equal(whole.train.inputs[torch.arange(81)])
    assert some.notes == whole.notes
    (root / "train/low/cut.wav").write_bytes((root / "train/low/1.wav").read_bytes()[:300])
    with pytest.raises(DataError, match=r"train/low/cut\.wav is truncated"):
        load(root)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    root = low_and_high(tmp_path / "sounds", 2, ("train",))
    with pytest.raises(RecipeError, match=r"The setting data\.size = 8 does not work with .*sounds: it is for folders of pictures"):
        load(root, size=8)
    with pytest.raises(RecipeError, match=r"The setting data\.rate = 8000 does not work with digits: it is for sounds"):
        load("digits", rate=8000)
    with pytest.raises(RecipeError, match="augment.shift and augment.flip are for pictures"):
        train(root, shift=2, **SETTINGS)
    with pytest.raises(RecipeError, match=r"data\.mean and data\.std are not for sounds"):
        train(root, mean=0.5, **SETTINGS)
    (root / "train/low/a.m4a").write_bytes(b"1")
    assert "1 sound is not used: unsupported format (save as WAV or FLAC): train/low/a.m4a" in load(root).notes
    shutil.rmtree(root / "train/low")
    with pytest.raises(DataError, match="only one class folder with sounds, 'high'"):
        load(root)
    for name in ("high", "low"):
        save(root / f"train/{name}/0.wav", np.zeros(100))
        save(root / f"train/{name}/1.wav", np.zeros(100))
    with pytest.raises(DataError, match="every sample of all training sounds is 0"):
        load(root)


def test_a_folder_of_other_files_is_none_for_a_model_of_sounds(folder: Path, run: Path, tmp_path: Path) -> None:
    for name in ("high", "low"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.linear_gradient("L").save(tmp_path / "photos" / name / "1.png")
    with pytest.raises(DataError, match="photos has no sounds"):
        evaluate_run(run, tmp_path / "photos")
    with pytest.raises(DataError, match="has no pictures"):
        load(folder, like=load(tmp_path / "photos").spec)
