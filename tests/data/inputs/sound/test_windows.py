"""Long recordings: cut into windows, from each of which a network predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from epochal import Bundle, load, train
from epochal.data.inputs.sound.rule import SoundRule
from epochal.data.load import Data
from epochal.errors import DataError, RecipeError
from epochal.models.windows import Windows
from epochal.predict import read_items
from epochal.tasks.multi_label import MultiLabel
from epochal.tasks.regression import Regression
from epochal.tasks.single_label import SingleLabel
from tests.tones import save, tone

RULE = SoundRule(shape=(4, 1000), rate=8000)
SETTINGS: dict[str, Any] = {"epochs": 8, "batch_size": 16, "lr": 0.005, "quiet": True, "device": "cpu"}


def recording(seed: int, noise: float = 0.01) -> tuple[NDArray[np.float64], int]:
    """A second with a short tone anywhere in it, and whether the tone is high."""
    random = np.random.default_rng(seed)
    kind = seed % 2
    event = tone(1500 if kind else 500, 0.1, seed=seed)
    whole = random.normal(0, noise, 8000)
    begin = random.integers(len(whole) - len(event) + 1)
    whole[begin : begin + len(event)] += event
    return whole, kind


def recordings(count: int, first: int = 0, noise: float = 0.01, **settings: Any) -> Data:
    """Recordings with the tone anywhere, read as 0.15 s."""
    made = [recording(seed, noise) for seed in range(first, first + count)]
    return load(([wave for wave, _ in made], [kind for _, kind in made]), input="sound", rate=8000, seconds=0.15, **settings)


@pytest.mark.parametrize(
    ("length", "begins"),
    [(400, [300]), (1000, [0]), (1001, [0, 1]), (1500, [0, 500]), (1501, [0, 250, 501]), (2500, [0, 500, 1000, 1500]), (9000, None)],
)
def test_windows_cover_all_that_they_can(length: int, begins: list[int] | None) -> None:
    wave = np.arange(1, length + 1, dtype=np.int16)
    windows = RULE.read(wave)[0]
    assert windows.shape == (4, 1000)
    if length < 1000:
        assert windows[0].tolist() == [0] * 300 + wave.tolist() + [0] * 300
        assert not windows[1:].any()
        return
    found = [int(window[0]) - 1 for window in windows if window.any()]
    assert found == (begins or [0, 2666, 5333, 8000])
    for begin, window in zip(found, windows, strict=False):
        assert window.tolist() == wave[begin : begin + 1000].tolist()


def test_one_window_is_the_middle() -> None:
    wave = np.arange(1, 2001, dtype=np.int16)
    assert RULE.with_windows(1).read(wave)[0].tolist() == wave[500:1500].tolist()
    assert RULE.with_windows(1).shape == (1000,)
    with pytest.raises(DataError, match="200,000 windows of 1,000 samples cannot be read.\nTake 1 to 100,000 windows"):
        RULE.with_windows(200_000)


@pytest.mark.parametrize(
    "task",
    [
        SingleLabel(outputs=("a", "b", "c"), counts={"train": (1, 1, 1)}),
        MultiLabel(outputs=("a", "b", "c"), counts={"train": (1, 1, 1)}),
        Regression(outputs=("a", "b", "c")),
    ],
    ids=lambda task: task.name,
)
def test_what_windows_give_is_averaged(task: Any) -> None:
    """But for silent ones, which padding has too. Of classes and labels it is the evidence that is averaged."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(40 * 13, 3))
    windows = torch.cat([RULE.read(tone(300 + 500 * seed, 1.0, seed=seed)) for seed in range(3)])
    windows[1, 2:] = 0
    windows[2] = 0
    seen = RULE.preprocess()(windows)
    alone = net(seen.flatten(0, 1).unsqueeze(1)).unflatten(0, (3, 4))
    found = Windows(net, task)(seen)
    for row, used in zip(found, (alone[0], alone[1, :2], alone[2]), strict=True):
        wanted = used.mean(0) if task.name == "regression" else used.exp().mean(0).log()
        torch.testing.assert_close(row, wanted, atol=1e-5, rtol=1e-5)


