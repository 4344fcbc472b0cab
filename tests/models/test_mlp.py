"""Fully connected networks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from epochal.data.spec import DataSpec
from epochal.models.mlp import linear, mlp

SpecMaker = Callable[..., DataSpec]


def _kinds(net: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in net.children()]


def test_linear_is_one_layer(make_spec: SpecMaker) -> None:
    net = linear(make_spec(shape=(3, 4, 5), mean=(0.0,) * 3, std=(1.0,) * 3))
    assert _kinds(net) == ["Flatten", "Linear"]
    assert net(torch.rand(2, 3, 4, 5)).shape == (2, 3)


def test_mlp_has_the_widths_it_was_given(make_spec: SpecMaker) -> None:
    net = mlp(make_spec(), widths=[7, 5, 4], dropout=0.25)
    assert _kinds(net) == ["Flatten", *["Linear", "ReLU", "Dropout"] * 3, "Linear"]
    sizes = [(layer.in_features, layer.out_features) for layer in net.modules() if isinstance(layer, nn.Linear)]
    assert sizes == [(2, 7), (7, 5), (5, 4), (4, 3)]
    assert {layer.p for layer in net.modules() if isinstance(layer, nn.Dropout)} == {0.25}


@pytest.mark.parametrize("widths", [(), (6,)])
def test_mlp_without_dropout(make_spec: SpecMaker, widths: tuple[int, ...]) -> None:
    net = mlp(make_spec(), widths)
    assert "Dropout" not in _kinds(net)
    assert net(torch.rand(4, 2)).shape == (4, 3)


def test_default_widths(make_spec: SpecMaker) -> None:
    assert sum(parameter.numel() for parameter in mlp(make_spec()).parameters()) == (2 + 1) * 128 + (128 + 1) * 64 + (64 + 1) * 3
