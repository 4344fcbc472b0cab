"""Training that is killed, and goes on."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from epochal.recipe import Recipe
from epochal.training import loop
from epochal.training.checkpoint import Checkpoints
from epochal.training.loop import TrainingHistory, fit
from epochal.training.records import EpochDone
from epochal.training.state import Training
from tests.small import small_recipe, stateful_net

Arrays = tuple[Tensor, Tensor]


class KilledError(BaseException):
    """Nothing catches it, as nothing catches kill -9."""


longer_recipe = partial(small_recipe, epochs=4)


def split_data(blobs: Arrays) -> dict[str, Arrays]:
    return {"train": (blobs[0][:45], blobs[1][:45]), "valid": (blobs[0][45:], blobs[1][45:])}


def assert_same(one: TrainingHistory, two: TrainingHistory) -> None:
    """Both tell the same, but for what the clock says, which no run repeats."""

    def without_clock(done: EpochDone) -> EpochDone:
        return dataclasses.replace(done, seconds=0.0, examples_per_second=0.0, waiting=0.0)

    assert list(map(without_clock, one.epochs)) == list(map(without_clock, two.epochs))
    assert dataclasses.replace(one.finished, seconds=0.0) == dataclasses.replace(two.finished, seconds=0.0)


def run_in(blobs: Arrays, recipe: Recipe, folder: Path | None, every: float = 1e-9, **options: Any) -> tuple[nn.Module, TrainingHistory]:
    model = stateful_net()
    kept = None if folder is None else Checkpoints(folder, every)
    return model, fit(model, split_data(blobs), recipe, checkpoints=kept, **options)


def kill_at(monkeypatch: pytest.MonkeyPatch, name: str, call: int) -> None:
    """Let training die when it calls one of its functions for that time."""
    calls = 0
    owner: Any = Training if name == "check_finite" else loop
    real = getattr(owner, name)

    def dying(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KilledError
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, dying)
