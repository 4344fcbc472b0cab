"""The same training with plain and with traced steps, and all that it leaves, to be compared bit by bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from epochal.recipe import Recipe
from epochal.training import loop
from epochal.training.loop import TrainingHistory, fit
from epochal.training.records import EpochDone
from epochal.training.state import Training
from epochal.training.traced import step
from epochal.training.traced.step import TracedStep

# What the clock says, which no training repeats.
_CLOCK = ("elapsed", "epoch_began", "seconds", "examples_per_second", "waiting")


@dataclass
class Watched:
    """What training does: its state after each epoch (the last one), and how many batches, or parts of them, were traced and plain."""

    training: list[Training] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)
    traced: int = 0
    plain: int = 0

    def epoch_done(self, _: EpochDone) -> str:
        """For `stop`."""
        state = self.training[-1].state_dict()
        self.state = {name: value.clone() if isinstance(value, Tensor) else without_clock(value) for name, value in state.items()}
        for name in _CLOCK:
            self.state.pop(name, None)
        return ""


def without_clock(value: Any) -> Any:
    """Return JSON values without what the clock says."""
    if isinstance(value, dict):
        return {name: without_clock(one) for name, one in value.items() if name not in _CLOCK}
    return [without_clock(one) for one in value] if isinstance(value, list | tuple) else value


@contextmanager
def watching() -> Iterator[Watched]:
    """Look at each training in the block, by the functions that it goes through."""
    watched = Watched()
    page: Any = loop
    build, call = page.build_training, TracedStep.__call__

    def building(*arguments: Any, **options: Any) -> Training:
        watched.training.append(build(*arguments, **options))
        return watched.training[-1]

    def calling(self: TracedStep, *arguments: Any) -> tuple[Tensor, Tensor] | None:
        made = call(self, *arguments)
        watched.traced += made is not None
        watched.plain += made is None
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "build_training", building)
        patch.setattr(TracedStep, "__call__", calling)
        # On a busy machine any step may seem long.
        patch.setattr(step, "LONG", math.inf)
        yield watched


def trained(make: Callable[[], nn.Module], data: Any, recipe: Recipe, kind: str, **own: Any) -> tuple[Watched, TrainingHistory, nn.Module]:
    """Train a new network with this kind of step."""
    model = make()
    with watching() as watched:
        history = fit(model, data, recipe.updated({"step": kind}), stop=watched.epoch_done, **own)
    return watched, history, model


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return the names of what differs in any bit, or in its layout in memory."""
    return sorted(name for name in one.keys() | other.keys() if not _same(one.get(name), other.get(name)))


def _same(one: Any, other: Any) -> bool:
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return repr(one) == repr(other)
    if (one.dtype, one.shape, one.stride()) != (other.dtype, other.shape, other.stride()):
        return False
    return torch.equal(*(tensor.contiguous().view(-1).view(torch.uint8) for tensor in (one, other)))


def weights(model: nn.Module) -> dict[str, Any]:
    """Return parameters and buffers by their names, those that no state has too."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}
