"""The state of training: what its steps change, and what a checkpoint saves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from epochal.distributed.ranks import Ranks
from epochal.errors import NotFiniteError
from epochal.models.build import train_mode
from epochal.recipe import Recipe
from epochal.tasks.losses import Loss
from epochal.training.average import MovingAverage
from epochal.training.best import Best
from epochal.training.compiled import Forward
from epochal.training.distributed import Distributed, Due, Meetings, Slowest
from epochal.training.label_history import LabelHistory
from epochal.training.optim import Optimizer, groups_of
from epochal.training.records import EpochDone
from epochal.training.saved import Count, Saved, State, Stateful, check_tensors, nested, part
from epochal.training.schedule import Schedule
from epochal.training.sharing import Sharing, Threads
from epochal.training.signals import Signals
from epochal.training.traced.step import TracedStep


class _Saved(Saved):
    epoch: Annotated[int, Field(ge=1)]
    step: Count
    elapsed: Annotated[float, Field(ge=0)]
    epoch_began: Annotated[float, Field(ge=0)]
    history: list[EpochDone]


@dataclass
class Training:
    """The state of training: what `train_step` changes, and what it needs.

    `began` is when training would have started without breaks, on the clock of `time.perf_counter`; `epoch_began` is the seconds of
    training before this epoch. `constants` are the model's buffers that were not finite from the beginning, such as
    the -inf of a mask: they may stay so. `frozen` are the modules that stay in evaluation mode, `parts` the objects with a state.
    """

    recipe: Recipe
    device: torch.device
    model: nn.Module
    frozen: tuple[nn.Module, ...]
    distributed: Distributed
    forward: Forward
    traced: TracedStep
    loss: Loss
    optimizer: Optimizer
    update: Callable[[], None]
    rates: list[float]
    schedule: Schedule
    scaler: torch.amp.GradScaler
    average: MovingAverage | None
    total_steps: int
    best: Best
    loss_sum: Tensor
    constants: frozenset[str]
    threads: Threads
    labels: LabelHistory
    parts: Mapping[str, Stateful]
    sharing: Sharing | None = None
    began: float = field(default_factory=time.perf_counter)
    epoch_began: float = 0.0
    epoch: int = 1
    step: int = 0
    history: list[EpochDone] = field(default_factory=list)
    meetings: Meetings = field(init=False)

    def __post_init__(self) -> None:
        self.meetings = Meetings(self.ranks)

    @property
    def steps_of_epoch(self) -> int:
        """The number of steps so far in this epoch."""
        return self.step - (self.epoch - 1) * self.schedule.steps_per_epoch

    @property
    def position(self) -> tuple[int, int, int]:
        """The number of steps so far, the epoch, and the number of rewinds."""
        return self.step, self.epoch, len(self.schedule.rewinds)

    @property
    def deadline(self) -> float:
        """When training must end, on the clock of `time.perf_counter`."""
        return self.began + (self.recipe.max_seconds or math.inf)

    @property
    def ranks(self) -> Ranks:
        """The processes that train together."""
        return self.distributed.ranks

    @property
    def slowest(self) -> Slowest | None:
        """The process that the others wait for; `None` if there are no others, or on GPUs, whose steps the processes do not follow."""
        return self.meetings.slowest if self.device.type == "cpu" else None

    def due(self, decided: Due, signals: Signals, waited: float) -> Due:
        """Return what is due now, between two steps: what is `decided` here, or by process 0 when processes meet.

        This epoch has `waited` so many seconds for data.
        """
        return decided if self.ranks.size == 1 else self.meetings.after_step(decided, signals, waited)

    def elapsed(self) -> float:
        """Return the seconds of training, all sessions together."""
        return time.perf_counter() - self.began

    def rate(self) -> float:
        """Return the highest learning rate of the last step; NaN if the optimizer has none."""
        if not self.schedule.is_constant:
            return self.schedule.factor(self.step - 1) * max(self.rates)
        # The user's own optimizer may change its rates itself.
        return max((float(group["lr"]) for group in groups_of(self.optimizer) if "lr" in group), default=math.nan)

    def train_mode(self) -> None:
        """Put the model into training mode, except for what the user froze."""
        train_mode(self.model, self.frozen)

    def state_dict(self) -> State:
        """Return everything that determines the rest of training, as tensors and JSON values."""
        own = _Saved(epoch=self.epoch, step=self.step, elapsed=self.elapsed(), epoch_began=self.epoch_began, history=self.history)
        return own.model_dump() | {"loss_sum": self.loss_sum} | self._state_of_parts()

    def load_state_dict(self, state: State) -> None:
        """Continue from a state. Raises `ValueError` for one that no training of this model, with these settings, can reach."""
        saved = _Saved.read(
            {name: value for name, value in state.items() if name.partition("/")[0] not in self.parts}, {"loss_sum": self.loss_sum}
        )
        done = len(saved.history)
        if [epoch.epoch for epoch in saved.history] != list(range(1, done + 1)) or saved.epoch != done + 1:
            raise ValueError(f"its epochs are not those before epoch {saved.epoch}")
        for name, holder in self.parts.items():
            kept = part(state, name)
            try:
                if holder is self.model:
                    check_tensors(kept, self.model.state_dict())
                holder.load_state_dict(kept)
            except ValueError as error:
                raise ValueError(f"{name}/{error}") from error
        if not all(bool(done) <= epoch <= done for epoch in (self.best.epoch, self.best.improved)):
            raise ValueError(f"its best epoch is not one of {done}")
        self.loss_sum.copy_(state["loss_sum"])
        self.epoch, self.step, self.epoch_began = saved.epoch, saved.step, saved.epoch_began
        self.history[:] = saved.history
        # If training ended within an epoch, there are fewer steps than in all epochs so far.
        if abs(self.steps_of_epoch) > self.schedule.steps_per_epoch:
            raise ValueError(f"step {self.step} is not in epoch {self.epoch}")
        self.began = time.perf_counter() - saved.elapsed

    def _state_of_parts(self) -> State:
        return nested({name: holder.state_dict() for name, holder in self.parts.items()})

    def check_finite(self, loss_sum: Tensor | None = None) -> None:
        """Raise `NotFiniteError` if a tensor of the state has a value that is not finite, or the `loss_sum` of all processes.

        This waits for the device.
        """
        constants = tuple(f"/{name}" for name in self.constants)
        for name, tensor in {"loss_sum": self.loss_sum if loss_sum is None else loss_sum, **self._state_of_parts()}.items():
            if isinstance(tensor, Tensor) and not tensor.isfinite().all() and not name.endswith(constants):
                when = f"after step {self.step}" if self.step else "before the first step"
                raise NotFiniteError(
                    f"{name.replace('/', ' ')} has a value that is not finite {when}; it is not saved.",
                    "Use a smaller --lr, or set clip_norm; check the inputs' scale."
                    if self.step
                    else "Fix the weights that the model begins with.",
                )
