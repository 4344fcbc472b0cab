"""Which layer gives the outputs, and what a network says of its parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from epochal.data.spec import DataSpec
from epochal.errors import ModelError
from epochal.models.build import MODELS, build_net
from epochal.models.parts import head_of, last_weights, parameter_groups
from epochal.recipe import Recipe
from epochal.training.loop import fit
from epochal.training.records import Record, Started


class HeadFirst(nn.Module):
    """A network whose output layer is defined before the others."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.classifier = nn.Linear(8, 3)
        self.trunk = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.classifier(self.trunk(x))
        return outputs


class Named(HeadFirst):
    head = "trunk.2"


class LikeTimm(HeadFirst):
    def get_classifier(self) -> nn.Module:
        return self.classifier

    def no_weight_decay(self) -> set[str]:
        return {"trunk.0.bias"}


def _head(model: nn.Module, net: nn.Module) -> set[str]:
    head = head_of(model, model(torch.ones(2, 2)))
    return {name for name, parameter in net.named_parameters() if parameter in head}


def test_the_head_is_the_marked_one_or_the_weight_nearest_to_the_outputs() -> None:
    assert _head(net := HeadFirst(), net) == {"classifier.weight"}
    assert _head(net := Named(), net) == {"trunk.2.weight", "trunk.2.bias"}
    # The whole model has layers around the network.
    net = LikeTimm()
    assert _head(nn.Sequential(nn.Identity(), net, nn.Softplus()), net) == {"classifier.weight", "classifier.bias"}


def test_a_head_that_is_not_there_is_reported() -> None:
    net = Named()
    net.head = "fc"
    with pytest.raises(ModelError, match=r"^Named has no part 'fc', its head\.\nLet head name one of its modules\.$"):
        head_of(net, net(torch.ones(2, 2)))


@pytest.mark.parametrize("name", [name for name, entry in MODELS.items() if entry.kind in (None, "picture")])
def test_the_last_weight_of_our_networks_is_that_of_the_last_layer(name: str, make_spec: Callable[..., DataSpec]) -> None:
    shape = (3, 32, 32) if name == "tutorial-cifar" else (1, 28, 28)
    spec = make_spec(shape=shape, dtype="uint8", outputs=tuple("abcdefghij"), mean=(0.5,), std=(1.0,))
    net = build_net(name, spec, {})
    last = [parameter for parameter in net.parameters() if parameter.ndim > 1][-1]
    assert last_weights(net(torch.rand(2, *shape))) == [last]


def test_outputs_without_a_graph_have_no_last_weight() -> None:
    assert last_weights(torch.ones(3)) == []
    assert last_weights(torch.ones(3, requires_grad=True) * 2) == []


def test_groups_are_those_of_marked_parts() -> None:
    net: Any = HeadFirst()
    names = [name for name, _ in net.named_parameters()]
    assert [[name for name, _ in group["params"]] for group in parameter_groups(net)] == [names]
    assert [group.keys() for group in parameter_groups(net)] == [{"params"}]
    net.trunk.lr_scale, net.trunk[2].lr_scale = 0.1, 0.5
    net.classifier.no_weight_decay = ("bias",)
    net.trunk[0].bias.requires_grad_(False)
    found = [(" ".join(name for name, _ in group.pop("params")), group) for group in parameter_groups(net)]
    assert found == [
        ("classifier.weight", {}),
        ("classifier.bias", {"weight_decay": 0.0}),
        ("trunk.0.weight", {"lr_scale": 0.1}),
        ("trunk.2.weight trunk.2.bias", {"lr_scale": 0.5}),
    ]
    assert [group.get("weight_decay") for group in parameter_groups(LikeTimm())] == [None, 0.0]


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_training_follows_the_marks(blobs: tuple[Tensor, Tensor], optimizer: str) -> None:
    """A part learns with its share of the rate, also where the schedule changes it, and a frozen one not at all."""
    records: list[Record] = []
    net: Any = HeadFirst()
    net.trunk[0].requires_grad_(False)
    net.trunk[2].lr_scale = 0.25
    before = [parameter.detach().clone() for parameter in net.parameters()]
    recipe = Recipe().updated({"device": "cpu", "threads": 1, "optimizer": {"name": optimizer, "lr": 0.4}, "schedule": "cosine"})
    history = fit(net, blobs, recipe.updated({"epochs": 2}), watchers=[records.append])
    changed = [not torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True)]
    assert changed == [True, True, False, False, True, True]
    assert isinstance(records[0], Started)
    (note,) = [note for note in records[0].notes if note.startswith("optimizer ")]
    rates = [group["lr"] for group in history.optimizer["groups"]]
    assert rates == pytest.approx([0.4, 0.1] if optimizer == "sgd" else [0.1, 0.1, 0.025])
    assert note.count("lr ") == len(rates)


def test_muon_takes_a_head_that_is_defined_first(blobs: tuple[Tensor, Tensor]) -> None:
    recipe = Recipe().updated({"device": "cpu", "threads": 1, "optimizer": "muon", "epochs": 1})
    groups = fit(HeadFirst(), blobs, recipe).optimizer["groups"]
    # Hidden are the two weights of the trunk.
    assert [(group["numbers"], group["is_hidden"]) for group in groups] == [(16 + 64, True), (24 + 3 + 8 + 8, False)]
