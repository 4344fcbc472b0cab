"""Checkpoints: all that training needs to go on as if it had never stopped, to the same bits.

    checkpoints/step-0000000938-2/state.safetensors   weights, their moving average, the best ones, the optimizer's state
                                  state.json          counters, scores and the epochs so far
                                  SHA256SUMS          of the two files; `sha256sum -c SHA256SUMS` checks them too

The folder's name has the number of steps made, the epoch, and how often training was rewound, if it was. It exists whole or not
at all. The last two are kept: one that was damaged later is told of and not used, and the one before it takes its place.
Randomness is a function of seed and position, so there is none to keep.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from epochal.errors import BundleError
from epochal.evaluation.evaluate import Evaluation
from epochal.io.files import new_directory, remove_directory, write_bytes, write_text
from epochal.io.safe_read import open_file, parse_json, read_file, read_tensors
from epochal.training.optim import Rewind, Update
from epochal.training.own import groups_of, numbers_of
from epochal.training.records import EpochDone
from epochal.training.sharing import checked_changes
from epochal.training.state import Training

VERSION = 5
_TENSORS, _STATE, _SUMS = "state.safetensors", "state.json", "SHA256SUMS"
_NAME = re.compile(r"step-\d+-\d+(-\d+)?")
_KEPT = 2

# The state without tensors may take so many bytes of memory, once it is read: it grows with epochs and classes.
MAX_STATE = 1_000_000_000

# At the end of an epoch a checkpoint is written where all of them together, with the last one, then cost less than this share of the time.
_SHARE = 0.01


_Count = Annotated[int, Field(ge=0)]


class _Kept(BaseModel):
    """A part of the state without tensors, of just these types."""

    model_config = ConfigDict(strict=True, extra="forbid")


class _BestKept(_Kept):
    score: str
    epoch: _Count
    improved: _Count


class _RewindKept(_Kept):
    step: _Count
    factor: float
    reason: str


class _ThreadsKept(_Kept):
    step: _Count
    threads: Annotated[int, Field(ge=1)]
    before: Annotated[int, Field(ge=1)]


class _ScheduleKept(_Kept):
    cuts: _Count
    best: str
    bad_epochs: _Count
    rewinds: list[_RewindKept]


class _EpochKept(_Kept):
    epoch: _Count
    epochs: _Count
    step: _Count
    train_loss: float
    valid: dict[str, Any] | None
    lr: float
    seconds: float
    examples_per_second: float
    waiting: float
    is_best: bool
    rewinds: _Count


class _StateKept(_Kept):
    version: int
    epoch: Annotated[int, Field(ge=1)]
    step: _Count
    elapsed: Annotated[float, Field(ge=0)]
    epoch_began: Annotated[float, Field(ge=0)]
    best: _BestKept
    schedule: _ScheduleKept
    threads: list[_ThreadsKept]
    average_steps: _Count | None
    scaler: dict[str, Any]
    optimizer: dict[str, dict[str, Any]]
    groups: list[dict[str, int | float]]
    history: list[_EpochKept]


class Checkpoints:
    """The checkpoints of one run: when to write one, and where.

    One is written before the first step. Then one is due every so many seconds, at the ends of epochs where all together cost less
    than 1 % of the time, when SIGUSR1 asks for one, and when SIGINT (Ctrl-C) or SIGTERM asks training to stop. `log` hears of one that
    was asked for, and of one that is damaged.
    """

    def __init__(self, folder: Path, every: float, log: Callable[[str], object] = lambda _: None) -> None:
        self.folder = folder
        self.every = every
        self.log = log
        self.asked: int | None = None
        self.requested = False
        self.checkpoint_on_signal: Training | None = None
        self._begun = self._last = time.perf_counter()
        self._cost = self._spent = 0.0

    def is_due(self, *, epoch_ends: bool = False) -> bool:
        """Whether a checkpoint should be written now, between two steps."""
        now = time.perf_counter()
        if self.asked is not None or self.requested or now - self._last >= self.every:
            return True
        return epoch_ends and (now - self._begun) * _SHARE >= self._spent + 2 * self._cost

    def save(self, training: Training) -> None:
        """Write a checkpoint, whole or not at all, then remove older ones; end the program if a signal asked for that.

        An optimizer that is none of torch.optim's has no state that could be read: then nothing is written. Raises `OutputError`
        when the disk refuses, and `NotFiniteError` for weights that are not finite, which are never kept.
        """
        is_kept = isinstance(training.optimizer, torch.optim.Optimizer)
        if is_kept:
            self._write(training)
        if self.requested:
            self.requested = False
            self.log(
                f"checkpoint after step {training.step:,}" if is_kept else "note: no checkpoint: the optimizer's state cannot be kept."
            )
        self.exit_if_requested()

    def _write(self, training: Training) -> None:
        begun = time.perf_counter()
        training.check_finite()
        tensors, state = _snapshot(training)
        files = {_TENSORS: save_tensors(tensors), _STATE: json.dumps(state, indent=1, allow_nan=False).encode()}
        rewinds = len(training.schedule.rewinds)
        place = self.folder / f"step-{training.step:010}-{training.epoch}{f'-{rewinds}' * bool(rewinds)}"
        if not place.exists():
            with new_directory(place) as folder:
                for name, content in files.items():
                    write_bytes(folder / name, content)
                write_text(folder / _SUMS, "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items()))
        # What is of the same position or later is of a past that was rewound.
        found = self.found()
        kept = [place, *(other for other in found if _position(other)[:2] < _position(place)[:2])][:_KEPT]
        for old in found:
            if old not in kept:
                remove_directory(old)
        self._last = time.perf_counter()
        self._cost = self._last - begun
        self._spent += self._cost

    def exit_if_requested(self) -> None:
        """End the program if a signal asked for that, as it would have ended without us."""
        if self.asked is not None:
            _end(self.asked)

    def restore(self, training: Training, before: float = math.inf) -> bool:
        """Bring `training` to where the last whole checkpoint was written, of fewer steps than `before`; return whether there is one.

        Raises `BundleError` where there are checkpoints, but none is whole or of this model.
        """
        damaged = []
        for place in self.found():
            if _position(place)[0] >= before:
                continue
            try:
                tensors, state = _read(place)
            except PermissionError as error:
                raise BundleError(f"{place} cannot be read: {error.strerror}.", "Make its files readable.") from error
            except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
                damaged.append(place)
                self.log(f"note: {place} is damaged ({error}) and is not used.")
                continue
            try:
                _restore(training, tensors, state)
            except Exception as error:  # A state that is whole may still say anything.
                raise _not_of_this(place, error) from error
            # A damaged one must not stand in the way of one that is written again at the same step.
            for broken in damaged:
                remove_directory(broken)
            return True
        if damaged:
            raise BundleError(f"No checkpoint in {self.folder} is whole.", "Train again.")
        return False

    def found(self) -> list[Path]:
        """Return the checkpoints that there are, the newest first."""
        return checkpoints_in(self.folder)


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the newest first."""
    return sorted((place for place in folder.glob("step-*") if _NAME.fullmatch(place.name)), key=_position, reverse=True)


