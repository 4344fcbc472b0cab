"""Optimizers by name, learning rates step by step as in PyTorch, and the moving average of weights."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler

from epochal.errors import RecipeError
from epochal.recipe import OptimizerSettings, ScheduleSettings
from epochal.training.optim import MovingAverage, Schedule, Update, build_optimizer, optimizer_names

CPU = torch.device("cpu")
CANNOT = {"lbfgs", "sparseadam"}


def _build(**settings: Any) -> torch.optim.Optimizer:
    return build_optimizer(OptimizerSettings(**settings), nn.Linear(3, 2, bias=False).parameters(), CPU)


def _refused(**settings: Any) -> str:
    with pytest.raises(RecipeError) as raised:
        _build(**settings)
    return str(raised.value)


@pytest.mark.parametrize("name", sorted(set(optimizer_names()) - CANNOT))
def test_every_class_of_torch_makes_a_step(name: str) -> None:
    layers = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 1, bias=False))
    before = [layer.detach().clone() for layer in layers.parameters()]
    optimizer = build_optimizer(OptimizerSettings(name=name, lr=0.1), layers.parameters(), CPU)
    assert type(optimizer).__name__.lower() == name
    layers(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    for old, new in zip(before, layers.parameters(), strict=True):
        assert not torch.equal(old, new)
        assert bool(new.isfinite().all())
    assert optimizer.param_groups[0]["lr"] == 0.1


UPDATES: list[dict[str, Any]] = [
    {"name": "sgd"},
    {"name": "sgd", "momentum": 0.9, "weight_decay": 0.01},
    {"name": "sgd", "momentum": 0.9, "nesterov": True, "options": {"maximize": True}},
    {"name": "sgd", "momentum": 0.5, "options": {"dampening": 0.3}},
    {"name": "adam"},
    {"name": "adam", "weight_decay": 0.1, "options": {"amsgrad": True, "eps": 1e-3}},
    {"name": "adamw", "options": {"betas": (0.8, 0.99), "maximize": True}},
    {"name": "adamw", "weight_decay": 0.5, "options": {"fused": False}},
    {"name": "rmsprop", "momentum": 0.9},
]


@pytest.mark.parametrize("settings", UPDATES, ids=str)
@pytest.mark.parametrize("gap", ["none", "at first", "later"])
def test_update_has_the_bits_of_step(settings: dict[str, Any], gap: str) -> None:
    if gap == "at first" and settings["name"] == "sgd" and "momentum" in settings:
        pytest.skip("PyTorch's own fused SGD stops where a parameter gets its first gradient later than others")
    sizes = [(37, 5), (5,), (700,), ()]
    ours = [nn.Parameter(torch.randn(size)) for size in sizes]
    theirs = [nn.Parameter(parameter.detach().clone()) for parameter in ours]
    made = build_optimizer(OptimizerSettings(lr=0.1, **settings), ours, CPU)
    kind = optimizer_names()[settings["name"]]
    by_hand = kind(theirs, **{name: made.defaults[name] for name in inspect.signature(kind).parameters if name in made.defaults})
    update = Update(made, torch.amp.GradScaler("cpu", enabled=False), is_own=False)
    for step in range(8):
        for place, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            gradient = torch.randn(mine.shape)
            has_none = place == 1 and (step < 3 if gap == "at first" else step in (4, 5) and gap == "later")
            mine.grad, other.grad = (None, None) if has_none else (gradient, gradient.clone())
        for group in (*made.param_groups, *by_hand.param_groups):
            group["lr"] = 0.1 / (step + 1)
        update()
        by_hand.step()
        assert all(mine.grad is None for mine in ours)
        assert all(torch.equal(mine, other) for mine, other in zip(ours, theirs, strict=True))
    assert (settings["name"] != "rmsprop" and settings.get("options", {}).get("fused", True)) == bool(update.kernels)
    kept, wanted = made.state_dict()["state"], by_hand.state_dict()["state"]
    assert kept.keys() == wanted.keys()
    for place in kept:
        assert all(torch.equal(kept[place][name], wanted[place][name]) for name in kept[place] if kept[place][name] is not None)


@pytest.mark.parametrize("lack", ["no kernel", "not for this device"])
@pytest.mark.parametrize("settings", [{"name": "sgd", "momentum": 0.9}, {"name": "adam"}, {"name": "adamw"}], ids=str)
def test_without_fused_kernels_the_numbers_are_the_same(settings: dict[str, Any], lack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older versions of PyTorch lack them, or have them for some devices alone."""
    start = torch.randn(37, 5)
    weights, optimizers = [nn.Parameter(start.clone()), nn.Parameter(start.clone())], []
    for weight in weights:
        optimizers.append(build_optimizer(OptimizerSettings(lr=0.1, **settings), [weight], CPU))
        if lack == "no kernel":
            monkeypatch.delattr(torch, f"_fused_{settings['name']}_", raising=False)
        else:
            kind = optimizer_names()[settings["name"]]
            real = kind.__init__

            @functools.wraps(real)
            def without(self: Any, *given: Any, real: Any = real, **named: Any) -> None:
                if named.get("fused"):
                    raise RuntimeError("`fused=True` requires all the params to be floating point Tensors of supported devices: ['cuda']")
                real(self, *given, **named)

            monkeypatch.setattr(kind, "__init__", without)
    assert [bool(made.param_groups[0]["fused"]) for made in optimizers] == [True, False]
    monkeypatch.undo()
    updates = [Update(made, torch.amp.GradScaler("cpu", enabled=False), is_own=False) for made in optimizers]
    for _ in range(5):
        gradient = torch.randn(37, 5)
        for weight, update in zip(weights, updates, strict=True):
            weight.grad = gradient.clone()
            update()
    assert [bool(update.kernels) for update in updates] == [True, False]
    torch.testing.assert_close(weights[0], weights[1])


