"""A training that changes between plain and traced steps, at any moment, ends with the same bits."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn

from epochal.errors import NotFiniteError
from epochal.recipe import Recipe
from epochal.run import reproduce as reproducing
from epochal.run.reproduce import Reproduction, reproduce
from epochal.run.resume import resume
from epochal.run.train import train
from epochal.training import loop
from epochal.training.checkpoint import Checkpoints
from epochal.training.loop import fit
from epochal.training.records import Record, Rewound
from tests.outcome import outcome
from tests.small import Fragile, small_recipe, stateful_net
from tests.training.resuming import KilledError, kill_at, split_data
from tests.training.traced.comparing import Watched, differences, trained, watching, weights

Arrays = tuple[Tensor, Tensor]

BOTH = [("plain", "traced"), ("traced", "plain")]

# Six steps an epoch, of parts of 4, 4 and, in the last, 3 and 2.
RECIPES = {
    "adamw": small_recipe(epochs=5, batch_size=8, accumulate=2, ema=0.9, clip_norm=0.5),
    "sgd, plateau": small_recipe(
        epochs=5, batch_size=8, optimizer={"name": "sgd", "momentum": 0.9, "lr": 0.05}, schedule={"name": "plateau", "patience": 1}
    ),
    "ended early": small_recipe(epochs=5, batch_size=8, max_steps=23, keep="last", optimizer="muon"),
}


def _continued(blobs: Arrays, recipe: Recipe, kind: str, folder: Path, every: float) -> tuple[Watched, Any, nn.Module]:
    return trained(stateful_net, split_data(blobs), recipe, kind, checkpoints=Checkpoints(folder, every))


def _interrupt_at(monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Let somebody press Ctrl-C in that step."""
    calls, real = 0, loop.train_step

    def interrupted(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        real(*arguments)
        if calls == call:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(loop, "train_step", interrupted)


@pytest.fixture(scope="module")
def wholes() -> dict[tuple[str, str], tuple[Watched, Any, nn.Module]]:
    """What was trained without an interruption: by which recipe and steps."""
    return {}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(("first", "second"), BOTH)
@pytest.mark.parametrize("end", ["kill", "Ctrl-C"])
@pytest.mark.parametrize("at", [2, 15])
def test_resumed_with_the_other_step(
    wholes: dict[tuple[str, str], tuple[Watched, Any, nn.Module]],
    blobs: Arrays,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    first: str,
    second: str,
    end: str,
    at: int,
) -> None:
    if (name, first) not in wholes:
        wholes[name, first] = trained(stateful_net, split_data(blobs), RECIPES[name], first)
    whole, wanted, model = wholes[name, first]
    # What a kill leaves is the checkpoint before the last step, or the one before the first.
    every = 1e-9 if at == 15 else 1e9
    with monkeypatch.context() as patch, pytest.raises((KilledError, KeyboardInterrupt)):
        if end == "Ctrl-C":
            _interrupt_at(patch, at)
        else:
            kill_at(patch, "train_step", at)
        _continued(blobs, RECIPES[name], first, tmp_path, every)
    resumed, found, other = _continued(blobs, RECIPES[name], second, tmp_path, every)
    assert differences(whole.state, resumed.state) == []
    assert differences(weights(model), weights(other)) == []
    assert found.finished.epochs == wanted.finished.epochs
    # Both kinds were used.
    assert (whole.traced > 0, resumed.traced > 0) == (first == "traced", second == "traced")


@pytest.mark.parametrize(("first", "second"), BOTH)
def test_a_run_is_resumed_and_reproduced_with_the_other_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, second: str
) -> None:
    labels = torch.arange(120) % 3
    x = torch.randn(120, 4, generator=torch.Generator().manual_seed(0)) * 0.5 + nn.functional.one_hot(labels, 4)
    numpy.savez(tmp_path / "blobs.npz", x=x.numpy(), y=labels.numpy())
    settings = {"epochs": 4, "batch_size": 16, "ema": 0.9, "threads": 1, "checkpoint_every": 1e-9, "model": {"name": "mlp", "dropout": 0.2}}
    train(tmp_path / "blobs.npz", settings, out=tmp_path / "whole", watchers=(), step=first)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        kill_at(patch, "train_step", 9)
        train(tmp_path / "blobs.npz", settings, out=tmp_path / "run", watchers=(), step=first)
    with watching() as watched:
        assert resume(tmp_path / "run", watchers=(), step=second) is not None
    assert (watched.traced > 0) == (second == "traced")
    wanted, found = outcome(tmp_path / "whole"), outcome(tmp_path / "run")
    for one in (wanted, found):
        # How steps were made is all that may differ.
        del one["result"]["recipe"]["step"], one["result"]["untraced"]
    assert found == wanted

    with watching() as watched:

        def with_the_other(model: nn.Module, data: Any, recipe: Recipe, **more: Any) -> Any:
            return fit(model, data, recipe.updated({"step": second}), **more)

        monkeypatch.setattr(reproducing, "fit", with_the_other)
        assert reproduce(tmp_path / "whole") == Reproduction(4, "", ())
    assert (watched.traced > 0) == (second == "traced")