@contextmanager
def handle_signals(checkpoints: Checkpoints | None) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM in the block ask for a checkpoint after the step, and the end; a second one ends the program at once.

    Within `checkpoint_on_signal` there is no step to wait for.

    SIGUSR1, where the system has it, asks for a checkpoint after the step; training goes on.
    Only Python's main thread hears signals; in another, and without checkpoints, this does nothing. SIGINT and SIGTERM that are
    ignored, as SIGINT is in what a script starts in the background, stay so.
    """
    if checkpoints is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, _: FrameType | None) -> None:
        if checkpoints.asked is not None:
            _end(number)
        checkpoints.asked = number
        if checkpoints.checkpoint_on_signal is not None:
            checkpoints.save(checkpoints.checkpoint_on_signal)

    def request(*_: object) -> None:
        checkpoints.requested = True

    handlers: dict[int, Callable[[int, FrameType | None], None]] = {
        number: ask for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN
    }
    if hasattr(signal, "SIGUSR1"):
        handlers[signal.SIGUSR1] = request
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
        checkpoints.exit_if_requested()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def checkpoint_on_signal(checkpoints: Checkpoints | None, training: Training) -> Iterator[None]:
    """Make no step in the block: a signal that asks for the end gets its checkpoint at once, however long the block would take."""
    if checkpoints is None:
        yield
        return
    checkpoints.checkpoint_on_signal = training
    try:
        if checkpoints.asked is not None:
            checkpoints.save(training)
        yield
    finally:
        checkpoints.checkpoint_on_signal = None


def _end(number: int) -> NoReturn:
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


def _position(place: Path) -> tuple[int, ...]:
    """Return what the name of a checkpoint says: the number of steps, the epoch, and how often training was rewound, if it was."""
    return tuple(map(int, place.name.split("-")[1:]))


def _snapshot(training: Training) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the whole state as tensors and plain values."""
    best, schedule, average = training.best, training.schedule, training.average
    numbers = {
        str(place): {name: value for name, value in values.items() if not isinstance(value, Tensor)}
        for place, values in training.optimizer.state_dict()["state"].items()  # type: ignore[attr-defined]
    }
    state = {
        "version": VERSION,
        "epoch": training.epoch,
        "step": training.step,
        "elapsed": training.elapsed(),
        "epoch_began": training.epoch_began,
        "best": {"score": repr(best.score), "epoch": best.epoch, "improved": best.improved},
        "schedule": {
            "cuts": schedule.cuts,
            "best": repr(schedule.best),
            "bad_epochs": schedule.bad_epochs,
            "rewinds": [asdict(rewind) for rewind in schedule.rewinds],
        },
        "threads": [asdict(change) for change in training.threads.changes],
        "average_steps": None if average is None else average.steps,
        "scaler": training.scaler.state_dict(),
        "optimizer": numbers,
        "groups": [numbers_of(group) for group in groups_of(training.optimizer)],
        "history": [_plain(done) for done in training.history],
    }
    # Tied weights share their memory; the file has each of them whole.
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in training.tensors().items()}, state


