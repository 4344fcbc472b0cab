"""A profile of training on one device with one batch size: the phases of a step, its memory, and its floor."""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import flop_registry

from epochal.data.feed import Batch, Feed
from epochal.data.load import Data
from epochal.device import PeakMemory, choose, computing, synchronize
from epochal.operations import OperationMode
from epochal.random import fork_rng
from epochal.recipe import Recipe
from epochal.tasks.losses import Loss
from epochal.training.build import build_training, training_feed
from epochal.training.loop import train_step
from epochal.training.state import Training
from epochal.training.traced.step import TracedStep
from epochal.tuning.autotune import timed

PHASES = ("feed", "forward", "backward", "optimizer")


@dataclass(frozen=True)
class Profile:
    """The speed of training, and what determines it.

    `examples_per_second` and `seconds_per_epoch` are those of whole steps with their feed, without validation. `shares` is the share of
    the time of each of `PHASES`, measured with the device synchronized after each: forward includes the loss, and backward the
    clipping. `floor` is how many examples per second the matrix products and convolutions of the step would allow by themselves
    (see `arithmetic`), `None` if it has none. `peak_bytes` is the most memory in use: on CUDA by tensors, on the CPU by the whole
    program; `None` if that is unknown.
    """

    device: str
    threads: int
    batch_size: int
    examples_per_second: float
    seconds_per_epoch: float
    shares: dict[str, float]
    floor: float | None
    peak_bytes: int | None

    @property
    def times_floor(self) -> float | None:
        """The time of a step divided by that of its arithmetic."""
        return None if self.floor is None else self.floor / self.examples_per_second

    def to_json(self) -> dict[str, Any]:
        """Return the profile in the form of JSON."""
        return {**asdict(self), "times_floor": self.times_floor}


def profile(model: nn.Module, data: Data, recipe: Recipe, seconds: float) -> Profile:
    """Train a copy of `model` on `data` for about `seconds`, with a resolved recipe, and return the profile.

    Raises `RecipeError` for settings that cannot work, `TooLargeError` if a batch would not fit in memory, and PyTorch's
    `OutOfMemoryError` if that was not foreseen.
    """
    device = choose(recipe.device)
    with fork_rng(device), computing(recipe.threads_per_step):
        batches = training_feed(data.train, data.spec, recipe, device)
        training = build_training(copy.deepcopy(model), batches, data.spec, recipe, device)
        training.train_mode()
        peak = PeakMemory(device)
        speed = timed(training, batches, seconds / 2)
        peak_bytes = peak.read()
        first = next(batches.epoch(1))
        floor = arithmetic(training, first, seconds / 4)
        return Profile(
            device=str(device),
            threads=recipe.threads_per_step,
            batch_size=recipe.examples_per_step,
            examples_per_second=speed,
            seconds_per_epoch=len(data.train) / speed,
            shares=_shares(training, batches, seconds / 4),
            floor=None if floor is None else len(first.targets) / floor,
            peak_bytes=peak_bytes,
        )


def arithmetic(training: Training, batch: Batch, seconds: float) -> float | None:
    """Return the seconds that only the arithmetic of one step takes on its device, `None` if it has none.

    One step is made, and each matrix product, convolution and attention in it, forward and backward, is recorded: the operations
    that `torch.utils.flop_counter` counts. Then only these are repeated, in the same order, by the same kernels, on random numbers of
    the same shapes, strides and dtypes, for `seconds`; the median is returned. No exact training of this network with these kernels
    is faster.
    """
    with _Recorder() as recorder:
        train_step(training, batch)
    if not recorder.calls:
        return None
    taken: list[float] = []
    with torch.no_grad():
        begun = time.perf_counter()
        # The first time is a warm-up.
        while len(taken) < 2 or time.perf_counter() - begun < seconds:
            synchronize(training.device)
            before = time.perf_counter()
            for operation, arguments, named in recorder.calls:
                operation(*arguments, **named)
            synchronize(training.device)
            taken.append(time.perf_counter() - before)
    return sorted(taken[1:])[len(taken[1:]) // 2]


class _Recorder(OperationMode):
    """Records the arithmetic in its block, with random tensors in place of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in flop_registry:
            self.calls.append((func, _randomized(args), {name: _randomized(value) for name, value in (kwargs or {}).items()}))
        return func(*args, **(kwargs or {}))


def _randomized(value: Any) -> Any:
    """Return the arguments of an operation with random tensors of the same layout."""
    if isinstance(value, tuple | list):
        return type(value)(map(_randomized, value))
    return _random_like(value) if isinstance(value, Tensor) else value


def _random_like(tensor: Tensor) -> Tensor:
    """Return a tensor of random numbers with the same layout in memory."""
    length = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)) if tensor.numel() else 0
    numbers = torch.zeros(length, dtype=tensor.dtype, device=tensor.device)
    return (numbers.normal_() if tensor.is_floating_point() else numbers).as_strided(tensor.shape, tensor.stride())


def _shares(training: Training, batches: Feed, seconds: float) -> dict[str, float]:
    """Return the share of the time of each phase, measured for `seconds`."""
    watch = _Stopwatch(training.device)
    with _watched(training, watch) as watched:
        endless = itertools.chain.from_iterable(batches.epoch(number) for number in itertools.count(1))
        begun, steps = watch.last, 0
        # The first step, which also starts the feed, does not count.
        while steps < 2 or watch.last - begun < seconds:
            batch = next(endless)
            watch.lap("feed")
            watch.has_loss = False
            train_step(watched, batch)
            watch.lap("optimizer")
            steps += 1
            if steps == 1:
                watch.seconds = dict.fromkeys(PHASES, 0.0)
    total = math.fsum(watch.seconds.values())
    return {phase: taken / total for phase, taken in watch.seconds.items()}


class _Stopwatch:
    """Seconds by phase; each lap ends a phase."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.has_loss = False
        self.last = time.perf_counter()

    def lap(self, phase: str) -> None:
        synchronize(self.device)
        now = time.perf_counter()
        self.seconds[phase] += now - self.last
        self.last = now


@contextmanager
def _watched(training: Training, watch: _Stopwatch) -> Iterator[Training]:
    """Yield the training with `watch` called between the phases of its steps."""
    # With accumulation, the forward pass of the next part ends the backward pass of the previous one.
    hook = training.model.register_forward_pre_hook(lambda *_: watch.lap("backward" if watch.has_loss else "forward"))

    def update() -> None:
        watch.lap("backward")
        training.update()

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        found = training.loss(outputs, targets)
        watch.lap("forward")
        watch.has_loss = True
        return found

    # What is traced has no phases.
    plain = TracedStep(training.model, training.traced.loss_of, why_not="the phases of a step are measured")
    try:
        yield replace(training, loss=Loss(loss, training.loss.class_weights), update=update, traced=plain)
    finally:
        hook.remove()
