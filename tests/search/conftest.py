"""A table on which a search takes a moment, and a search of it."""

from pathlib import Path
from typing import Any

import pytest
import torch

import epochal

# Six trials of a linear model in small batches, so that settings and seeds differ.
QUICK: dict[str, Any] = {
    "epochs": 4,
    "device": "cpu",
    "batch_size": 16,
    "model": "linear",
    "schedule": "one-cycle",
    "ema": 0.0,
    "target": "cloud",
}
SPACE: dict[str, Any] = {"lr": "log(1e-3, 1)", "smoothing": [0.0, 0.1]}
ASKED: dict[str, Any] = {**QUICK, "space": SPACE, "trials": 6, "seeds": 2, "quiet": True, "patience": None}


def write_clouds(path: Path) -> Path:
    """Write two clouds of 100 points each that overlap."""
    labels = torch.arange(200) % 2
    points = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)) + labels[:, None]
    rows = [f"{x:.4f},{y:.4f},{'ab'[int(label)]}\n" for (x, y), label in zip(points, labels, strict=True)]
    path.write_text("".join(["x,y,cloud\n", *rows]))
    return path


@pytest.fixture(scope="module")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clouds(tmp_path_factory.mktemp("data") / "clouds.csv")


@pytest.fixture(scope="module")
def searched(clouds: Path, tmp_path_factory: pytest.TempPathFactory) -> epochal.Search:
    """By one process, without a break."""
    return epochal.tune(clouds, out=tmp_path_factory.mktemp("search") / "search", workers=1, **ASKED)
