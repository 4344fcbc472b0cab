"""Optimizers by name."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import nn

from epochal.errors import RecipeError
from epochal.models.parts import parameter_groups
from epochal.recipe import OptimizerSettings
from epochal.training.optim import build_optimizer, describe_optimizer, in_short, optimizer_names, state_per_weight

CANNOT = {"lbfgs", "sparseadam"}


def _build(**settings: Any) -> torch.optim.Optimizer:
    return build_optimizer(OptimizerSettings(**settings), nn.Linear(3, 2, bias=False).parameters())


def _refused(**settings: Any) -> str:
    with pytest.raises(RecipeError) as raised:
        _build(**settings)
    return str(raised.value)


@pytest.mark.parametrize("name", sorted(set(optimizer_names()) - CANNOT))
def test_every_class_of_torch_makes_a_step(name: str) -> None:
    layers = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 1, bias=False))
    before = [layer.detach().clone() for layer in layers.parameters()]
    optimizer = build_optimizer(OptimizerSettings(name=name, lr=0.1), layers.parameters())
    assert type(optimizer).__name__.lower() == name
    layers(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    for old, new in zip(before, layers.parameters(), strict=True):
        assert not torch.equal(old, new)
        assert bool(new.isfinite().all())
    assert optimizer.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize(
    ("name", "why"),
    [("LBFGS", "computes the loss several times in a step, which needs a loop of its own"), ("sparseadam", "takes sparse gradients only")],
)
def test_classes_that_cannot_train_here(name: str, why: str) -> None:
    assert _refused(name=name) == f"The optimizer {name.lower()} cannot be used: it {why}.\nUse another, such as adamw."


def test_muon_is_for_hidden_layers() -> None:
    with pytest.raises(RecipeError, match="The optimizer muon cannot be used: it is for networks with hidden layers"):
        build_optimizer(OptimizerSettings(name="muon"), (layer := nn.Linear(3, 2)).parameters(), head=[layer.weight])


class Marked(nn.Module):
    """Two layers; the first learns slowly, and one of its parameters is not to decay."""

    no_weight_decay = ("first.bias",)

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 2)
        self.first = nn.Linear(3, 4)
        vars(self.first)["lr_scale"] = 0.1


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("adamw", [("last.weight last.bias", 0.5, 0.2), ("first.weight", 0.05, 0.2), ("first.bias", 0.05, 0.0)]),
        (
            "muon",
            [("last.weight last.bias", 0.1, 0.0), ("first.weight", 0.05, 0.2), ("first.bias", 0.01, 0.0)],
        ),
    ],
)
def test_groups_have_rates_and_decay_of_their_own(name: str, wanted: list[tuple[str, float, float]]) -> None:
    model = Marked()
    settings = OptimizerSettings(name=name, lr=0.5, weight_decay=0.2)
    made = build_optimizer(settings, parameter_groups(model), head=frozenset(model.last.parameters()))
    found = [(" ".join(group["param_names"]), group["lr"], group["weight_decay"]) for group in made.param_groups]
    assert found == [(names, pytest.approx(lr), decay) for names, lr, decay in wanted]
    described = describe_optimizer(made)
    assert in_short(described).count("lr ") == 3
    assert "param_names" not in described["groups"][0]


def test_many_groups_are_told_as_one() -> None:
    groups = [{"numbers": 1000 * number, "lr": 10.0**-number} for number in range(1, 5)]
    assert in_short({"name": "SGD", "groups": groups}) == "optimizer SGD: lr 0.0001 to 0.1 (10,000 numbers in 4 groups)"


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"name": "sgd"}, 0),
        ({"name": "sgd", "momentum": 0.9}, 1),
        ({"name": "muon"}, 1),
        ({"name": "adagrad"}, 1),
        ({"name": "adamw"}, 2),
        ({"name": "adamw", "options": {"amsgrad": True}}, 3),
    ],
    ids=str,
)
def test_what_is_kept_for_each_weight(settings: dict[str, Any], count: int) -> None:
    assert state_per_weight(OptimizerSettings(**settings), torch.device("cpu")) == count


def test_no_momentum_is_none_and_unsaid_momentum_the_optimizers_own() -> None:
    layers = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    momenta = [
        build_optimizer(OptimizerSettings(name="muon", momentum=momentum), layers.parameters()).param_groups[0]["momentum"]
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
