"""An update has the bits of PyTorch's own step, and its state comes back only where it fits."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import pytest
import torch
from torch import nn

from epochal.recipe import OptimizerSettings
from epochal.training.optim import build_optimizer, optimizer_names
from epochal.training.update import Update

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
    made = build_optimizer(OptimizerSettings(lr=0.1, **settings), ours)
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


def _update_alike(weights: list[nn.Parameter], updates: list[Update]) -> None:
    """Make five updates of each weight, by the same gradients."""
    for _ in range(5):
        gradient = torch.randn(37, 5)
        for weight, update in zip(weights, updates, strict=True):
            weight.grad = gradient.clone()
            update()


@pytest.mark.parametrize("settings", [{"name": "sgd", "momentum": 0.9}, {"name": "adam"}, {"name": "adamw"}], ids=str)
def test_where_a_device_has_no_fused_kernel_the_numbers_are_the_same(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    start = torch.randn(37, 5)
    weights = [nn.Parameter(start.clone()), nn.Parameter(start.clone())]
    optimizers = [build_optimizer(OptimizerSettings(lr=0.1, **settings), weights[:1])]
    kind = optimizer_names()[settings["name"]]
    real = kind.__init__

    @functools.wraps(real)
    def without(self: Any, *given: Any, **named: Any) -> None:
        if named.get("fused"):
            raise RuntimeError("`fused=True` requires all the params to be floating point Tensors of supported devices: ['cuda']")
        real(self, *given, **named)

    monkeypatch.setattr(kind, "__init__", without)
    optimizers.append(build_optimizer(OptimizerSettings(lr=0.1, **settings), weights[1:]))
    assert [bool(made.param_groups[0]["fused"]) for made in optimizers] == [True, False]
    monkeypatch.undo()
    updates = [Update(made, torch.amp.GradScaler("cpu", enabled=False), is_own=False) for made in optimizers]
    _update_alike(weights, updates)
    assert [bool(update.kernels) for update in updates] == [True, False]
    torch.testing.assert_close(weights[0], weights[1])


def test_without_the_private_names_of_pytorch_the_bits_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = [nn.Parameter(torch.ones(37, 5)), nn.Parameter(torch.ones(37, 5))]
    updates = []
    for weight in weights:
        made = build_optimizer(OptimizerSettings(name="adamw", lr=0.1), [weight])
        updates.append(Update(made, torch.amp.GradScaler("cpu", enabled=False), is_own=False))
        monkeypatch.delattr(torch, "_fused_sgd_", raising=False)
    _update_alike(weights, updates)
    assert [bool(update.kernels) for update in updates] == [True, False]
    assert torch.equal(weights[0], weights[1])


def test_a_state_comes_back_only_where_it_fits() -> None:
    weight = nn.Parameter(torch.ones(4, 3))
    updates = [
        Update(build_optimizer(OptimizerSettings(name="adamw"), [weight]), torch.amp.GradScaler("cpu", enabled=False), is_own=False)
        for _ in range(2)
    ]
    weight.grad = torch.ones(4, 3)
    updates[0]()
    state = updates[0].state_dict()
    updates[1].load_state_dict(state)
    torch.testing.assert_close(updates[1].state_dict(), state)
    for name, value in (("0/exp_avg", torch.ones(4)), ("0/exp_avg", 1.0), ("1/exp_avg", torch.ones(4, 3)), ("x/step", torch.ones(()))):
        with pytest.raises(ValueError, match=f"{name}.* does not belong to it"):
            updates[1].load_state_dict(state | {name: value})


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
