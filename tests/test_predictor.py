"""Predictions as a stream: the same as of one call, in their order, whatever the batch size and the runtime."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from epochal import Bundle, load, predict, train
from epochal import predictor as predictors
from epochal.errors import DataError, RecipeError
from epochal.predictor import Predictor
from tests.data.test_table import csv_of, people
from tests.test_same_answers import LABELS, SETTINGS, SOUNDS, TEXTS

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 9, 9), dtype=np.uint8)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return train((PIXELS, LABELS), model="linear", **SETTINGS).bundle


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    for place, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(folder / f"{place:02}.png")
    (folder / "07.png").write_bytes(b"no picture")
    np.save(folder / "30.npy", PIXELS[:5])
    return folder


def _items(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_answers_are_those_of_one_call_in_order(bundle: Bundle, files: Path, batch_size: int) -> None:
    whole = bundle.predict(_items(files), unreadable="count")
    answers = list(Predictor(bundle, batch_size=batch_size).stream(_items(files)))
    assert [answer.name for answer in answers if answer.prediction] == list(whole.names)
    for answer, wanted in zip((answer for answer in answers if answer.prediction), whole, strict=True):
        assert answer.prediction is not None
        assert answer.prediction.values == pytest.approx(wanted.values, abs=1e-6)
        assert answer.input is not None
        assert answer.input.shape == bundle.spec.shape
    assert [(place, answer.name) for place, answer in enumerate(answers) if answer.error] == [(7, str(files / "07.png"))]


@pytest.mark.parametrize("skip", [0, 1, 7, 8, 29, 32, 34, 35])
def test_answers_can_be_left_out_from_the_beginning(bundle: Bundle, files: Path, skip: int) -> None:
    every = [answer.name for answer in Predictor(bundle, batch_size=4).stream(_items(files))]
    assert [answer.name for answer in Predictor(bundle, batch_size=4).stream(_items(files), skip=skip)] == every[skip:]


def test_what_is_left_out_is_not_read(bundle: Bundle, files: Path) -> None:
    items = [str(files / "gone.png"), str(files / "01.png")]
    assert [answer.error for answer in Predictor(bundle).stream(items, skip=1, strict=True)] == [None]


def test_strict_stops_at_the_first_that_cannot_be_read(bundle: Bundle, files: Path) -> None:
    found = Predictor(bundle, batch_size=4).stream(_items(files), strict=True)
    assert [next(found).name for _ in range(7)] == _items(files)[:7]
    with pytest.raises(DataError, match="07.png"):
        next(found)


@pytest.mark.parametrize("kind", ["table", "texts", "sounds"])
def test_every_kind(kind: str, tmp_path: Path) -> None:
    sounds = [(sound, 8000) for sound in SOUNDS]
    data: Any = (TEXTS, LABELS)
    if kind != "texts":
        data = load(people(60), target="income") if kind == "table" else load((sounds, LABELS), input="sound", seconds=0.1)
    bundle = train(data, **SETTINGS).bundle
    items: Any = {"table": csv_of(people(60), tmp_path / "a.csv"), "texts": TEXTS, "sounds": sounds}[kind]
    whole = bundle.predict(items)
    answers = [answer.prediction for answer in Predictor(bundle, batch_size=7).stream(items)]
    assert [one.values for one in answers if one] == [pytest.approx(one.values, abs=1e-6) for one in whole]


def test_not_more_than_a_batch_is_read_ahead(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0
    reading = predict.read_item

    def counted(*arguments: Any) -> Any:
        nonlocal read
        read += 1
        return reading(*arguments)

    monkeypatch.setattr(predictors, "read_item", counted)
    answers = Predictor(bundle, batch_size=10).stream(list(PIXELS) * 20)
    for _ in range(10):
        next(answers)
    assert read <= 20
    assert sum(1 for _ in answers) == 590


def test_whoever_stops_does_not_wait_for_the_next_batch(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, stopped = predict.read_item, threading.Event()
    read = 0

    def slow(*arguments: Any) -> Any:
        nonlocal read
        read += 1
        if read > 12:
            # The second item of the next batch takes until nobody wants it any more.
            assert stopped.wait(60)
        return reading(*arguments)

    monkeypatch.setattr(predictors, "read_item", slow)
    monkeypatch.setattr(predictors, "Event", lambda: stopped)
    answers = Predictor(bundle, batch_size=10).stream(list(PIXELS) * 20)
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert 10 <= read <= 13


@pytest.mark.usefixtures("exporting")
def test_onnx_runtime_is_chosen_where_it_is_faster(bundle: Bundle, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    whole = bundle.predict(PIXELS)
    given = Predictor(bundle, runtime="onnx")
    assert torch.allclose(given(torch.from_numpy(PIXELS)[:, None]), bundle.values(torch.from_numpy(PIXELS)[:, None]), atol=1e-6)
    # As if much was left, and as if it was faster.
    monkeypatch.setattr(predictors, "_WORTH", -1.0)
    monkeypatch.setattr(predictors, "_FASTER", 1e9)
    notes: list[str] = []
    predictor = Predictor(bundle, batch_size=10)
    answers = list(predictor.stream(list(PIXELS), log=notes.append))
    assert predictor.runtime == "onnx"
    assert notes[0].startswith("ONNX Runtime computes from here on")
    assert [one.prediction.values for one in answers if one.prediction] == [pytest.approx(one.values, abs=1e-6) for one in whole]
    with pytest.raises(RecipeError, match="no runtime 'tvm'"):
        Predictor(bundle, runtime="tvm")  # type: ignore[arg-type]
