"""A text or a sound has one answer: alone, among others, from a file and from a program.

Files and programs give the same input, so that the answer is the same to the bit. Among others it may differ in its last bits, since a
product of larger matrices adds its terms in another order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from epochal import Bundle, load, train
from epochal.models.build import MODELS
from tests.tones import save, tone

SETTINGS: dict[str, Any] = {"epochs": 1, "batch_size": 8, "quiet": True, "device": "cpu", "threads": 1}
TEXTS = ["a good film", "a bad film, and a long one", "很好看的电影", "不好看", "good", "bad bad bad"] * 5
SOUNDS = [(tone(300 + 40 * seed, 0.05 + 0.01 * (seed % 15), seed=seed) * 32767).astype(np.int16) for seed in range(30)]
LABELS = [0, 1] * 15


def same_in_every_form(bundle: Bundle, items: list[Any], files: list[Path]) -> None:
    whole = bundle.predict(items)
    assert bundle.predict(files) == whole
    assert bundle.predict(files[0].parent) == [whole[place] for place in np.argsort([file.name for file in files])]
    for place, (item, file) in enumerate(zip(items, files, strict=True)):
        alone = bundle.predict([item])[0]
        assert bundle.predict(file) == bundle.predict(str(file)) == [alone]
        assert alone.values == pytest.approx(whole[place].values, abs=1e-6)
        assert bundle.predict([item, *items[:7]])[0].values == pytest.approx(alone.values, abs=1e-6)


@pytest.mark.parametrize("model", [name for name, entry in MODELS.items() if entry.kind == "text"])
def test_texts(model: str, tmp_path: Path) -> None:
    bundle = train((TEXTS, LABELS), model=model, **SETTINGS).bundle
    files = [tmp_path / f"{place:02}.txt" for place in range(12)]
    for file, text in zip(files, TEXTS, strict=False):
        file.write_text(text, "utf-8")
    same_in_every_form(bundle, TEXTS[:12], files)


@pytest.mark.parametrize("windows", [1, 3])
@pytest.mark.parametrize("model", ["conv", *(name for name, entry in MODELS.items() if entry.kind == "sound")])
def test_sounds(model: str, windows: int, tmp_path: Path) -> None:
    data = load(([(sound, 8000) for sound in SOUNDS], LABELS), input="sound", seconds=0.1, windows=windows)
    bundle = train(data, model=model, **SETTINGS).bundle
    files = [save(tmp_path / f"{place:02}.wav", sound / 32768) for place, sound in enumerate(SOUNDS[:12])]
    same_in_every_form(bundle, [(sound, 8000) for sound in SOUNDS[:12]], files)
