"""Training a case in both ways, traced and plain, and all that it ends with."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn

from epochal.training.loop import fit
from epochal.training.records import EpochDone, Record
from epochal.training.traced import step as step_file
from epochal.training.traced.program import Program, Step
from tests.small import small_recipe

# The arguments of `fit`; all have a default.
Setup = dict[str, Any]
Make = Callable[[pytest.MonkeyPatch], Setup]


# What has been counted in this training.
SEEN: list[int] = []


def tick() -> float:
    """Return another number than at the last call."""
    SEEN.append(0)
    return 1 + len(SEEN) % 5 / 10


@dataclass(frozen=True)
class Case:
    """A way to train, and a regular expression for the reason for plain steps: "" where steps are traced to the end."""

    make: Make
    why: str


CASES: dict[str, Case] = {}


def case(why: str = "") -> Callable[[Any], Any]:
    """Add a case: a module without arguments, or a function that returns what `fit` is given."""

    def add(made: Any) -> Any:
        is_module = isinstance(made, type) and issubclass(made, nn.Module)
        assert made.__name__ not in CASES
        CASES[made.__name__] = Case((lambda _: {"model": made()}) if is_module else made, why)
        return made

    return add


class Net(nn.Module):
    """Six numbers to three classes, with a layer and a buffer for whatever a case does."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.drop = nn.Dropout(0.2)
        self.last = nn.Linear(8, 3)
        self.register_buffer("scale", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x) * self.scale)
        return self.last(self.drop(x))  # type: ignore[no-any-return]


def numbers(*, count: int = 80) -> tuple[Tensor, Tensor]:
    """Float32 [80, 6] around a centre for each of three classes, int64 [80]."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(count) % 3
    return torch.randn(3, 6, generator=generator)[labels] + torch.randn(count, 6, generator=generator), labels


def pictures() -> tuple[Tensor, Tensor]:
    """Float32 [80, 1, 8, 8] and int64 [80] of two classes."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.arange(80) % 2
    return torch.randn(80, 1, 8, 8, generator=generator) + labels[:, None, None, None], labels


def words() -> tuple[Tensor, Tensor]:
    """Int64 [80, 5] below 10, and int64 [80] of three classes."""
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 10, (80, 5), generator=generator), torch.arange(80) % 3


def at_epoch(net: nn.Module, change: Callable[[Any], object], epoch: int = 1) -> Setup:
    """A network, and a watcher that does something to it after an epoch: by then, steps have been recorded."""

    def watch(record: Record) -> None:
        if isinstance(record, EpochDone) and record.epoch == epoch:
            change(net)

    return {"model": net, "watchers": [watch]}


@dataclass(frozen=True)
class Outcome:
    """What a training ends with: each tensor by name, what was printed in records, why steps were plain, and how many recordings ran."""

    tensors: dict[str, Tensor]
    losses: list[float]
    why: str
    recordings: int


def train(made: Case, step: str) -> Outcome:
    """Train in one of the ways: three epochs of ten steps."""
    with pytest.MonkeyPatch.context() as patch:
        SEEN.clear()
        torch.manual_seed(0)
        random.seed(0)
        numpy.random.seed(0)
        setup = {"data": numbers(), "model": None, "recipe": {}, **made.make(patch)}
        optimizers: list[torch.optim.Optimizer] = []
        build = setup.pop("optimizer", lambda parameters: torch.optim.AdamW(parameters, lr=0.03, fused=True))

        def optimizer(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
            optimizers.append(build(parameters))
            return optimizers[0]

        recordings = 0
        load = Program.load

        def counted(program: Program) -> Step:
            nonlocal recordings
            recordings += 1
            return load(program)

        patch.setattr(Program, "load", counted)
        # On a busy machine any step may seem long.
        patch.setattr(step_file, "LONG", math.inf)
        model = Net() if setup["model"] is None else setup["model"]
        recipe = small_recipe(batch_size=8, step=step, keep="last", **setup.pop("recipe"))
        losses: list[float] = []

        def note(record: Record) -> None:
            if isinstance(record, EpochDone):
                losses.append(record.train_loss)

        given = {name: value for name, value in setup.items() if name not in ("data", "model", "watchers")}
        watchers = [*setup.get("watchers", ()), note]
        with _settings_kept():
            history = fit(model, setup["data"], recipe, optimizer=optimizer, watchers=watchers, **given)
        return Outcome(_tensors(model, setup.get("loss"), optimizers[0]), losses, history.finished.untraced, recordings)


@contextmanager
def _settings_kept() -> Iterator[None]:
    """Leave PyTorch as it was."""
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_autocast_enabled("cpu", False)
        torch.backends.cuda.enable_flash_sdp(True)


def _tensors(model: nn.Module, loss: object, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for role, module in (("model", model), ("loss", loss)):
        if isinstance(module, nn.Module):
            for place, part in enumerate(module.modules()):
                for name, value in {**part._parameters, **part._buffers, **vars(part)}.items():
                    if isinstance(value, Tensor):
                        tensors[f"{role} {place} {name}"] = value.detach()
                        if value.is_leaf and value.grad is not None:
                            tensors[f"{role} {place} {name} gradient"] = value.grad
    for place, state in enumerate(getattr(optimizer, "state", {}).values()):
        tensors |= {f"optimizer {place} {name}": value for name, value in state.items() if isinstance(value, Tensor)}
    return tensors


def differences(one: Outcome, other: Outcome) -> list[str]:
    """Return the names of what differs in any bit."""
    if one.tensors.keys() != other.tensors.keys():
        return sorted(one.tensors.keys() ^ other.tensors.keys())
    found = [name for name, value in one.tensors.items() if not _same_bits(value, other.tensors[name])]
    return found + ["losses"] * (one.losses != other.losses)


def _same_bits(one: Tensor, other: Tensor) -> bool:
    one, other = (value.to_dense() if value.is_sparse else value for value in (one, other))
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(*(value.contiguous().reshape(-1).view(torch.uint8) for value in (one, other)))
