"""How to add a source: a function that returns what it found, and a line in the table."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from epochal import load, train
from epochal.data.examples import Found, Part
from epochal.data.sources import SOURCES, Source
from epochal.errors import DataError


# 1. A function: it reads raw inputs and targets as they are. Checking, encoding and splitting are not its business.
def read(folder: Path | None) -> Found:
    if folder is None:
        raise DataError("The data set spirals is in no folder.", "Name one with --data-dir.")
    turns = torch.linspace(0, 1, 200)
    points = [torch.stack((radius * turns.cos(), radius * turns.sin()), 1) for radius in (1 + turns, 3 + turns)]
    return Found("spirals", {"train": Part(torch.cat(points), ["inner"] * 200 + ["outer"] * 200)}, notes=("spirals are made, not read",))


# 2. A line in the table, which `epochal datasets` prints.
@pytest.fixture(autouse=True)
def _in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "spirals", Source(read, "points on two spirals"))


def test_it_is_data_like_any_other(tmp_path: Path) -> None:
    data = load("spirals", data_dir=tmp_path)
    assert (data.outputs, data.notes) == (("inner", "outer"), ("spirals are made, not read",))
    run = train("spirals", data_dir=tmp_path, epochs=10, lr=0.05, quiet=True)
    assert run.test is not None
    assert run.test.accuracy == 1.0


def test_its_errors_are_those_of_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EPOCHAL_DATA", raising=False)
    with pytest.raises(DataError, match=r"The data set spirals is in no folder\.\nName one with --data-dir\."):
        load("spirals")


def test_what_it_reads_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Found("spirals", {"train": Part(torch.tensor([[0.0], [float("nan")]]), ["a", "b"])})
    monkeypatch.setitem(SOURCES, "spirals", Source(lambda _: broken, "broken"))
    with pytest.raises(DataError, match=r"The input train\[1\] has a NaN or infinite value"):
        load("spirals", data_dir=tmp_path)