def test_own_optimizers_are_stepped_as_they_are() -> None:
    class Counting(torch.optim.SGD):
        steps = zeros = 0

        def step(self, closure: Any = None) -> Any:
            self.steps += 1
            return super().step(closure)

        def zero_grad(self, set_to_none: bool = True) -> None:
            self.zeros += 1
            super().zero_grad(set_to_none)

    weight = nn.Parameter(torch.ones(3))
    own = Counting([weight], lr=0.1, fused=True)
    update = Update(own, torch.amp.GradScaler("cpu", enabled=False), is_own=True)
    for _ in range(3):
        weight.grad = torch.ones(3)
        update()
    assert (own.steps, own.zeros) == (3, 3)


@pytest.mark.parametrize(
    ("name", "why"),
    [("LBFGS", "computes the loss several times in a step, which needs a loop of its own"), ("sparseadam", "takes sparse gradients only")],
)
def test_classes_that_cannot_train_here(name: str, why: str) -> None:
    assert _refused(name=name) == f"The optimizer {name.lower()} cannot be used: it {why}.\nUse another, such as adamw."


def test_muon_is_for_hidden_layers() -> None:
    with pytest.raises(RecipeError, match="The optimizer muon cannot be used: it is for networks with hidden layers"):
        build_optimizer(OptimizerSettings(name="muon"), nn.Linear(3, 2).parameters(), CPU)


def test_no_momentum_is_none_and_unsaid_momentum_the_optimizers_own() -> None:
    layers = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    momenta = [
        build_optimizer(OptimizerSettings(name="muon", momentum=momentum), layers.parameters(), CPU).param_groups[0]["momentum"]
        for momentum in (0.0, None, 0.6)
    ]
    assert momenta == [0.0, 0.95, 0.6]


def test_settings_arrive_and_defaults_stay_the_optimizers_own() -> None:
    sgd = _build(name="SGD", lr=0.5, momentum=0.9, nesterov=True, weight_decay=0.01, options={"dampening": 0.0}).param_groups[0]
    assert [sgd[name] for name in ("lr", "momentum", "nesterov", "weight_decay")] == [0.5, 0.9, True, 0.01]
    for name in ("adam", "adamw", "rmsprop"):
        theirs = inspect.signature(optimizer_names()[name]).parameters
        ours = _build(name=name).param_groups[0]
        assert ours["weight_decay"] == theirs["weight_decay"].default
        assert _build(name=name, weight_decay=0.0).param_groups[0]["weight_decay"] == 0.0
    assert _build(name="adam", options={"betas": (0.5, 0.6), "amsgrad": True}).param_groups[0]["betas"] == (0.5, 0.6)


@pytest.mark.parametrize(
    ("options", "fused"), [({}, True), ({"fused": False}, False), ({"foreach": True}, False), ({"foreach": False}, False)]
)
def test_fused_unless_told_otherwise(options: dict[str, Any], fused: bool) -> None:
    assert bool(_build(options=options).param_groups[0]["fused"]) == fused


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"name": "adamm"}, "Unknown optimizer 'adamm'.\nDid you mean 'adam'?"),
        ({"name": "adam", "momentum": 0.9}, "The optimizer adam does not take momentum.\nIt takes lr, betas, eps, weight_decay, "),
        ({"name": "adam", "options": {"beta": 0.9}}, "The optimizer adam does not take beta.\nIt takes lr, betas, "),
        (
            {"name": "sgd", "nesterov": True},
            "The optimizer sgd cannot be used: Nesterov momentum requires a momentum and zero dampening.\n",
        ),
        (
            {"name": "adam", "options": {"betas": (1.5, 0.9)}},
            "The optimizer adam cannot be used: Invalid beta parameter at index 0: 1.5.",
        ),
        ({"name": "adam", "options": {"lr": 0.5}}, "The optimizer adam cannot be used: "),
    ],
)
def test_refused(settings: dict[str, Any], told: str) -> None:
    assert _refused(**settings).startswith(told)


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
    assert str(raised.value) == "The setting schedule.warmup = 2.0 is not shorter than the 2 epochs of training.\nShorten it."
    with pytest.raises(RecipeError) as raised:
        _ours(2, 3, name="one-cycle", warmup=1)
    assert str(raised.value) == "The setting schedule.warmup does not work with one-cycle, which rises by itself.\nUse schedule.rise."


@pytest.mark.parametrize("decay", [0.05, 0.9])
def test_moving_average_by_hand(decay: float) -> None:
    layer, norm = nn.Linear(2, 1), nn.BatchNorm1d(1)
    model = nn.Sequential(layer, norm)
    average = MovingAverage(model, decay)
    kept, average_of_inputs = average.module.state_dict(), model.state_dict()["1.running_mean"]
    wanted = layer.weight.detach().clone()
    for step in range(30):
        with torch.no_grad():
            layer.weight += torch.tensor([[1.0, -step]])
            average_of_inputs += 1
        average.update_parameters(model)
        share = min(decay, (1 + step) / (10 + step)) if step else 0.0
        wanted = share * wanted + (1 - share) * layer.weight.detach()
        torch.testing.assert_close(kept["0.weight"], wanted)
        # Running statistics are the model's latest, not an average.
        assert torch.equal(kept["1.running_mean"], torch.full((1,), step + 1.0))
    assert not torch.equal(kept["0.weight"], layer.weight)