@pytest.mark.parametrize("where", ["output", "gradient"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_what_is_not_finite_is_found_at_the_same_place(tmp_path: Path, where: str, accumulate: int) -> None:
    x = torch.rand(40, 2, generator=torch.Generator().manual_seed(0))
    # It comes late in the first epoch.
    x[5, 0] = 1000.0
    recipe = small_recipe(batch_size=4, schedule="constant", accumulate=accumulate)
    told, traced = [], []
    for kind in ("plain", "traced"):
        with watching() as watched, pytest.raises(NotFiniteError) as raised:
            fit(Fragile(where), (x, torch.arange(40) % 2), recipe.updated({"step": kind}), checkpoints=Checkpoints(tmp_path / kind, 1e9))
        told.append(str(raised.value))
        traced.append(watched.traced)
    assert told[0] == told[1]
    assert told[0].startswith("Step ")
    assert traced[0] == 0 < traced[1]


class Cliff(nn.Module):
    """A single weight that learns to be 0.9, and gives what is not finite above 1.13: where momentum carries it too far."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = x * self.weight / (self.weight <= 1.13)
        return outputs


def test_rewinding_is_the_same(tmp_path: Path) -> None:
    x = 1.0 - 2.0 * (torch.arange(40) % 2)[:, None]
    recipe = small_recipe(
        epochs=8, batch_size=4, schedule="constant", on_nan="rewind", keep="last", optimizer={"name": "sgd", "lr": 0.04, "momentum": 0.8}
    )
    found = []
    for kind in ("plain", "traced"):
        seen: list[Rewound] = []

        def watch(record: Record, seen: list[Rewound] = seen) -> None:
            seen.extend([record] if isinstance(record, Rewound) else [])

        found.append((*trained(Cliff, (x, 0.9 * x), recipe, kind, watchers=[watch], checkpoints=Checkpoints(tmp_path / kind, 1e9)), seen))
    (plain, _, model, rewinds), (traced, _, other, rewinds_too) = found
    assert rewinds == rewinds_too
    assert [rewind.reason[:8] for rewind in rewinds] == ["Step 11 "]
    assert differences(plain.state, traced.state) == []
    assert differences(weights(model), weights(other)) == []
    assert traced.traced > 50


recipe_of_growth = partial(small_recipe, epochs=20, batch_size=4, schedule="constant", optimizer={"name": "sgd", "lr": 3.0})


def test_weights_that_grow_beyond_all_numbers_do_so_in_the_same_step(tmp_path: Path) -> None:
    x, y = torch.rand(40, 2, generator=torch.Generator().manual_seed(0)), torch.ones(40, 1)
    told = []
    for kind in ("plain", "traced"):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1))
        with watching() as watched, pytest.raises(NotFiniteError) as raised:
            fit(net, (x, y), recipe_of_growth(step=kind), checkpoints=Checkpoints(tmp_path / kind, 1e9))
        told.append(str(raised.value))
    assert told[0] == told[1]
    assert told[0].startswith("Step ")
    assert watched.traced > 0
