"""Each device and batch size is measured once, and all of it is kept, or nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from epochal import bench as module
from epochal.bench import bench
from epochal.data.load import Data, load
from epochal.errors import OutputError, RecipeError, TooLargeError
from epochal.recipe import Recipe
from epochal.tuning.profile import profile


@pytest.fixture
def data(blobs: tuple[Tensor, Tensor]) -> Data:
    return load({"train": blobs, "test": blobs})


RECIPE = Recipe().updated({"model": "linear", "valid": 0.0, "threads": 1})


def test_all_that_is_kept(data: Data, tmp_path: Path) -> None:
    lines: list[str] = []
    done = bench(data, RECIPE, devices=["cpu"], batch_sizes=[8, 16], seconds=0.01, out=tmp_path / "bench", log=lines.append)
    assert [(one.device, one.batch_size, one.threads) for one in done.profiles] == [("cpu", 8, 1), ("cpu", 16, 1)]
    assert done.others == ()
    assert sorted(os.listdir(tmp_path / "bench")) == ["bench.json", "speed.png", "speed.svg"]
    kept = json.loads((tmp_path / "bench" / "bench.json").read_text())
    assert kept == json.loads(json.dumps(done.result))
    assert set(kept) == {"data", "model", "recipe", "environment", "seconds", "profiles", "not_measured"}
    assert set(kept["profiles"][0]) >= {"examples_per_second", "seconds_per_epoch", "shares", "floor", "times_floor", "peak_bytes"}
    assert kept["environment"]["threads"] == 1
    assert lines[1] == "model linear: 9 parameters, 12 FLOPs per example"


@pytest.mark.parametrize(("count", "sizes"), [(60, [60]), (200, [64, 128]), (600, [64, 128, 256, 512])])
def test_sizes_without_a_word(blobs: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch, count: int, sizes: list[int]) -> None:
    asked: list[tuple[str, int]] = []

    def refuse(_: object, data: Data, recipe: Recipe, *__: object) -> Any:
        asked.append((recipe.device, recipe.examples_per_step))
        raise TooLargeError("A step is too large.")

    monkeypatch.setattr(module, "profile", refuse)
    x, y = blobs
    with pytest.raises(RecipeError, match=r"Nothing could be measured. cpu, batch \d+: A step is too large."):
        bench((x.repeat(10, 1)[:count], y.repeat(10)[:count]), RECIPE.updated({"test": 0.0}), devices=["cpu"])
    assert asked == [("cpu", size) for size in sizes]


def test_what_does_not_fit_is_reported_and_the_rest_measured(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = profile

    def limited(model: Any, data: Data, recipe: Recipe, *others: Any) -> Any:
        if recipe.examples_per_step == 32:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried\nmore")
        return measure(model, data, recipe, *others)

    monkeypatch.setattr(module, "profile", limited)
    done = bench(data, RECIPE, devices=["cpu"], batch_sizes=[16, 32], seconds=0.01)
    assert [one.batch_size for one in done.profiles] == [16]
    assert done.others == ("cpu, batch 32: CUDA out of memory. Tried",)
    assert done.result["not_measured"] == list(done.others)


@pytest.mark.parametrize(
    ("options", "reported"),
    [
        ({"devices": ["gpu"]}, "Unknown device 'gpu'."),
        ({"batch_sizes": [61]}, "A batch of 61 cannot be measured: of training examples there are 60.\nChoose a size from 1 to that."),
        ({"batch_sizes": [16, 0]}, "A batch of 0 cannot be measured"),
    ],
)
def test_what_cannot_be_measured(data: Data, tmp_path: Path, options: dict[str, Any], reported: str) -> None:
    with pytest.raises(RecipeError) as raised:
        bench(data, RECIPE, out=tmp_path / "bench", **options)
    assert reported in str(raised.value)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_exists_is_left_alone(data: Data, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="exists already"):
        bench(data, RECIPE, out=tmp_path)


def test_an_interruption_leaves_nothing(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "profile", interrupt)
    with pytest.raises(KeyboardInterrupt):
        bench(data, RECIPE, devices=["cpu"], out=tmp_path / "bench")
    assert os.listdir(tmp_path) == []