def _restore(training: Training, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    _check(tensors, training)
    _check_state(state)

    def group(name: str) -> dict[str, Tensor]:
        return {key.removeprefix(f"{name}/"): tensor for key, tensor in tensors.items() if key.startswith(f"{name}/")}

    optimizer: Any = training.optimizer
    states: dict[int, dict[str, Any]] = {int(place): dict(values) for place, values in state["optimizer"].items()}
    parameters = [parameter for settings in optimizer.param_groups for parameter in settings["params"]]
    for name, tensor in group("optimizer").items():
        place, _, part = name.partition("/")
        parameter = parameters[int(place)]
        # Fused kernels go through weight and state side by side in memory: both must lie there in the same order.
        laid_out = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor) if tensor.shape == parameter.shape else tensor
        states.setdefault(int(place), {})[part] = laid_out
    training.model.load_state_dict(group("model"))
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    # An optimizer of the user's own may change them.
    for settings, kept in zip(optimizer.param_groups, state["groups"], strict=True):
        settings.update({name: value for name, value in kept.items() if name in numbers_of(settings)})
    if isinstance(training.update, Update):
        # They hold the tensors of the state before.
        training.update.kernels.clear()
    training.loss_sum.copy_(tensors["loss_sum"])
    if training.average is not None:
        training.average.module.load_state_dict(group("average"))
        training.average.steps = state["average_steps"]
    training.best.weights = {name: tensor.to(training.device) for name, tensor in group("best").items()}
    training.best.score = float(state["best"]["score"])
    training.best.epoch, training.best.improved = state["best"]["epoch"], state["best"]["improved"]
    training.schedule.best = float(state["schedule"]["best"])
    training.schedule.cuts, training.schedule.bad_epochs = state["schedule"]["cuts"], state["schedule"]["bad_epochs"]
    training.schedule.rewinds = [Rewind(**rewind) for rewind in state["schedule"]["rewinds"]]
    training.threads.changes = checked_changes(state["threads"], training.threads.first)
    training.scaler.load_state_dict(state["scaler"])
    training.history[:] = [_record(values) for values in state["history"]]
    training.epoch, training.step = state["epoch"], state["step"]
    # Where training ended within an epoch, fewer steps were made than the epochs before the next one have.
    if abs(training.steps_of_epoch) > training.schedule.steps_per_epoch:
        raise ValueError(f"step {training.step} is not in epoch {training.epoch}")
    training.began -= state["elapsed"]
    training.epoch_began = state["epoch_began"]


