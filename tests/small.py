"""Small things that tests share: a recipe, a network, a dataset, inputs that are not in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from epochal.data.inputs.values import Access, OneByOne
from epochal.recipe import Recipe


def small_recipe(**changes: Any) -> Recipe:
    """Three epochs of batches of 16 on one thread of the CPU."""
    return Recipe().updated({"device": "cpu", "threads": 1, "epochs": 3, "batch_size": 16, **changes})


def small_net(*layers: nn.Module, seed: int = 0, outputs: int = 3) -> nn.Sequential:
    """A network from 2 numbers to `outputs`, with `layers` on its 8 hidden numbers; its weights depend on `seed` alone."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 8), *layers, nn.ReLU(), nn.Linear(8, outputs))


def stateful_net() -> nn.Sequential:
    """A `small_net` whose layers keep statistics and draw random numbers."""
    return small_net(nn.BatchNorm1d(8), nn.Dropout(0.3))


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


class Items(Dataset[Any]):
    """A dataset of given items, which counts how often they are read."""

    def __init__(self, items: Sequence[Any] | torch.Tensor) -> None:
        self.items = items
        self.reads = 0

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        self.reads += 1
        return self.items[index]


class Slow(OneByOne):
    """Inputs that are read one by one."""

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def read(self, place: int) -> Tensor:
        return self.values[place]


class Filed:
    """Inputs of which any number can be read at once."""

    access: Access = "file"

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Tensor) -> Tensor:
        return self.values[index]
