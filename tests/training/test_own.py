"""Optimizers and schedules of the user's own: what they replace, what is told and kept of them, and what cannot be used."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from epochal.errors import RecipeError
from epochal.recipe import Recipe, load_recipe, restore_recipe
from epochal.run.reproduce import reproduce
from epochal.run.resume import resume
from epochal.run.train import train
from epochal.training import loop
from epochal.training.loop import fit
from epochal.training.own import Own, with_own
from epochal.training.records import Started

Arrays = tuple[Tensor, Tensor]


class Fading(torch.optim.SGD):
    """It makes its own rate smaller with each step, as some optimizers do."""

    def step(self, closure: Any = None) -> Any:
        found = super().step(closure)
        for group in self.param_groups:
            group["lr"] *= 0.9
            group["steps"] = group.get("steps", 0) + 1
        return found


def fading(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return Fading([{"params": parameters, "steps": 0}], lr=0.2, momentum=0.5)


def halving(step: int) -> float:
    return 0.5 ** (step // 4)


def test_settings_that_are_replaced_say_so() -> None:
    recipe = with_own(Recipe(), Own(optimizer=fading))
    assert recipe.origin("optimizer.lr") == recipe.origin("optimizer.name") == "not used: own optimizer"
    assert (recipe.schedule.name, recipe.origin("schedule.name")) == ("constant", "own optimizer")
    assert recipe.origin("loss.name") == "default"
    assert with_own(recipe, Own(optimizer=fading)) == recipe
    # A schedule that somebody asked for is kept, also one of a preset.
    for asked in (Recipe().updated({"schedule": "cosine"}), load_recipe("tutorial-cnn")):
        kept = with_own(asked, Own(optimizer=fading))
        assert kept.schedule == asked.schedule
        assert kept.origin("schedule.name") == asked.origin("schedule.name")
    own = with_own(Recipe(), Own(schedule=halving))
    assert (own.schedule.name, own.origin("schedule.name")) == ("constant", "not used: own schedule")
    assert own.origin("optimizer.lr") == "default"


@pytest.mark.parametrize(("group", "given"), [("optimizer", {"lr": 0.1}), ("schedule", {"warmup": 1.0}), ("loss", {"smoothing": 0.1})])
def test_settings_that_a_function_would_ignore(blobs: Arrays, group: str, given: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match=rf"The setting {group}\.\w+ has no effect on your own {group} function\."):
        fit(nn.Linear(2, 3), blobs, given, **{group: lambda *_: None})  # type: ignore[arg-type]


def test_groups_with_rates_of_their_own_are_told_and_kept(blobs: Arrays, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
    groups = [{"params": model[0].parameters(), "lr": 0.01}, {"params": model[2].parameters(), "lr": 0.1, "weight_decay": 0.5}]
    heard: list[Any] = []
    run = train(
        blobs,
        {"epochs": 2},
        model=model,
        optimizer=lambda _: torch.optim.SGD(groups),
        watchers=[heard.append],
        out=tmp_path / "run",
        quiet=True,
    )
    (started,) = (record for record in heard if isinstance(record, Started))
    assert started.notes[-1] == "optimizer SGD: lr 0.01 (24 numbers), lr 0.1 (27 numbers)"
    assert [done.lr for done in run.fit.epochs] == [0.1, 0.1]
    kept = json.loads((tmp_path / "run" / "result.json").read_text())["optimizer"]
    assert kept == json.loads(json.dumps(run.fit.optimizer))
    assert kept["name"] == "SGD"
    assert [(group["numbers"], group["lr"], group["weight_decay"]) for group in kept["groups"]] == [(24, 0.01, 0), (27, 0.1, 0.5)]
    recipe = restore_recipe(tmp_path / "run" / "recipe.toml")
    assert recipe.origin("optimizer.lr") == "not used: own optimizer"
    assert recipe.schedule.name == "constant"


def test_a_schedule_moves_every_group(blobs: Arrays) -> None:
    model = nn.Linear(2, 3)
    made: list[torch.optim.Optimizer] = []
    seen: list[list[float]] = []

    def make(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        weight, bias = parameters
        made.append(torch.optim.SGD([{"params": [weight], "lr": 0.1}, {"params": [bias], "lr": 0.2}]))
        made[0].register_step_pre_hook(lambda optimizer, *_: seen.append([group["lr"] for group in optimizer.param_groups]))
        return made[0]

    result = fit(model, blobs, {"epochs": 1, "batch_size": 10}, optimizer=make, schedule=halving)
    assert seen == [[0.1 * halving(step), 0.2 * halving(step)] for step in range(6)]
    assert result.epochs[0].lr == 0.2 * halving(5)
    # It takes the place of the recipe's for our optimizers too.
    ours = fit(nn.Linear(2, 3), blobs, {"epochs": 2, "batch_size": 10, "lr": 0.3}, schedule=halving)
    assert [done.lr for done in ours.epochs] == [0.3 * halving(5), 0.3 * halving(11)]


class KilledError(Exception):
    pass


@pytest.mark.parametrize(
    "own",
    [{"optimizer": fading}, {"schedule": halving}, {"optimizer": fading, "schedule": halving}],
    ids=["rates of its own", "schedule", "both"],
)
def test_resumed_and_reproduced_to_the_bit(
    blobs: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: dict[str, Callable[..., Any]]
) -> None:
    settings = {"epochs": 3, "batch_size": 10, "checkpoint_every": 1e-6, "model": "linear", "threads": 1}
    whole = train(blobs, settings, **own, out=tmp_path / "whole", quiet=True)  # type: ignore[arg-type]
    real, steps = loop.train_step, iter(range(99))

    def killed(*given: Any) -> None:
        if next(steps) == 8:
            raise KilledError
        real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", killed)
        with pytest.raises(KilledError):
            train(blobs, settings, **own, out=tmp_path / "cut", quiet=True)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=f"was trained with your own {next(iter(own))}, {next(iter(own.values())).__name__}"):
        resume(tmp_path / "cut", data=blobs, quiet=True)
    going_on = resume(tmp_path / "cut", data=blobs, **own, quiet=True)  # type: ignore[arg-type]
    assert going_on is not None
    assert [(done.lr, done.train_loss) for done in going_on.fit.epochs] == [(done.lr, done.train_loss) for done in whole.fit.epochs]
    for mine, other in zip(going_on.bundle.model.state_dict().values(), whole.bundle.model.state_dict().values(), strict=True):
        assert torch.equal(mine, other)
    assert reproduce(tmp_path / "whole", data=blobs, **own).divergence == ""  # type: ignore[arg-type]


def _refused(blobs: Arrays, model: nn.Module | None = None, **own: Any) -> str:
    with pytest.raises(RecipeError) as raised:
        fit(model or nn.Linear(2, 3), blobs, {"epochs": 1}, **own)
    return str(raised.value)


def test_optimizers_that_cannot_be_used(blobs: Arrays) -> None:
    def wrong(parameters: Any) -> Any:
        return torch.optim.SGD(parameters, rate=0.1)  # type: ignore[call-arg]

    line = wrong.__code__.co_firstlineno + 1
    assert _refused(blobs, optimizer=wrong) == (
        "The optimizer function fails: TypeError: SGD.__init__() got an unexpected keyword argument 'rate' "
        f"(test_own.py, line {line}).\nFix it: it gets a list of parameters."
    )
    assert "gives a NoneType, which has no step() and zero_grad()" in _refused(blobs, optimizer=lambda _: None)
    assert "The optimizer LBFGS cannot be used: its step() needs closure." in _refused(blobs, optimizer=torch.optim.LBFGS)
    other = nn.Linear(2, 3)
    assert _refused(blobs, optimizer=lambda _: torch.optim.SGD(other.parameters(), lr=0.1)).startswith(
        "2 of the tensors that the optimizer changes are not among the parameters that the model trains."
    )


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        (3, "The schedule is of type int.\nPass a name, or a function: step -> share of the learning rate."),
        (lambda _: None, "The schedule function fails for step 0: TypeError: "),
        (lambda step: 1 / step, "The schedule function fails for step 0: ZeroDivisionError: division by zero (test_own.py, line "),
        (lambda _: -0.1, "The schedule function gives -0.1 for step 0.\nLet it return a share of the learning rate, 0 or more."),
        (lambda step: math.nan if step == 0 else 1.0, "The schedule function gives nan for step 0."),
        (torch.optim.lr_scheduler.StepLR, "The schedule function fails for step 0: TypeError: "),
    ],
)
def test_schedules_that_cannot_be_used(blobs: Arrays, schedule: Any, told: str) -> None:
    assert _refused(blobs, schedule=schedule).startswith(told)


def test_a_schedule_that_fails_late_says_where(blobs: Arrays) -> None:
    with pytest.raises(RecipeError, match="The schedule function gives nan for step 59"):
        fit(nn.Linear(2, 3), blobs, {"epochs": 1, "batch_size": 1}, schedule=lambda step: math.nan if step == 59 else 1.0)
