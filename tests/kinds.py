"""Small data of each kind but pictures, in files, with what the command needs to train on them in a second."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from tests.data.test_table import csv_of, people
from tests.tones import low_and_high

_WORDS = {"kind": ("good", "fine", "很好", "喜欢", "warm"), "harsh": ("bad", "poor", "不好", "讨厌", "cold")}


def _table(folder: Path) -> list[str]:
    csv_of(people(240), folder / "people.csv")
    return ["people.csv", "--target", "income", "--epochs", "4", "--batch-size", "16"]


def _texts(folder: Path) -> list[str]:
    chance = random.Random(0)
    rows = [f"it was {chance.choice(_WORDS[label])} number {row % 90},{label}\n" for row in range(120) for label in _WORDS]
    (folder / "reviews.csv").write_text("".join(["review,label\n", *rows]), "utf-8")
    return ["reviews.csv", "--text", "review", "--target", "label", "--epochs", "4", "--batch-size", "16"]


def _sounds(folder: Path) -> list[str]:
    low_and_high(folder / "tones", 24)
    return ["tones", "--time-shift", "0.02", "--noise", "0.1", "--epochs", "3", "--batch-size", "8"]


# Each writes data into a folder, where the command then runs, and returns what follows "train".
KINDS: dict[str, Callable[[Path], list[str]]] = {"table": _table, "texts": _texts, "sounds": _sounds}
