"""How to add a model: a function from the data's description to a network, and a line in the table."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from epochal import Bundle, train
from epochal.data.spec import DataSpec
from epochal.errors import ModelError
from epochal.models.build import MODELS, Entry


# 1. A function: it takes the description and its options, and returns a network of one output for each of `spec.outputs`.
def bottleneck(spec: DataSpec, width: int = 2) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(spec.features), width), nn.Tanh(), nn.Linear(width, len(spec.outputs)))


# 2. A line in the table, which `epochal models` prints.
@pytest.fixture(autouse=True)
def _in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "bottleneck", Entry(bottleneck, "a few units between input and output, width=2", kind=None))


def test_it_trains_and_is_kept(blobs: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    run = train(blobs, model={"name": "bottleneck", "width": 4}, epochs=30, lr=0.05, out=tmp_path / "run", quiet=True)
    assert run.test is not None
    assert run.test.accuracy is not None
    assert run.test.accuracy >= 0.9
    again = Bundle.load(tmp_path / "run")
    assert [layer.out_features for layer in again.model.modules() if isinstance(layer, nn.Linear)] == [4, 3]
    assert [one.label for one in again.predict(blobs[0])] == [one.label for one in run.predict(blobs[0])]


def test_its_options_are_checked(blobs: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ModelError, match="The model bottleneck has no option 'widht'.\nDid you mean 'width'?"):
        train(blobs, model={"name": "bottleneck", "widht": 4}, quiet=True)


def test_a_network_of_the_users_own_needs_no_line(blobs: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
    run = train(blobs, model=net, epochs=30, lr=0.05, out=tmp_path / "run", quiet=True)
    again = Bundle.load(tmp_path / "run", nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3)))
    assert [one.label for one in again.predict(blobs[0])] == [one.label for one in run.predict(blobs[0])]