def test_a_window_that_is_sure_outweighs_many_that_are_not() -> None:
    outputs, shares = torch.zeros(1, 20, 2), torch.full((1, 20, 1), 0.05)
    outputs[0, 7] = torch.tensor([-5.0, 12.0])
    assert SingleLabel(outputs=("a", "b"), counts={}).average(outputs, shares).softmax(1)[0, 1] > 0.99
    assert MultiLabel(outputs=("a", "b"), counts={}).average(outputs, shares).sigmoid()[0].gt(0.5).tolist() == [False, True]


def test_an_event_is_learned_wherever_it_is(tmp_path: Path) -> None:
    data = recordings(120, windows=13)
    assert data.notes[-1].endswith("120 of 120 are longer, and cut into up to 13 windows; --data-seconds and --rate change it")
    run = train(data, out=tmp_path / "run", **SETTINGS)
    assert run.test is not None
    assert (run.test.accuracy or 0) > 0.9
    middle = train(recordings(120), **SETTINGS)
    assert middle.test is not None
    assert (middle.test.accuracy or 0) < 0.8  # Most of the tones are not there.

    wave, kind = recording(999)
    file = save(tmp_path / "new.wav", wave)
    kept = Bundle.load(tmp_path / "run")
    assert [kept.predict(what)[0].label for what in (file, (wave, 8000))] == [str(kind)] * 2
    assert kept.predict(file)[0] == run.predict(file)[0]


def test_a_model_of_short_sounds_predicts_from_long_ones(tmp_path: Path) -> None:
    """Windows are asked for when it is used. Silence between the sounds counts nothing; noise that it has never heard would."""
    clips = [(tone(1500 if seed % 2 else 500, 0.1, seed=seed), 8000) for seed in range(120)]
    run = train(load((clips, [seed % 2 for seed in range(120)]), input="sound", seconds=0.15), time_shift=0.1, **SETTINGS)
    many = recordings(60, 500, 0, like=run.bundle.with_windows(13).spec)
    assert (run.bundle.with_windows(13).evaluate(many).accuracy or 0) > 0.95
    one = recordings(60, 500, 0, like=run.bundle.spec)
    assert (run.bundle.evaluate(one).accuracy or 0) < 0.8
    assert run.bundle.with_windows(13).with_windows(1).predict(clips[0]) == run.predict(clips[0])

    kept = Bundle.load(run.bundle.with_windows(3).save(tmp_path / "model"))
    assert kept.spec.input.windows == 3
    assert kept.predict((recording(7)[0], 8000)) == run.bundle.with_windows(3).predict((recording(7)[0], 8000))
    with pytest.raises(DataError, match="This model takes pictures, which are not cut into windows"):
        train("digits", epochs=1, max_steps=1, quiet=True).bundle.with_windows(2)


@pytest.mark.parametrize("memory", [None, 1e-9])
def test_files_have_windows_too(memory: float | None, tmp_path: Path) -> None:
    for seed in range(8):
        save(tmp_path / ("high" if seed % 2 else "low") / f"{seed}.wav", recording(seed)[0])
    data = load(tmp_path, seconds=0.15, windows=5, memory=memory)
    assert data.train.inputs[torch.arange(8)].shape == (8, 5, 1200)
    assert data.train.input(0).equal(data.input.read(tmp_path / "high" / "1.wav")[0])
    with pytest.raises(RecipeError, match=r"data\.windows = 5 does not work with digits: it is for sounds"):
        load("digits", windows=5)


def test_what_is_cut_off_at_prediction_is_reported(tmp_path: Path) -> None:
    rule = SoundRule(shape=(8000,), rate=8000)
    files = [save(tmp_path / f"{seconds}.wav", tone(400, seconds)) for seconds in (0.5, 1.0, 4.0)]
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    items = [*files, tmp_path / "broken.wav", (np.zeros(32000, np.int16), 8000)]
    (note,) = read_items(items, rule, "count").notes
    assert note == "2 of 5 sounds are longer than the 1.00 s that are read: 75 % of these is left out; --windows 4 reads all"
    assert read_items(items, rule.with_windows(4), "count").notes == ()
    assert "25 % of these" in read_items(items, rule.with_windows(3), "count").notes[0]
    assert read_items(files[:2], rule, "stop").notes == ()
