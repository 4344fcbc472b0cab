"""The first value that is not finite is named: its step, its layer, its examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from epochal.errors import NotFiniteError
from epochal.random import key, permutation
from epochal.recipe import Recipe
from epochal.training.checkpoint import Checkpoints
from epochal.training.loop import fit

COUNT = 40


class Fragile(nn.Module):
    """Gives what is not finite for one input, in the output or, if so asked, in the gradient alone."""

    def __init__(self, where: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.where = where
        self.first = nn.Linear(2, 8)
        self.last = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        bad = x[:, :1] > 100
        hidden = self.first(x.clamp(max=1.0))
        if self.where == "output":
            hidden = hidden + torch.where(bad, torch.inf, 0.0)
        if self.where == "gradient":
            # The root is 0 there and its slope infinite.
            hidden = hidden + torch.where(bad, hidden * 0, 1.0).sqrt()
        outputs: Tensor = self.last(hidden)
        return outputs


def _data(bad: int) -> tuple[Tensor, Tensor]:
    x = torch.rand(COUNT, 2, generator=torch.Generator().manual_seed(0))
    x[bad, 0] = 1000.0
    return x, torch.arange(COUNT) % 2


def _recipe(**changes: Any) -> Recipe:
    return Recipe().updated({"device": "cpu", "threads": 1, "epochs": 3, "batch_size": 8, "schedule": "constant", **changes})


def _place(bad: int, epoch: int = 1) -> int:
    """The step of an epoch, from 1, that the example comes in."""
    order = permutation(key(0, epoch, "order"), COUNT).tolist()
    return int(order.index(bad)) // 8 + 1


@pytest.mark.parametrize("bad", [0, 17, 39])
def test_an_output(tmp_path: Path, bad: int) -> None:
    with pytest.raises(NotFiniteError) as raised:
        fit(Fragile("output"), _data(bad), _recipe(), checkpoints=_begun(tmp_path))
    step = _place(bad)
    assert str(raised.value).startswith(f"Step {step} (epoch 1): the input of last has a value that is not finite. From: train[{bad}].\n")


def test_a_gradient(tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError) as raised:
        fit(Fragile("gradient"), _data(5), _recipe(), checkpoints=_begun(tmp_path))
    told = str(raised.value)
    assert told.startswith(f"Step {_place(5)} (epoch 1): the gradient of first.weight has a value that is not finite. Its batch: train[")
    assert " and 3 more.\n" in told
    assert all(bool(tensor.isfinite().all()) for tensor in _tensors(tmp_path))


def test_parts_of_a_batch_name_the_batch(tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError, match=r"the input of last has .* Its batch: train\["):
        fit(Fragile("output"), _data(5), _recipe(accumulate=2), checkpoints=_begun(tmp_path))


def test_weights_that_grow_beyond_all_numbers(tmp_path: Path) -> None:
    x, y = torch.rand(COUNT, 2), torch.rand(COUNT, 1) * 1e18
    recipe = _recipe(optimizer={"name": "sgd", "lr": 1e18}, epochs=20)
    with pytest.raises(NotFiniteError, match=r"Step \d+ \(epoch \d+\): .* has a value that is not finite"):
        fit(nn.Linear(2, 1), (x, y), recipe, checkpoints=_begun(tmp_path))


def test_without_checkpoints_the_epoch_is_told() -> None:
    with pytest.raises(NotFiniteError, match=r"The loss became (nan|inf) in epoch 1, by step 5"):
        fit(Fragile("output"), _data(5), _recipe())


def test_nothing_is_blamed_that_does_not_happen_again(tmp_path: Path) -> None:
    class Once(Fragile):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            outputs: Tensor = super().forward(x)
            type(self).calls += self.training
            return outputs * torch.nan if type(self).calls == 3 and self.training else outputs

    with pytest.raises(NotFiniteError, match="The loss became nan in epoch 1"):
        fit(Once("nowhere"), _data(5), _recipe(), checkpoints=_begun(tmp_path))


def _begun(folder: Path) -> Checkpoints:
    """Checkpoints that are only written before the first step and at the ends of epochs."""
    return Checkpoints(folder, every=1e9)


def _tensors(folder: Path) -> list[Tensor]:
    from safetensors.torch import load_file

    return [tensor for file in folder.glob("*/state.safetensors") for tensor in load_file(file).values() if tensor.is_floating_point()]
