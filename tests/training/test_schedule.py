"""Learning rates step by step as in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler

from epochal.errors import RecipeError
from epochal.recipe import ScheduleSettings
from epochal.training.schedule import Schedule


def _theirs(make: Callable[[torch.optim.Optimizer], Any], steps: int, *, every: int = 1, lr: float = 0.3) -> list[float]:
    """The learning rate of each step, where their scheduler moves after every so many steps."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = make(optimizer)
    rates = []
    for step in range(1, steps + 1):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if step % every == 0 and step < steps:
            scheduler.step()
    return rates


def _ours(epochs: int, steps_per_epoch: int, *, lr: float = 0.3, total: int | None = None, **settings: Any) -> list[float]:
    total = total or epochs * steps_per_epoch
    schedule = Schedule(ScheduleSettings(**settings), epochs, steps_per_epoch, total)
    return [lr * schedule.factor(step) for step in range(total)]


EPOCHS, STEPS = st.integers(1, 12), st.integers(1, 7)


@given(EPOCHS, STEPS)
def test_constant(epochs: int, steps: int) -> None:
    assert _ours(epochs, steps, name="constant") == [0.3] * epochs * steps


@given(EPOCHS, STEPS, st.integers(1, 5), st.floats(0.05, 0.95))
def test_step(epochs: int, steps: int, every: int, factor: float) -> None:
    theirs = _theirs(lambda optimizer: lr_scheduler.StepLR(optimizer, every, factor), epochs * steps, every=steps)
    assert _ours(epochs, steps, name="step", every=every, factor=factor) == pytest.approx(theirs, rel=1e-9)


@given(EPOCHS, STEPS, st.lists(st.integers(1, 12), max_size=4), st.floats(0.05, 0.95))
def test_multi_step(epochs: int, steps: int, at: list[int], factor: float) -> None:
    theirs = _theirs(lambda optimizer: lr_scheduler.MultiStepLR(optimizer, sorted(at), factor), epochs * steps, every=steps)
    assert _ours(epochs, steps, name="multi-step", at=tuple(at), factor=factor) == pytest.approx(theirs, rel=1e-9)


@given(EPOCHS, STEPS)
def test_cosine(epochs: int, steps: int) -> None:
    theirs = _theirs(lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps), epochs * steps)
    assert _ours(epochs, steps, name="cosine") == pytest.approx(theirs, rel=1e-6, abs=1e-12)


@given(st.integers(2, 60), st.floats(0.01, 0.99))
def test_one_cycle(total: int, rise: float) -> None:
    if rise * total == 1:
        return  # OneCycleLR divides by zero.
    theirs = _theirs(
        lambda optimizer: lr_scheduler.OneCycleLR(optimizer, max_lr=0.3, total_steps=total, pct_start=rise, cycle_momentum=False), total
    )
    assert _ours(1, total, name="one-cycle", rise=rise) == pytest.approx(theirs, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", ["constant", "step", "multi-step", "plateau", "cosine", "one-cycle"])
@pytest.mark.parametrize("total", [1, 2, 3])
@pytest.mark.parametrize("rise", [0.01, 0.3, 1 / 3, 0.5])
def test_few_steps(name: str, total: int, rise: float) -> None:
    for epochs, steps in ((1, total), (total, 1)):
        rates = _ours(epochs, steps, name=name, rise=rise)
        assert all(0 < rate <= 0.3 for rate in rates)
        # Some step really learns.
        assert max(rates) > 0.03


@pytest.mark.parametrize("name", ["cosine", "one-cycle"])
def test_a_run_cut_short_has_its_whole_schedule(name: str) -> None:
    assert _ours(10, 100, total=7, name=name) == _ours(1, 7, name=name)


LOSSES = st.lists(st.sampled_from([1.0, 1.0 - 5e-5, 1.0 - 1.5e-4, 0.9, 0.5, 2.0, float("nan"), float("inf")]), min_size=1, max_size=25)


@given(LOSSES, st.integers(1, 4), st.floats(0.1, 0.9))
@example([1.0, 1 - 5e-5, 1 - 5e-5], 1, 0.5)
def test_plateau(losses: list[float], patience: int, factor: float) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    theirs = lr_scheduler.ReduceLROnPlateau(optimizer, factor=factor, patience=patience, eps=0)
    ours = Schedule(ScheduleSettings(name="plateau", factor=factor, patience=patience), len(losses), 3, 3 * len(losses))
    for epoch, loss in enumerate(losses):
        assert 0.3 * ours.factor(3 * epoch) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        theirs.step(loss)
        ours.epoch_done(loss)
    assert 0.3 * ours.factor(0) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)


@pytest.mark.parametrize(("warmup", "steps"), [(1, 4), (2, 5), (0.5, 8), (1, 1)])
def test_warm_up_is_linear(warmup: float, steps: int) -> None:
    count = round(warmup * steps)
    theirs = _theirs(lambda optimizer: lr_scheduler.LinearLR(optimizer, 1 / (count + 1), total_iters=count), 10 * steps)
    assert _ours(10, steps, name="constant", warmup=warmup) == pytest.approx(theirs, rel=1e-9)


def test_cosine_begins_after_the_warm_up() -> None:
    rates = _ours(5, 4, name="cosine", warmup=1)
    assert rates[:4] == pytest.approx([0.06, 0.12, 0.18, 0.24])
    assert rates[4:] == pytest.approx(_ours(4, 4, name="cosine"))


def test_warm_up_that_does_not_fit() -> None:
    with pytest.raises(RecipeError) as raised:
        _ours(2, 3, name="cosine", warmup=2)
    assert str(raised.value) == "The setting schedule.warmup = 2.0 is not shorter than training, which has 2 epochs.\nShorten it."
    with pytest.raises(RecipeError) as raised:
        _ours(2, 3, name="one-cycle", warmup=1)
    assert str(raised.value) == "The setting schedule.warmup does not work with one-cycle, which rises by itself.\nUse schedule.rise."
