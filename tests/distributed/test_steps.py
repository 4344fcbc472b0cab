"""Several processes make the same steps as one: the same losses and weights, up to the order of sums."""

from __future__ import annotations

import copy
import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from epochal.data.load import Data, load
from epochal.recipe import Recipe
from epochal.training import loop
from epochal.training.checkpoint import Checkpoints
from epochal.training.loop import fit
from tests.forks import Server
from tests.processes import Processes, write

# The last batch of an epoch is smaller: it has 4 examples, in two parts 2 each, for up to 4 processes.
COUNT, BATCH = 60, 14

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "parts": {"accumulate": 3, "clip_norm": 0.1, "ema": 0.9},
    "weighted": {"loss.class_weights": "balanced", "loss.smoothing": 0.1},
    "mixed": {"augment.mixup": 0.4, "accumulate": 2},
    "balanced": {"data.sampling": "balanced", "augment.flip": True},
}


class Net(nn.Module):
    """Everything whose result depends on which examples are computed together, in float64: only sums in another order may differ."""

    def __init__(self, *, is_weighted: bool) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.is_weighted = is_weighted
        self.convolution = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout2d(0.3)
        self.flat = nn.Sequential(nn.Flatten(), nn.Linear(4 * 16, 8), nn.BatchNorm1d(8, momentum=None), nn.Tanh(), nn.Dropout(0.4))
        self.out = nn.Linear(8, 3)
        self.double()

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [batch, 3]."""
        features = self.flat(self.drop(self.norm(self.convolution(inputs.to(self.out.weight.dtype) / 255)).relu()))
        if self.training:
            # One example in five loses all of its features.
            features = features * (torch.rand_like(features[:, :1]) > 0.2)
        # Class weights are float32.
        outputs: Tensor = self.out(features)
        return outputs.float() if self.is_weighted else outputs


def pictures() -> Data:
    """Return 60 pictures of 6 × 6 pixels for training, and 9 for validation."""
    chance = torch.Generator().manual_seed(1)
    labels = torch.arange(COUNT + 9) % 3
    pixels = torch.randint(0, 200, (COUNT + 9, 1, 6, 6), generator=chance, dtype=torch.uint8)
    pixels[:, 0, 0, 0] += (20 * labels).to(torch.uint8)
    part = {"train": (pixels[:COUNT], labels[:COUNT]), "valid": (pixels[COUNT:], labels[COUNT:])}
    return load(part)


def train(name: str, _: int = 0) -> None:
    """Train as in `SETTINGS`, and write the losses of all steps, the weights, the scores, and what was said of labels."""
    from epochal.distributed.ranks import ranks

    losses: list[float] = []
    real = loop.train_step

    def step(training: Any, batch: Any) -> None:
        before = training.loss_sum.clone()
        real(training, batch)
        losses.append(float(training.ranks.total(training.loss_sum.detach() - before)))

    loop.train_step = step
    net = Net(is_weighted=name == "weighted")
    torch.manual_seed(8)
    recipe = Recipe().updated(
        {"epochs": 3, "batch_size": BATCH, "threads": 1, "step": "plain", "lr": 0.01, "keep": "last", **SETTINGS[name]}
    )
    done = fit(net, pictures(), recipe)
    weights = {key: value.double().flatten().tolist() for key, value in net.state_dict().items()}
    scores = [epoch.valid.loss for epoch in done.epochs if epoch.valid is not None]
    here = ranks()
    write({"losses": losses, "weights": weights, "valid": scores, "labels": done.labels.tolist()}, f"{here.size}-{here.rank}.json")


def train_in_two(_: int) -> None:
    """Train at once, and with a break after an epoch, and write whether that ends with the same bits."""
    recipe = Recipe().updated({"epochs": 3, "batch_size": BATCH, "threads": 1, "step": "plain", "lr": 0.01, "keep": "last"})
    nets = [Net(is_weighted=False).float() for _ in range(2)]
    fit(nets[0], pictures(), recipe)
    fit(nets[1], pictures(), recipe, checkpoints=Checkpoints(Path("checkpoints")), stop=lambda done: "enough" * (done.epoch == 1))
    fit(nets[1], pictures(), recipe, checkpoints=Checkpoints(Path("checkpoints")))
    weights = [torch.cat([one.double().flatten() for one in net.state_dict().values()]) for net in nets]
    write(torch.equal(*weights), "equal.json")


class Wide(nn.Module):
    """A network whose gradients are added up in two groups, and of which a part draws random numbers or has buffers, as asked."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(3)
        first: nn.Module = nn.Conv2d(1, 8, 3)
        first.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.layers = nn.Sequential(first, nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 2048), nn.GELU(), nn.Linear(2048, 200), nn.ReLU())
        self.part, self.out = part, nn.Linear(200, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [batch, 3]."""
        outputs: Tensor = self.out(self.part(self.layers(inputs.float() / 255)))
        return outputs


# What is traced.
TRACED: dict[str, tuple[dict[str, Any], nn.Module]] = {
    "plain": ({"precision": "bf16"}, nn.Identity()),
    "all at once": (
        {"clip_norm": 0.1, "ema": 0.9, "loss.class_weights": "balanced", "augment.mixup": 0.4, "optimizer": "adamw"},
        nn.Dropout(0.2),
    ),
}

# What is not, and why.
UNTRACED: dict[str, tuple[dict[str, Any], nn.Module]] = {
    "compute batch norm together": ({}, nn.BatchNorm1d(200)),
    "exchange buffers": ({"distributed.batch_norm": "local", "batch_size": 15}, nn.BatchNorm1d(200)),
    "several parts of a batch": ({"accumulate": 2}, nn.Identity()),
    "a step does not use": ({"distributed.find_unused_parameters": True}, nn.Identity()),
}


def train_traced(rank: int) -> None:
    """Train with plain steps, and with traced ones and a break; write what came out of it, and why some are not traced."""
    found: dict[str, list[Any]] = {}
    for name, (settings, part) in (TRACED | UNTRACED).items():
        recipe = Recipe().updated({"epochs": 2, "batch_size": BATCH, "threads": 1, "lr": 0.01, "keep": "last", **settings})
        found[name] = []
        for step in ("plain", "auto") if name in TRACED else ("auto",):
            net, checkpoints = Wide(copy.deepcopy(part)), Checkpoints(Path(f"{name} {step}"))
            fit_it = partial(fit, net, pictures(), recipe.updated({"step": step}), checkpoints=checkpoints)
            if (name, step) == ("all at once", "auto"):
                fit_it(stop=lambda done: "enough" * (done.epoch == 1))
            done = fit_it()
            digest = hashlib.sha256(torch.cat([one.double().flatten() for one in net.state_dict().values()]).numpy().tobytes()).hexdigest()
            found[name].append([digest, [epoch.train_loss for epoch in done.epochs], done.finished.untraced])
    write(found, f"traced-{rank}.json")


def fork(folder: Path, name: str, size: int) -> list[dict[str, Any]]:
    """Train in so many processes; one trains as one always does."""
    work = {"traced": train_traced, "with a break": train_in_two}.get(name) or partial(train, name)
    return Processes(folder, size, work).wait()


def read(folder: Path, size: int, rank: int) -> dict[str, Any]:
    """Return what a process wrote."""
    found: dict[str, Any] = json.loads((folder / f"{size}-{rank}.json").read_text())
    return found


@pytest.mark.parametrize("name", SETTINGS)
def test_several_processes_train_as_one(name: str, forking: Server, tmp_path: Path) -> None:
    for size in (1, 2, 4):
        forking.by(__name__).ask(folder=str(tmp_path), name=name, size=size)
        assert [one["code"] for one in forking.answer()] == [0] * size, (tmp_path / "said-0.txt").read_text()
    alone = read(tmp_path, 1, 0)
    for size in (2, 4):
        leader, last = read(tmp_path, size, 0), read(tmp_path, size, size - 1)
        assert leader["losses"] == pytest.approx(alone["losses"], rel=3e-6)
        assert leader["valid"] == pytest.approx(alone["valid"], rel=1e-9)
        for key, value in alone["weights"].items():
            assert leader["weights"][key] == pytest.approx(value, rel=1e-7 if name != "weighted" else 1e-4, abs=1e-7)
        # All processes have the same weights, to the bit, and the first knows what was said of all labels.
        assert last["weights"] == leader["weights"]
        assert torch.allclose(torch.tensor(leader["labels"]), torch.tensor(alone["labels"]), atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("size", [3, 4])
def test_bits_are_those_without_a_break(size: int, forking: Server, tmp_path: Path) -> None:
    forking.by(__name__).ask(folder=str(tmp_path), name="with a break", size=size)
    assert [one["code"] for one in forking.answer()] == [0] * size, (tmp_path / "said-0.txt").read_text()
    assert json.loads((tmp_path / "equal.json").read_text())


@pytest.mark.parametrize("size", [2, 3])
def test_traced_steps_have_the_bits_of_plain_ones(size: int, forking: Server, tmp_path: Path) -> None:
    forking.by(__name__).ask(folder=str(tmp_path), name="traced", size=size)
    assert [one["code"] for one in forking.answer()] == [0] * size, (tmp_path / "said-0.txt").read_text()
    found = [json.loads((tmp_path / f"traced-{rank}.json").read_text()) for rank in range(size)]
    for name in TRACED:
        plain, traced = found[0][name]
        assert plain[:2] == traced[:2], name
        assert (plain[2], traced[2]) == ("as set", "")
    for why_not in UNTRACED:
        assert why_not in found[0][why_not][-1][2]
    # All processes have the same weights and buffers.
    for name, ends in found[0].items():
        assert [[end[0] for end in ends]] * size == [[end[0] for end in rank[name]] for rank in found]
