"""Checkpoints: all that training needs to go on as if it had never stopped, to the same bits.

    checkpoints/step-0000000938-2/state.safetensors   weights, their moving average, the best ones, the optimizer's state
                                  state.json          counters, scores and the epochs so far
                                  SHA256SUMS          of the two files; `sha256sum -c SHA256SUMS` checks them too

A checkpoint is a folder that exists whole or not at all. The last two are kept: one that was damaged later is told of and
not used, and the one before it takes its place. Randomness is a function of seed and position, so there is none to keep.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from epochal.errors import BundleError, NotFiniteError
from epochal.evaluation.evaluate import Evaluation
from epochal.files import new_directory, write_bytes, write_text
from epochal.training.optim import Update
from epochal.training.records import EpochDone
from epochal.training.state import Training

VERSION = 1
_TENSORS, _STATE, _SUMS = "state.safetensors", "state.json", "SHA256SUMS"
_KEPT = 2

# At the end of an epoch a checkpoint is written where that has cost less than this share of the time since the one before.
_SHARE = 0.01


class Checkpoints:
    """The checkpoints of one run: when to write one, and where.

    One is written before the first step. Then one is due every so many seconds, at the ends of epochs where it costs less than
    1 % of the time, and when SIGINT (Ctrl-C) or SIGTERM asks training to stop. `tell` hears of a checkpoint that is damaged.
    """

    def __init__(self, folder: Path, every: float, tell: Callable[[str], object] = lambda _: None) -> None:
        self.folder = folder
        self.every = every
        self.tell = tell
        self.asked: int | None = None
        self._last = time.perf_counter()
        self._cost = 0.0

    def is_due(self, *, epoch_ends: bool = False) -> bool:
        """Whether a checkpoint should be written now, between two steps."""
        since = time.perf_counter() - self._last
        return self.asked is not None or since >= self.every or (epoch_ends and since * _SHARE >= self._cost)

    def save(self, training: Training) -> None:
        """Write a checkpoint, whole or not at all, then remove older ones; end the program if a signal asked for that.

        An optimizer that is none of torch.optim's has no state that could be read: then nothing is written. Raises `OutputError`
        when the disk refuses, and `NotFiniteError` for weights that are not finite, which are never kept.
        """
        if isinstance(training.optimizer, torch.optim.Optimizer):
            self._write(training)
        self.obey()

    def _write(self, training: Training) -> None:
        begun = time.perf_counter()
        tensors, state = _snapshot(training)
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise NotFiniteError(
                    f"{name.replace('/', ' ')} has a value that is not finite after step {training.step}; it is not saved.",
                    "Use a smaller --lr, or set clip_norm; check the inputs' scale.",
                )
        files = {_TENSORS: save_tensors(tensors), _STATE: json.dumps(state, indent=1).encode()}
        place = self.folder / f"step-{training.step:010}-{training.epoch}"
        if not place.exists():
            with new_directory(place) as folder:
                for name, content in files.items():
                    write_bytes(folder / name, content)
                write_text(folder / _SUMS, "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items()))
        for old in self.found()[_KEPT:]:
            shutil.rmtree(old)
        self._last = time.perf_counter()
        self._cost = self._last - begun

    def obey(self) -> None:
        """End the program if a signal asked for that, as it would have ended without us."""
        if self.asked is not None:
            raise KeyboardInterrupt if self.asked == signal.SIGINT else SystemExit(128 + self.asked)

    def restore(self, training: Training) -> bool:
        """Bring `training` to where the last whole checkpoint was written; return whether there is one.

        Raises `BundleError` where there are checkpoints, but none is whole or of this model.
        """
        damaged = []
        for place in self.found():
            try:
                tensors, state = _read(place)
            except (OSError, ValueError, KeyError, SafetensorError) as error:
                damaged.append(place)
                self.tell(f"note: {place} is damaged ({error}) and is not used.")
                continue
            try:
                _restore(training, tensors, state)
            except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
                reason = str(error).splitlines()[0]
                raise BundleError(f"{place} is not of this model and these settings: {reason}", "Pass the code that wrote it.") from error
            # A damaged one must not stand in the way of one that is written anew at the same step.
            for broken in damaged:
                shutil.rmtree(broken)
            return True
        if damaged:
            raise BundleError(f"No checkpoint in {self.folder} is whole.", "Train anew.")
        return False

    def found(self) -> list[Path]:
        """Return the checkpoints that there are, the newest first."""
        return sorted(self.folder.glob("step-*"), reverse=True)


@contextmanager
def heeding(checkpoints: Checkpoints | None) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM in the block ask for a checkpoint after the step; a second one ends the program at once.

    Only Python's main thread hears signals; in another, and without checkpoints, this does nothing.
    """
    if checkpoints is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, _: FrameType | None) -> None:
        if checkpoints.asked is not None:
            raise KeyboardInterrupt
        checkpoints.asked = number

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
        checkpoints.obey()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _snapshot(training: Training) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the whole state as tensors and plain values."""
    best, schedule, average = training.best, training.schedule, training.average
    groups = {"model": training.model.state_dict(), "best": best.weights, "average": {} if average is None else average.module.state_dict()}
    tensors = {f"{group}/{name}": tensor for group, weights in groups.items() for name, tensor in weights.items()}
    tensors["loss_sum"] = training.loss_sum
    numbers: dict[str, dict[str, Any]] = {}
    for place, values in training.optimizer.state_dict()["state"].items():  # type: ignore[attr-defined]
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{place}/{name}"] = value
            else:
                numbers.setdefault(str(place), {})[name] = value
    state = {
        "version": VERSION,
        "epoch": training.epoch,
        "step": training.step,
        "elapsed": training.elapsed(),
        "best": {"score": repr(best.score), "epoch": best.epoch, "improved": best.improved},
        "schedule": {"cuts": schedule.cuts, "best": repr(schedule.best), "bad_epochs": schedule.bad_epochs},
        "average_steps": None if average is None else average.steps,
        "scaler": training.scaler.state_dict(),
        "optimizer": numbers,
        "history": [_plain(done) for done in training.history],
    }
    # Tied weights share their memory; the file has each of them whole.
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}, state


def _restore(training: Training, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
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
    training.scaler.load_state_dict(state["scaler"])
    training.history[:] = [_record(values) for values in state["history"]]
    training.epoch, training.step = state["epoch"], state["step"]
    training.deadline -= state["elapsed"]
    training.began -= state["elapsed"]


def _read(place: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return what a checkpoint holds, after checking every byte of it."""
    content = {name: (place / name).read_bytes() for name in (_TENSORS, _STATE)}
    sums = (place / _SUMS).read_text("ascii").splitlines()
    for name, found in content.items():
        if f"{hashlib.sha256(found).hexdigest()}  {name}" not in sums:
            raise ValueError(f"{name} is not what was saved")
    state: dict[str, Any] = json.loads(content[_STATE])
    if state["version"] != VERSION:
        raise ValueError(f"it is of version {state['version']}")
    return load_tensors(content[_TENSORS]), state


def _plain(done: EpochDone) -> dict[str, Any]:
    values = {name: getattr(done, name) for name in done.__dataclass_fields__}
    valid = done.valid
    return values | {"valid": None if valid is None else {"task": valid.task, **valid.to_json()}}


def _record(values: dict[str, Any]) -> EpochDone:
    valid = values["valid"]
    return EpochDone(**{**values, "valid": None if valid is None else Evaluation.from_json(valid)})
