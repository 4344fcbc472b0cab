"""Losses of every step by several processes beside those of one, and beside those of one whose weights differ in the last digit.

EPOCHAL_LOSSES=200 python3 -m pytest -s tests/distributed/test_losses.py     so many steps on MNIST, a folder of CIFAR-10, adult and SST-2
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from epochal.data.load import Data, load
from epochal.models.build import assemble, build_net
from epochal.recipe import Recipe
from epochal.training import loop
from epochal.training.loop import fit
from tests.data.test_table import people
from tests.forks import Server
from tests.processes import Processes, write

STEPS = int(os.environ.get("EPOCHAL_LOSSES", "0"))
PLACE = Path(os.environ.get("EPOCHAL_DATA", "/nowhere"))

# How often the same training is repeated, whose bits have to be equal.
TIMES = 20 if STEPS else 2

# Of a relative difference in the weights, how much more in the losses is taken for rounding.
PERTURBED, ROUNDING = 1e-7, 10

CHANGES: dict[str, Any] = {"augment.flip": True, "augment.shift": 2}
# For each kind of data the network, its options, and settings.
MADE: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {"table": ("tabular", {}, {}), "texts": ("bag", {}, {})}
REAL: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "mnist": ("conv", {}, {"augment.shift": 2}),
    "cifar10": ("vgg", {"widths": [8, 16]}, CHANGES),
    "adult": ("tabular", {}, {}),
    "sst2": ("bag", {}, {}),
}


class Double(nn.Module):
    """A network in float64 behind what prepares its inputs."""

    def __init__(self, whole: nn.Module) -> None:
        super().__init__()
        self.preprocess, self.net = whole.get_submodule("preprocess"), whole.get_submodule("net").double()

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs in float64."""
        ready = self.preprocess(inputs)
        outputs: Tensor = self.net(ready.double() if ready.is_floating_point() else ready)
        return outputs


@cache
def data(name: str) -> Data:
    """Load the data, and split them."""
    match name:
        case "table":
            found = load(people(120), target="income")
        case "texts":
            found = load((["a good film", "a bad one, and long", "good acting", "bad bad"] * 30, [1, 0, 1, 0] * 30))
        case "mnist":
            found = load("mnist", data_dir=PLACE)
        case "cifar10":
            found = load(_unpacked())
        case "adult":
            found = load(PLACE / "tables" / "adult-train.csv", target="income")
        case _:
            found = load(PLACE / "text" / "sst2" / "train.tsv", target="1", text="0")
    return found.split(0.02, 0.1, 0)


def _unpacked() -> Path:
    """Return the folder of the pictures of CIFAR-10, which are unpacked once."""
    import tarfile

    folder = Path(os.environ["EPOCHAL_CACHE"]) / "cifar10-jpg"
    if not folder.exists():
        with tarfile.open(PLACE / "cifar10-jpg.tar.xz") as packed:
            packed.extractall(folder.parent, filter="data")
    return folder


def train(name: str, kind: str, steps: int, _: int) -> None:
    """Train, and write the part of this process in the loss of each step, its rows by hash, and the weights by hash."""
    from epochal.distributed.ranks import ranks

    losses: list[list[Tensor]] = []
    rows: list[list[str]] = []
    real = loop.train_step

    def step(training: Any, batch: Any) -> None:
        losses.append([])
        counted = [slices.counts for slices in batch.slices for _ in range(slices.rows)]
        rows.append([_hash(row) for row, counts in zip(batch.inputs, counted, strict=True) if counts])
        scale = type(training.scaler).scale

        def scaled(loss: Tensor) -> Any:
            losses[-1].append(loss.detach().double())
            return scale(training.scaler, loss)

        training.scaler.scale = scaled
        real(training, batch)

    loop.train_step = step
    model, options, settings = (MADE | REAL)[name]
    recipe = Recipe().updated(
        {"batch_size": 64, "epochs": 100, "max_steps": steps, "threads": 1, "step": "plain", "keep": "last", **settings}
    )
    torch.manual_seed(0)
    net: nn.Module = assemble(build_net(model, data(name).spec, options), data(name).spec, recipe.data, rescale=False)
    if kind == "perturbed":
        with torch.no_grad():
            for weights in net.parameters():
                weights.mul_(1 + PERTURBED)
    fit(Double(net) if kind == "float64" else net, data(name), recipe)
    state = _hash(torch.cat([value.double().flatten() for value in net.state_dict().values()]))
    here = ranks()
    write({"losses": [float(sum(one)) for one in losses], "rows": rows, "state": state}, f"{here.size}-{here.rank}.json")


def _hash(values: Tensor) -> str:
    return hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()[:16]


def fork(folder: Path, name: str, kind: str, steps: int, size: int) -> list[dict[str, Any]]:
    """Train in so many processes; what is read is kept for later forks."""
    data(name)
    return Processes(folder, size, partial(train, name, kind, steps)).wait()


def found(forking: Server, folder: Path, name: str, kind: str, size: int, steps: int = STEPS or 12) -> dict[str, Any]:
    """Return losses, rows and weights of all processes together."""
    forking.by(__name__).ask(folder=str(folder), name=name, kind=kind, steps=steps, size=size)
    assert [one["code"] for one in forking.answer()] == [0] * size, (folder / "said-0.txt").read_text()
    parts = [json.loads((folder / f"{size}-{rank}.json").read_text()) for rank in range(size)]
    assert len({part["state"] for part in parts}) == 1
    losses = torch.tensor([part["losses"] for part in parts], dtype=torch.float64).sum(0)
    rows = [[row for part in step for row in part] for step in zip(*(part["rows"] for part in parts), strict=True)]
    return {"losses": losses, "rows": rows, "state": parts[0]["state"]}


def far(one: Tensor, other: Tensor) -> float:
    """Return the largest relative difference."""
    return float(((one - other).abs() / other.abs()).max())


def near(one: Tensor, other: Tensor) -> int:
    """Return how many steps pass until they differ by 10⁻⁵ for the first time."""
    return int(torch.cat([(one - other).abs() / other.abs() > 1e-5, torch.ones(1, dtype=torch.bool)]).int().argmax())


@pytest.mark.parametrize("name", REAL if STEPS else MADE)
def test_losses_are_those_of_one_process(name: str, forking: Server, tmp_path: Path) -> None:
    alone = {kind: found(forking, tmp_path, name, kind, 1) for kind in ("float32", "perturbed", "float64")}
    rounding = far(alone["perturbed"]["losses"], alone["float32"]["losses"])
    steps = near(alone["perturbed"]["losses"], alone["float32"]["losses"])
    said = [f"{name}: weights changed by 1e-7 {rounding:.1e}, {steps} steps to 1e-5"]
    for size in (2, 4) if STEPS else (2,):
        for kind in ("float32", "float64"):
            several = found(forking, tmp_path, name, kind, size)
            # The same examples in the same order, changed alike.
            assert several["rows"] == alone[kind]["rows"]
            distance = far(several["losses"], alone[kind]["losses"])
            said.append(f"{size} processes {kind} {distance:.1e}, {near(several['losses'], alone[kind]['losses'])} steps to 1e-5")
            assert distance < (1e-9 if kind == "float64" else ROUNDING * max(rounding, 1e-7))
        states = {found(forking, tmp_path, name, "float32", size, STEPS // 4 or 12)["state"] for _ in range(TIMES)}
        assert len(states) == 1
    print("\n" + "; ".join(said))
