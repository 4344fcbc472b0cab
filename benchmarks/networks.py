"""What `engine.py` measures: four networks, with data made for them and the recipe that trains them, and four ways of a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from epochal.data.load import Data
    from epochal.recipe import Recipe
    from torch import nn

# Examples in an epoch: a whole number of batches of every size.
COUNT = 30_720
BATCH_SIZES = (16, 64, 512)
WAYS = ("plain", "traced", "TorchScript", "compiled")


@dataclass(frozen=True)
class Network:
    """A registered model and its options, and the examples that it takes."""

    model: str
    shape: Sequence[int]
    classes: int
    options: Mapping[str, Any] = field(default_factory=dict)


NETWORKS = {
    "20-64-64-2": Network("mlp", (20,), 2, {"widths": [64, 64]}),
    "784-128-10": Network("tutorial-mlp", (1, 28, 28), 10),
    "784-128-64-10": Network("mlp", (1, 28, 28), 10, {"widths": [128, 64]}),
    "convolutions": Network("conv", (1, 28, 28), 10, {"dropout": 0.2}),
}


def made(name: str, count: int) -> tuple[nn.Module, Data]:
    """Return a network with the layer that scales its inputs in front, and `count` random examples; always the same ones."""
    import epochal
    import torch
    from epochal.models.build import assemble, build_net

    network = NETWORKS[name]
    torch.manual_seed(0)
    shape = (count, *network.shape)
    # Numbers of a table are float32, pixels are uint8.
    inputs = torch.randn(shape) if len(network.shape) == 1 else torch.randint(256, shape, dtype=torch.uint8)
    data = epochal.load((inputs, torch.arange(count) % network.classes))
    net = build_net(network.model, data.spec, network.options)
    return assemble(net, data.spec, recipe(1, 1).data, rescale=False), data


def recipe(batch_size: int, threads: int) -> Recipe:
    """Return the recipe: Adam at a constant rate, on so many threads of the CPU."""
    import epochal

    # The number of threads is given: measuring which is fastest, or changing it, is not the step.
    given = {"epochs": 1_000_000, "batch_size": batch_size, "device": "cpu", "threads": threads}
    return epochal.load_recipe("tutorial-mlp").updated(given)
