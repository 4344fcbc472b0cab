"""Settings chosen by measurement where they are "auto": the device, its threads, the batch size, the number format, and compiling.

What is timed is the real step, with its feed, on a copy of the model and a few examples that are kept in memory. The model,
its generators and the data stay as they were, so training gives the same bits whether a choice was measured, remembered or
written down.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from typing import Any, NamedTuple

import pydantic
import torch
from torch import Tensor, nn

from epochal.data.examples import Examples
from epochal.data.feed import Batch, Feed
from epochal.data.load import Data
from epochal.data.spec import DataSpec
from epochal.device import available, choose, computing, machine, precision, synchronize
from epochal.errors import OutputError, RecipeError, TooLargeError
from epochal.files import cache_folder, told, write_json
from epochal.progress import progress
from epochal.random import drawn_from, isolated, key
from epochal.recipe import DEFAULT, Recipe
from epochal.training.state import Training, prepare, training_feed

# Shorter training is over before a measurement could pay.
_WORTH_STEPS = 1000
_WORTH_SECONDS = 30.0
# How long each choice is timed, and how long its steps between two looks at the clock take about.
_SECONDS = 0.3
_LAP_SECONDS = 0.02
_BATCH_SIZES = (32, 64, 128, 256, 512, 1024, 2048)
_PLAIN_BATCH_SIZE = 64
# Larger batches mean fewer steps to learn in.
_LEAST_STEPS_PER_EPOCH = 10
# Speeds that differ by less are the same; then the smaller batch, and the plainer choice, is taken.
_ALIKE = 0.95
# Compiling takes from ten seconds to minutes, which only long training can win back.
_WORTH_COMPILING_SECONDS = 600.0
_SHOWN = 4
_REMEMBERED = 1000

Step = Callable[[Training, Batch], None]


class Choice(NamedTuple):
    """What can be chosen by measurement."""

    device: str
    threads: int
    batch_size: int
    precision: str = "fp32"
    compile: str = "off"

    def __str__(self) -> str:
        words = [self.device, f"batch {self.batch_size}"]
        if self.precision != "fp32":
            words.append(self.precision)
        if self.device == "cpu":
            words.append("1 thread" if self.threads == 1 else f"{self.threads} threads")
        return ", ".join([*words, "compiled"] if self.compile == "on" else words)


class Speed(NamedTuple):
    """How many examples are trained on in a second, and how many seconds the first step took."""

    examples: float
    start: float


_MEMORY = pydantic.TypeAdapter(dict[str, list[tuple[Choice, Speed]]])


def settle(
    recipe: Recipe, model: nn.Module, data: Data, step: Step, *, own: bool = False, tell: Callable[[str], object] = lambda _: None
) -> Recipe:
    """Return the recipe with nothing "auto" left in it that can be measured; one in which nothing is is returned as it is.

    The fastest choice is measured, once for each model, kind of settings and machine, unless training is too short for that to
    pay. `step` makes one step. With a loss or an optimizer of the user's `own`, functions that may remember what they see,
    nothing is measured. `tell` hears what was chosen, and why. Raises `RecipeError` for a device that is not there.
    """
    if "auto" not in (recipe.device, recipe.threads, recipe.batch_size, recipe.precision, recipe.compile):
        return recipe
    chosen, choices = _choices(recipe, len(data.train))
    origin = "this machine"
    if (len(choices) > 1 or recipe.compile == "auto") and not own and _is_worth(recipe, len(data.train), chosen):
        speeds = _speeds(choices, recipe, model, data, step, tell)
        if speeds:
            chosen, origin = _best(speeds), "measured"
            if recipe.compile == "auto":
                chosen = _compiled_or_not(chosen, speeds[chosen], recipe, model, data, step, tell)
    if recipe.batch_size == "auto" and recipe.origin("optimizer.lr") == DEFAULT:
        tell(f"batch_size = {chosen.batch_size}; lr = {recipe.optimizer.lr:g} stays as it is, though another may suit such batches better.")
    open_settings = {name: value for name, value in chosen._asdict().items() if getattr(recipe, name) == "auto"}
    return recipe.updated(open_settings, origin)


def _compiled_or_not(
    chosen: Choice, plain: Speed, recipe: Recipe, model: nn.Module, data: Data, step: Step, tell: Callable[[str], object]
) -> Choice:
    """Return `chosen` with compiling on, where that saves more than it takes within this training."""
    steps = min(recipe.epochs * -(-len(data.train) // chosen.batch_size), recipe.max_steps or sys.maxsize)
    examples = steps * chosen.batch_size
    if examples / plain.examples < _WORTH_COMPILING_SECONDS or recipe.accumulate > 1 or chosen.precision == "fp16":
        return chosen
    other = chosen._replace(compile="on")
    found = _speeds([other], recipe, model, data, step, tell)
    if other in found and found[other].start + examples / found[other].examples < examples / plain.examples:
        return other
    return chosen


def timed(training: Training, batches: Feed, step: Step, seconds: float) -> Speed:
    """Return how fast `step` trains, with its feed: the median over laps that take `seconds` in all.

    Memory is allocated and caches are warm before the clock starts; a step longer than `seconds` is timed once.
    """
    endless = itertools.chain.from_iterable(batches.epoch(number) for number in itertools.count(1))
    start = _lap(training, endless, step, 1)[1]
    for _ in range(2):
        examples, single = _lap(training, endless, step, 1)
        if single > seconds:
            return Speed(examples / single, start)
    steps = max(1, min(100, round(_LAP_SECONDS / single)))
    speeds: list[float] = []
    begun = time.perf_counter()
    while not speeds or time.perf_counter() - begun < seconds:
        examples, taken = _lap(training, endless, step, steps)
        speeds.append(examples / taken)
    return Speed(statistics.median(speeds), start)


def _lap(training: Training, batches: Iterator[Batch], step: Step, steps: int) -> tuple[int, float]:
    """Make so many steps; return the number of examples in them and the seconds that they took."""
    examples, begun = 0, time.perf_counter()
    for batch in itertools.islice(batches, steps):
        step(training, batch)
        examples += len(batch.targets)
    synchronize(training.device)
    return examples, time.perf_counter() - begun


def _choices(recipe: Recipe, count: int) -> tuple[Choice, list[Choice]]:
    """Return the choice that is taken without measuring, and all that the recipe leaves open: smaller batches and plainer ones first."""
    device = str(choose(recipe.device))
    most = torch.get_num_threads()
    plain = Choice(
        device,
        most if recipe.threads == "auto" else recipe.threads,
        _PLAIN_BATCH_SIZE if recipe.batch_size == "auto" else recipe.batch_size,
        "fp32" if recipe.precision == "auto" else recipe.precision,
        "off" if recipe.compile == "auto" else recipe.compile,
    )
    devices = available() if recipe.device == "auto" else [device]
    precisions = ("fp32", "bf16") if recipe.precision == "auto" else (recipe.precision,)
    halves = [most >> times for times in range(most.bit_length())]
    sizes = _batch_sizes(count) if recipe.batch_size == "auto" else [plain.batch_size]
    choices = [
        Choice(kind, threads, size, precision, plain.compile)
        for size in sizes
        for kind in devices
        for precision in precisions
        if _can_compute(kind, precision)
        # Threads are those of the CPU: a GPU's speed hardly depends on them.
        for threads in (halves if recipe.threads == "auto" and torch.device(kind).type == "cpu" else [plain.threads])
    ]
    return plain, choices


def _batch_sizes(count: int) -> list[int]:
    """Return the batch sizes worth trying with so many examples: not those that would leave a single one for the last step."""
    fitting = [size for size in _BATCH_SIZES if size * _LEAST_STEPS_PER_EPOCH <= count and count % size != 1]
    return fitting or [_PLAIN_BATCH_SIZE]


def _can_compute(kind: str, name: str) -> bool:
    try:
        precision(torch.device(kind), name)
    except RecipeError:
        return False
    return True


def _is_worth(recipe: Recipe, count: int, plain: Choice) -> bool:
    steps = recipe.epochs * -(-count // plain.batch_size)
    return min(steps, recipe.max_steps or steps) >= _WORTH_STEPS and (recipe.max_seconds or _WORTH_SECONDS) >= _WORTH_SECONDS


def _best(speeds: dict[Choice, Speed]) -> Choice:
    fastest = max(speed.examples for speed in speeds.values())
    return next(choice for choice, speed in speeds.items() if speed.examples >= _ALIKE * fastest)


def _speeds(
    choices: Sequence[Choice], recipe: Recipe, model: nn.Module, data: Data, step: Step, tell: Callable[[str], object]
) -> dict[Choice, Speed]:
    """Return the speed of each choice that works, in the order of `choices`: remembered, or measured now."""
    name = _key(choices, recipe, model, data.spec)
    memory = _read(tell)
    remembered = name in memory
    speeds = dict(memory[name]) if remembered else _measure(choices, recipe, model, data, step, tell)
    if not speeds:
        return {}
    if not remembered:
        _write({**memory, name: list(speeds.items())}, tell)
    fastest = sorted(speeds.items(), key=lambda item: -item[1].examples)
    shown = [f"{choice} {speed.examples:,.0f}" for choice, speed in fastest[:_SHOWN]]
    rest = f"; {len(fastest) - _SHOWN} slower" if len(fastest) > _SHOWN else ""
    tell(f"{'remembered' if remembered else 'measured'} examples/s: {'; '.join(shown)}{rest} → {_best(speeds)}")
    return speeds


def _measure(
    choices: Sequence[Choice], recipe: Recipe, model: nn.Module, data: Data, step: Step, tell: Callable[[str], object]
) -> dict[Choice, Speed]:
    sample = _sample(data.train, max(choice.batch_size for choice in choices), recipe.seed)
    speeds: dict[Choice, Speed] = {}
    with progress("Measuring", len(choices)) as advance:
        for choice in choices:
            try:
                speeds[choice] = _speed(choice, sample, recipe, model, data.spec, step)
            except TooLargeError:
                tell(f"{choice}: would not fit the memory.")
            # A device may lack an operation, or the memory that was thought to be there; a network may refuse to be copied.
            except (RuntimeError, TypeError) as error:
                tell(f"{choice}: cannot be measured: {str(error).splitlines()[0]}")
            advance()
    return speeds


def _speed(choice: Choice, sample: Examples, recipe: Recipe, model: nn.Module, spec: DataSpec, step: Step) -> Speed:
    """Return how fast a copy of the model trains."""
    device = choose(choice.device)
    open_ended = {"max_steps": None, "max_seconds": None, "schedule.name": "constant", "schedule.warmup": 0.0}
    trial = recipe.updated({**choice._asdict(), **open_ended}, "probe")
    with drawn_from(key(recipe.seed, "probe")), isolated(device), computing(choice.threads):
        batches = training_feed(sample, spec, trial, device)
        training = prepare(copy.deepcopy(model), batches, spec, trial, device, None, None)
        training.model.train()
        return timed(training, batches, step, _SECONDS)


def _sample(examples: Examples, largest: int, seed: int) -> Examples:
    """Return a few examples in memory, enough for whole batches; those that are read one by one for a single batch only."""
    count = len(examples)
    batches = min(4, count // largest) if isinstance(examples.inputs, Tensor) else 1
    some = examples.take(torch.arange(min(count, max(1, batches) * largest)))
    if isinstance(some.inputs, Tensor):
        return some
    with drawn_from(key(seed, "probe")):
        return Examples(torch.stack([some.input(place) for place in range(len(some))]), some.targets, some.part, some.positions)


def _key(choices: Sequence[Choice], recipe: Recipe, model: nn.Module, spec: DataSpec) -> str:
    """Return what a measurement is remembered by: all that the time of a step depends on."""
    groups = recipe.model_dump(mode="json", include={"augment", "loss", "optimizer", "precision", "accumulate", "clip_norm", "ema"})
    described: list[Any] = [
        choices,
        groups,
        repr(model),
        [(name, list(weight.shape), str(weight.dtype), weight.requires_grad) for name, weight in model.named_parameters()],
        [spec.task, spec.shape, spec.dtype, len(spec.outputs), min(spec.counts["train"], max(choice.batch_size for choice in choices))],
        [metadata.version("epochal"), torch.__version__, *machine()],
    ]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()


def _read(tell: Callable[[str], object]) -> dict[str, list[tuple[Choice, Speed]]]:
    path = cache_folder() / "speeds.json"
    try:
        return _MEMORY.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, pydantic.ValidationError) as error:
        tell(f"note: {path} cannot be read ({str(error).splitlines()[0]}): measured anew.")
        return {}


def _write(memory: dict[str, list[tuple[Choice, Speed]]], tell: Callable[[str], object]) -> None:
    path = cache_folder() / "speeds.json"
    try:
        with told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, dict(list(memory.items())[-_REMEMBERED:]))
    except OutputError as error:
        # Training does not need it.
        tell(f"note: {error.problem} What was measured is not remembered.")
