"""Settings chosen by measurement where they are "auto": the device, its threads, the batch size, and the number format.

The real step is timed, with its feed, on a copy of the model and a few examples in memory. The model, its generators and the data stay
as they were, so training gives the same bits whether a choice was measured, remembered or set.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, NamedTuple

import pydantic
import torch
from torch import nn

from epochal.cores import CoreWatch, sharing_cores
from epochal.data.examples import Examples
from epochal.data.feed import Batch, Feed
from epochal.data.inputs.values import access
from epochal.data.load import Data
from epochal.data.spec import DataSpec
from epochal.device import available, choose, computing, machine, precision, synchronize
from epochal.errors import OutputError, RecipeError, TooLargeError
from epochal.io.files import cache_folder, write_errors, write_json
from epochal.progress import progress
from epochal.random import fork_rng, key, seeded
from epochal.recipe import DEFAULT, Recipe
from epochal.training.build import PLAIN_BATCH_SIZE, build_training, plain_settings, training_feed
from epochal.training.loop import train_step
from epochal.training.state import Training

# Measuring may take this share of the time for training: each choice is timed for at most this many seconds, or not at all.
_SHARE = 0.02
SECONDS, LEAST_SECONDS = 0.3, 0.1
# Two steps give an estimate of the time for training; if there are fewer steps than this, that is too expensive.
WORTH_STEPS = 2 / _SHARE
# The approximate seconds of steps between two readings of the clock.
LAP_SECONDS = 0.02
_BATCH_SIZES = (32, 64, 128, 256, 512, 1024, 2048)
# Larger batches mean fewer steps to learn in.
_LEAST_STEPS_PER_EPOCH = 10

# Speeds that differ by less are equal; then the smaller batch, and the plainer choice, is used.
_ALIKE = 0.95
_SHOWN = 4
REMEMBERED = 1000


class Choice(NamedTuple):
    """The settings that can be chosen by measurement."""

    device: str
    threads: int
    batch_size: int
    precision: str = "fp32"

    def __str__(self) -> str:
        words = [self.device, f"batch {self.batch_size}"]
        if self.precision != "fp32":
            words.append(self.precision)
        if self.device == "cpu":
            words.append("1 thread" if self.threads == 1 else f"{self.threads} threads")
        return ", ".join(words)


_VERSION = metadata.version("epochal")


class _Memory(pydantic.BaseModel):
    """What is remembered in a file: the speeds of choices by key, measured by one version of Epochal."""

    version: str
    speeds: dict[str, list[tuple[Choice, float]]]


def resolve_auto(
    recipe: Recipe, model: nn.Module, data: Data, *, own: bool = False, log: Callable[[str], object] = lambda _: None
) -> Recipe:
    """Return the recipe with everything resolved that is "auto" and can be measured.

    The fastest choice is measured, once per model, kind of settings and machine, if that takes a small share of the time for training;
    otherwise the plain choice is used, as in `fit`. With the user's `own` loss or optimizer, which may have side effects, nothing is
    measured. While other programs keep the cores busy, numbers of threads are not compared and nothing is remembered. `log` is called
    with what was chosen, and why. Raises `RecipeError` for a device that is not available.
    """
    if "auto" not in (recipe.device, recipe.threads, recipe.batch_size, recipe.precision):
        return recipe
    plain, choices = _choices(recipe, len(data.train))
    chosen, origin = plain, "this machine"
    if len(choices) > 1 and not own and _steps(recipe, data, plain) >= WORTH_STEPS:
        with sharing_cores() as watch:
            probe = _Probe(recipe, model, data, log, watch)
            speeds = probe.compare(choices, plain)
            if speeds:
                chosen, origin = _best(speeds), "measured"
    if recipe.batch_size == "auto" and recipe.origin("optimizer.lr") == DEFAULT:
        log(f"batch_size = {chosen.batch_size}; lr = {recipe.optimizer.lr:g} stays as it is, though another may suit such batches better.")
    open_settings = {name: value for name, value in chosen._asdict().items() if getattr(recipe, name) == "auto"}
    return recipe.updated(open_settings, origin)


def timed(training: Training, batches: Feed, seconds: float) -> float:
    """Return the speed of a step with its feed in examples per second: the median over laps that take `seconds` in all.

    Memory is allocated and caches are warm before the clock starts; a step longer than `seconds` is timed once.
    """
    endless = itertools.chain.from_iterable(batches.epoch(number) for number in itertools.count(1))
    _lap(training, endless, 1)
    for _ in range(2):
        examples, single = _lap(training, endless, 1)
        if single > seconds:
            return examples / single
    steps = max(1, min(100, round(LAP_SECONDS / single)))
    speeds: list[float] = []
    begun = time.perf_counter()
    while not speeds or time.perf_counter() - begun < seconds:
        examples, taken = _lap(training, endless, steps)
        speeds.append(examples / taken)
    return statistics.median(speeds)


def speed_of(choice: Choice, recipe: Recipe, model: nn.Module, spec: DataSpec, sample: Examples, seconds: float) -> float:
    """Return how many examples per second a copy of `model` trains on with a choice, measured on a `sample` for `seconds`."""
    device = choose(choice.device)
    open_ended = {"max_steps": None, "max_seconds": None, "schedule.name": "constant", "schedule.warmup": 0.0}
    trial = recipe.updated({**choice._asdict(), **open_ended}, "probe")
    with seeded(key(recipe.seed, "probe")), fork_rng(device), computing(choice.threads):
        batches = training_feed(sample, spec, trial, device)
        training = build_training(copy.deepcopy(model), batches, spec, trial, device)
        training.train_mode()
        return timed(training, batches, seconds)


def _lap(training: Training, batches: Iterator[Batch], steps: int) -> tuple[int, float]:
    """Make so many `steps`; return their number of examples and the seconds that they took."""
    examples, begun = 0, time.perf_counter()
    for batch in itertools.islice(batches, steps):
        train_step(training, batch)
        examples += len(batch.targets)
    synchronize(training.device)
    return examples, time.perf_counter() - begun


def _choices(recipe: Recipe, count: int) -> tuple[Choice, list[Choice]]:
    """Return the choice without measuring, and all choices that the recipe leaves open: smaller batches and plainer ones first."""
    resolved = plain_settings(recipe)
    plain = Choice(resolved.device, resolved.threads_per_step, resolved.examples_per_step, resolved.precision)
    most = torch.get_num_threads()
    devices = available() if recipe.device == "auto" else [plain.device]
    precisions = ("fp32", "bf16") if recipe.precision == "auto" else (recipe.precision,)
    halves = [most >> times for times in range(most.bit_length())]
    sizes = batch_sizes(count) if recipe.batch_size == "auto" else [plain.batch_size]
    choices = [
        Choice(kind, threads, size, precision)
        for size in sizes
        for kind in devices
        for precision in precisions
        if _can_compute(kind, precision)
        # Threads are those of the CPU: a GPU's speed hardly depends on them.
        for threads in (halves if recipe.threads == "auto" and torch.device(kind).type == "cpu" else [plain.threads])
    ]
    return plain, choices


def batch_sizes(count: int) -> list[int]:
    """Return the batch sizes worth trying for `count` examples: not those with a single one in the last step."""
    fitting = [size for size in _BATCH_SIZES if size * _LEAST_STEPS_PER_EPOCH <= count and count % size != 1]
    return fitting or [PLAIN_BATCH_SIZE]


def _can_compute(kind: str, name: str) -> bool:
    try:
        precision(torch.device(kind), name)
    except RecipeError:
        return False
    return True


def _steps(recipe: Recipe, data: Data, choice: Choice) -> int:
    """Return the number of steps of training."""
    return min(recipe.epochs * -(-len(data.train) // choice.batch_size), recipe.max_steps or sys.maxsize)


def _best(speeds: dict[Choice, float]) -> Choice:
    fastest = max(speeds.values())
    return next(choice for choice, speed in speeds.items() if speed >= _ALIKE * fastest)


@dataclass
class _Probe:
    """Measures the training that a recipe describes, on a copy of the model and a few examples."""

    recipe: Recipe
    model: nn.Module
    data: Data
    log: Callable[[str], object]
    watch: CoreWatch

    def compare(self, choices: Sequence[Choice], plain: Choice) -> dict[Choice, float]:
        """Return the speed of each choice that works, in the order of `choices`: remembered, or measured now.

        There are none if training is too short for a measurement to pay off, as judged by a few steps of the `plain` choice.
        """
        name, memory = _key(choices, self.recipe, self.model, self.data.spec), _read(self.log)
        remembered = dict(memory.get(name, ()))
        sample = _sample(self.data.train, max(choice.batch_size for choice in choices), self.recipe.seed)
        begun = time.perf_counter()
        rough = remembered or self._measure([plain], sample, 0.0)
        if not remembered and self.watch.crowded_seconds():
            # With other programs running, the best number of threads is found during training.
            choices = [choice for choice in choices if choice.threads == plain.threads]
            if choices == [plain]:
                return {}
            # These speeds are stored under a key of their own: they say nothing about the choices left out.
            name = _key(choices, self.recipe, self.model, self.data.spec)
        # If the plain choice does not work, another one may.
        training_seconds = self._training_seconds(plain, rough[plain]) if plain in rough else math.inf
        seconds = min(SECONDS, _SHARE * training_seconds / len(choices))
        if seconds < LEAST_SECONDS:
            return {}
        speeds = remembered or self._measure(choices, sample, seconds, "Measuring")
        if not remembered and self.watch.was_crowded(begun):
            self.log("note: other programs keep the cores busy: what was measured is not remembered.")
            speeds = {choice: speed for choice, speed in speeds.items() if choice.threads == plain.threads}
        elif speeds and not remembered:
            _write({**memory, name: list(speeds.items())}, self.log)
        if speeds:
            self._log_speeds("remembered" if remembered else "measured", speeds)
        return speeds

    def _training_seconds(self, choice: Choice, speed: float) -> float:
        """Return the approximate seconds of training."""
        examples = _steps(self.recipe, self.data, choice) * choice.batch_size
        return min(examples / speed, self.recipe.max_seconds or math.inf)

    def _measure(self, choices: Sequence[Choice], sample: Examples, seconds: float, label: str = "") -> dict[Choice, float]:
        """Return the speed of each choice that works, each measured for `seconds`; without a `label`, silently."""
        log = self.log if label else str
        speeds: dict[Choice, float] = {}
        with progress(label, len(choices)) as advance:
            for choice in choices:
                try:
                    speeds[choice] = speed_of(choice, self.recipe, self.model, self.data.spec, sample, seconds)
                except TooLargeError:
                    log(f"{choice}: would not fit the memory.")
                # A device may lack an operation or memory; a network may refuse to be copied.
                except (RuntimeError, TypeError) as error:
                    log(f"{choice}: cannot be measured: {str(error).splitlines()[0]}")
                advance()
        return speeds

    def _log_speeds(self, how: str, speeds: dict[Choice, float]) -> None:
        fastest = sorted(speeds.items(), key=lambda item: -item[1])
        shown = [f"{choice} {speed:,.0f}" for choice, speed in fastest[:_SHOWN]]
        rest = f"; {len(fastest) - _SHOWN} slower" if len(fastest) > _SHOWN else ""
        self.log(f"{how} examples/s: {'; '.join(shown)}{rest} → {_best(speeds)}")


def _sample(examples: Examples, largest: int, seed: int) -> Examples:
    """Return a few examples in memory, enough for full batches; if they are read one by one, only for a single batch."""
    count = len(examples)
    batches = min(4, count // largest) if access(examples.inputs) == "memory" else 1
    some = examples.take(torch.arange(min(count, max(1, batches) * largest)))
    with seeded(key(seed, "probe")):
        return Examples(some.inputs[torch.arange(len(some))], some.targets, some.part, some.positions)


def _key(choices: Sequence[Choice], recipe: Recipe, model: nn.Module, spec: DataSpec) -> str:
    """Return the key of a measurement: everything that the time of a step depends on."""
    names = {"augment", "loss", "optimizer", "precision", "accumulate", "clip_norm", "ema", "compile"}
    groups = recipe.model_dump(mode="json", include=names)
    described: list[Any] = [
        choices,
        groups,
        repr(model),
        [(name, list(weight.shape), str(weight.dtype), weight.requires_grad) for name, weight in model.named_parameters()],
        [
            spec.task.name,
            spec.shape,
            spec.dtype,
            len(spec.outputs),
            min(spec.counts["train"], max(choice.batch_size for choice in choices)),
        ],
        [_VERSION, torch.__version__, *machine()],
    ]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()


def _read(log: Callable[[str], object]) -> dict[str, list[tuple[Choice, float]]]:
    path = cache_folder() / "speeds.json"
    try:
        content = json.loads(path.read_bytes())
        # The keys of another version are others, and its choices may have other fields.
        if isinstance(content, dict) and content.get("version", _VERSION) != _VERSION:
            return {}
        return _Memory.model_validate(content).speeds
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        log(f"note: {path} cannot be read ({str(error).splitlines()[0]}): measured again.")
        return {}


def _write(memory: dict[str, list[tuple[Choice, float]]], log: Callable[[str], object]) -> None:
    path = cache_folder() / "speeds.json"
    try:
        with write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"version": _VERSION, "speeds": dict(list(memory.items())[-REMEMBERED:])})
    except OutputError as error:
        # Training does not need it.
        log(f"note: {error.problem} What was measured is not remembered.")
