"""An input has one answer: alone, among others and in another order, from a file and from a program, before and after its model is saved.

Files and programs give the same input, and a saved model is the same model, so that the answer is the same to the bit. Among others, or at
another place, it may differ in its last bits, since a product of larger matrices adds its terms in another order.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from epochal import Bundle, load, train
from epochal.errors import ModelError
from epochal.models.build import MODELS
from tests.data.test_table import people
from tests.tones import save, tone
from tests.trunks import shrink

SETTINGS: dict[str, Any] = {"epochs": 1, "batch_size": 8, "quiet": True, "device": "cpu", "threads": 1}
TEXTS = ["a good film", "a bad film, and a long one", "很好看的电影", "不好看", "good", "bad bad bad"] * 5
SOUNDS = [(tone(300 + 40 * seed, 0.05 + 0.01 * (seed % 15), seed=seed) * 32767).astype(np.int16) for seed in range(30)]
PICTURES = [np.random.default_rng(seed).integers(0, 256, (9 + seed % 3, 8 + seed % 5, 3), dtype=np.uint8) for seed in range(30)]
LABELS = [0, 1] * 15


def nearly(found: Sequence[Any], wanted: Sequence[Any]) -> bool:
    """Whether predictions are the same but for their last bits."""
    return [one.values for one in found] == [pytest.approx(one.values, abs=1e-6) for one in wanted]


def same_among_others(bundle: Bundle, items: list[Any], folder: Path) -> None:
    """Compare the answers for some items with those for each alone, in another order, among more, and from the saved model."""
    whole = bundle.predict(items)
    assert len({str(one.values) for one in whole}) > 1
    assert nearly(bundle.predict(items[::-1]), whole[::-1])
    assert nearly([bundle.predict([item])[0] for item in items], whole)
    assert nearly(bundle.predict([*items[3:7], *items])[4:], whole)
    assert nearly(bundle.predict(items * 30)[-len(items) :], whole)
    loaded = Bundle.load(bundle.save(folder / "model"))
    assert loaded.predict(items) == whole
    assert loaded.predict([items[1]]) == bundle.predict([items[1]])


def same_from_files(bundle: Bundle, items: list[Any], files: list[Path]) -> None:
    whole = bundle.predict(items)
    assert bundle.predict(files) == whole
    assert bundle.predict(files[0].parent) == [whole[place] for place in np.argsort([file.name for file in files])]
    for item, file in zip(items, files, strict=True):
        assert bundle.predict(file) == bundle.predict(str(file)) == bundle.predict([item])


@pytest.mark.parametrize("model", [name for name, entry in MODELS.items() if entry.kind == "text"])
def test_texts(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)
    if (weights := MODELS[model].weights) is not None:
        try:
            weights.path()
        except ModelError as error:
            pytest.skip(str(error))
    bundle = train((TEXTS, LABELS), model=model, **SETTINGS).bundle
    files = [tmp_path / "texts" / f"{place:02}.txt" for place in range(12)]
    files[0].parent.mkdir()
    for file, text in zip(files, TEXTS, strict=False):
        file.write_text(text, "utf-8")
    same_from_files(bundle, TEXTS[:12], files)
    same_among_others(bundle, TEXTS[:12], tmp_path)


@pytest.mark.parametrize("windows", [1, 3])
@pytest.mark.parametrize("model", ["conv", *(name for name, entry in MODELS.items() if entry.kind == "sound")])
def test_sounds(model: str, windows: int, tmp_path: Path) -> None:
    data = load(([(sound, 8000) for sound in SOUNDS], LABELS), input="sound", seconds=0.1, windows=windows)
    bundle = train(data, model=model, **SETTINGS).bundle
    files = [save(tmp_path / "sounds" / f"{place:02}.wav", sound / 32768) for place, sound in enumerate(SOUNDS[:12])]
    items = [(sound, 8000) for sound in SOUNDS[:12]]
    same_from_files(bundle, items, files)
    same_among_others(bundle, items, tmp_path)


@pytest.mark.parametrize("model", ["conv", "vgg", "resnet", "vit", "mlp", "linear"])
def test_pictures(model: str, tmp_path: Path) -> None:
    files = [tmp_path / "pictures" / ("dark", "bright")[place % 2] / f"{place:02}.png" for place in range(30)]
    for file, pixels in zip(files, PICTURES, strict=True):
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    bundle = train(tmp_path / "pictures", model=model, size=8, **SETTINGS).bundle
    items: list[Any] = PICTURES[:12]
    together = tmp_path / "together"
    together.mkdir()
    same_from_files(bundle, items, [file.rename(together / file.name) for file in files[:12]])
    same_among_others(bundle, items, tmp_path)
    whole = bundle.predict(items)
    assert bundle.predict([Image.fromarray(pixels) for pixels in items]) == whole
    assert bundle.predict([torch.from_numpy(pixels) for pixels in items]) == whole


@pytest.mark.parametrize("model", ["tabular", "mlp", "linear"])
def test_rows(model: str, tmp_path: Path) -> None:
    columns = {name: values for name, values in people(90).items() if name not in ("id", "country", "remark")}
    bundle = train(columns, target="income", model=model, **SETTINGS).bundle
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)][:12]
    same_among_others(bundle, rows, tmp_path)
    whole = bundle.predict(rows)
    assert bundle.predict({name: values[:12] for name, values in columns.items()}) == whole
    assert bundle.predict({name: columns[name][:12] for name in ("born", "job", "age")}) == whole
    for row in rows:
        assert bundle.predict(row) == bundle.predict([row])
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        # Another order of columns, and one that is not known.
        writer = csv.DictWriter(file, ["more", *reversed(columns)], delimiter=";", restval="x")
        writer.writeheader()
        writer.writerows(rows)
    assert bundle.predict(tmp_path / "rows.jsonl") == whole
    assert bundle.predict(tmp_path / "rows.csv") == bundle.predict(str(tmp_path / "rows.csv")) == whole


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_numbers(dtype: Any, tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(0, 200, (90, 5)).astype(dtype)
    bundle = train((values, np.arange(90) % 3), **SETTINGS).bundle
    items = list(values[:12])
    same_among_others(bundle, items, tmp_path)
    whole = bundle.predict(items)
    np.save(tmp_path / "inputs.npy", values[:12])
    assert bundle.predict(tmp_path / "inputs.npy") == bundle.predict(values[:12]) == bundle.predict(torch.from_numpy(values[:12])) == whole
    assert bundle.predict(items[0]) == bundle.predict([items[0]]) == bundle.predict(items[:1])
