"""Traced and plain steps give the same bits for networks of tables, texts and sounds, too."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch

from epochal import load, train
from epochal.data.load import Data
from epochal.models.build import MODELS

COUNT = 150


def table() -> Data:
    random = np.random.default_rng(0)
    columns = {
        "size": random.normal(size=COUNT),
        "colour": random.choice(["red", "green", "blue"], COUNT),
        "grade": random.integers(5, size=COUNT),
    }
    columns["size"][::7] = np.nan
    kind = ["a" if grade > 2 else "b" for grade in columns["grade"]]
    return load({**{name: list(values) for name, values in columns.items()}, "kind": kind}, target="kind")


def texts(tokens: Literal["ngrams", "words"]) -> Data:
    random = np.random.default_rng(0)
    words = np.array(["good", "bad", "film", "play", "很", "好", "dull", "fine"])
    found = [" ".join(random.choice(words, random.integers(2, 9))) for _ in range(COUNT)]
    return load((found, ["yes" if "good" in text else "no" for text in found]), tokens=tokens)


def sounds() -> Data:
    random = np.random.default_rng(0)
    pitch = np.arange(COUNT) % 2
    waves = np.sin(np.arange(2000)[None] * (0.1 + 0.2 * pitch[:, None])) * 20000 + random.normal(size=(COUNT, 2000)) * 500
    return load((waves.astype(np.int16), pitch), input="sound", rate=8000)


CASES = {
    "tabular": table,
    "mlp": table,
    "linear": table,
    "bag": lambda: texts("ngrams"),
    "gru": lambda: texts("words"),
    "lstm": lambda: texts("words"),
    "transformer": lambda: texts("words"),
    "conv": sounds,
    "vit": sounds,
    "ast": sounds,
}


@pytest.mark.parametrize("model", CASES)
def test_bits_are_those_of_plain_steps(model: str) -> None:
    data = CASES[model]()
    settings: dict[str, Any] = {"epochs": 3, "batch_size": 16, "threads": 1, "device": "cpu", "quiet": True, "lr": 0.01, "valid": 0.0}
    plain, auto = (train(data, model=model, step=step, **settings) for step in ("plain", "auto"))
    others = auto.bundle.model.state_dict()
    assert all(torch.equal(value, others[name]) for name, value in plain.bundle.model.state_dict().items())
    # PyTorch's fused LSTM cannot be repeated without autograd.
    assert bool(auto.fit.finished.untraced) == (model == "lstm")


def test_each_network_for_another_kind_is_tried() -> None:
    assert {name for name, entry in MODELS.items() if entry.kind not in ("picture", None) and entry.weights is None} <= CASES.keys()