def _read(place: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return what a checkpoint holds, after checking every byte of it."""
    sums = read_file(place / _SUMS, 1000).decode("ascii").splitlines()
    with open_file(place / _TENSORS, follow=False) as tensors, open_file(place / _STATE, follow=False) as text:
        for name, file in ((_TENSORS, tensors), (_STATE, text)):
            if f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}" not in sums:
                raise ValueError(f"{name} is not what was saved")
            file.seek(0)
        state = parse_json(text.read(MAX_STATE), MAX_STATE)
        if state["version"] != VERSION:
            raise ValueError(f"it is of version {state['version']}")
        read_tensors(tensors)
        tensors.seek(0)
        return load_tensors(tensors.read()), state


def _check(tensors: Mapping[str, Tensor], training: Training) -> None:
    """Refuse tensors that are not of this model and optimizer.

    The fused kernels of optimizers trust the shapes of their state: they would write beyond what is smaller than its parameter.
    """
    weights = {name: tuple(tensor.shape) for name, tensor in training.model.state_dict().items()}
    optimizer: Any = training.optimizer
    parameters = [
        (tuple(parameter.shape), settings.get("fused")) for settings in optimizer.param_groups for parameter in settings["params"]
    ]
    for name, tensor in tensors.items():
        group, _, inner = name.partition("/")
        if group == "optimizer":
            place, _, part = inner.partition("/")
            shape, is_fused = parameters[int(place)] if place.isdecimal() and int(place) < len(parameters) else (None, False)
            fits = tensor.shape == (() if part == "step" else shape)
            if not fits and not is_fused and shape is not None:
                # Other optimizers keep single numbers, or sums over rows and columns.
                fits = math.prod(tensor.shape) <= max(1, math.prod(shape))
        else:
            fits = weights.get(inner) == tensor.shape if group in ("model", "best", "average") else (name, tensor.shape) == ("loss_sum", ())
        if not fits:
            raise ValueError(f"{name} of shape {tuple(tensor.shape)} does not belong to it")


def _check_state(state: dict[str, Any]) -> None:
    """Refuse a state that no training comes to."""
    try:
        kept = _StateKept.model_validate(state)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"its {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    done = len(kept.history)
    if [line.epoch for line in kept.history] != list(range(1, done + 1)) or kept.epoch != done + 1:
        raise ValueError(f"its epochs are not those before epoch {kept.epoch}")
    if not all(bool(done) <= epoch <= done for epoch in (kept.best.epoch, kept.best.improved)):
        raise ValueError(f"its best epoch is not one of {done}")


def _not_of_this(place: Path, error: Exception) -> BundleError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return BundleError(f"{place} is not of this model and these settings: {reason}", "Pass the code that wrote it.")


def _plain(done: EpochDone) -> dict[str, Any]:
    values = {name: getattr(done, name) for name in done.__dataclass_fields__}
    if done.valid is None:
        return values
    return values | {"valid": {"task": done.valid.task, **_finite_or_named(done.valid.to_json())}}


def _finite_or_named(value: Any) -> Any:
    """JSON has no number that is not finite; `Evaluation.from_json` reads its name as well."""
    if isinstance(value, dict):
        return {name: _finite_or_named(inner) for name, inner in value.items()}
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def _record(values: dict[str, Any]) -> EpochDone:
    valid = values["valid"]
    return EpochDone(**{**values, "valid": None if valid is None else Evaluation.from_json(valid)})
