"""Checkpoints: everything that training needs to continue as if it had never stopped, to the bit.

    checkpoints/step-0000000938-2/state.safetensors   weights, their moving average, the best ones, the optimizer's state
                                  state.json          counters, scores and the epochs so far
                                  SHA256SUMS          of the two files; `sha256sum -c SHA256SUMS` checks them too

The folder is named by the number of steps, the epoch, and the number of rewinds, if any. It exists whole or not at all. The last two
are kept: if the last is damaged, that is reported and the one before is used. Randomness is a function of seed and position, so there
is none to save.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from epochal.errors import BundleError
from epochal.io.files import new_directory, remove_directory, write_bytes, write_text
from epochal.io.safe_read import open_file, parse_json, read_file, read_tensors
from epochal.training.distributed import share_state
from epochal.training.saved import State
from epochal.training.signals import Signals
from epochal.training.state import Training

VERSION = 8
_TENSORS, _VALUES, _SUMS = "state.safetensors", "state.json", "SHA256SUMS"
_NAME = re.compile(r"step-\d+-\d+(-\d+)?")
_KEPT = 2

# The most bytes of memory that the state without tensors may take once it is parsed: it grows with epochs and classes.
MAX_STATE = 1_000_000_000

# At the end of an epoch a checkpoint is written if all of them together, including another one, cost less than this share of the time.
_SHARE = 0.01


class Checkpoints:
    """The checkpoints of one run: when to write one, and where.

    The first is written before the first step. More are due at a fixed interval, at the ends of epochs if all together cost less than 1
    % of the time, on SIGUSR1, and when SIGINT (Ctrl-C) or SIGTERM stops training. `log` is called about requested and damaged ones.
    Without a `folder` there are none.
    """

    def __init__(self, folder: Path | None, every: float = math.inf, log: Callable[[str], object] = lambda _: None) -> None:
        self.folder = folder
        self.every = every
        self.log = log
        self.signals = Signals(handled=folder is not None)
        self._begun = self._last = time.perf_counter()
        self._cost = self._spent = 0.0

    def is_due(self, *, epoch_ends: bool = False) -> bool:
        """Return whether a checkpoint is due now, between two steps."""
        if self.folder is None:
            return False
        now = time.perf_counter()
        if self.signals.end is not None or self.signals.checkpoint or now - self._last >= self.every:
            return True
        return epoch_ends and (now - self._begun) * _SHARE >= self._spent + 2 * self._cost

    def save(self, training: Training) -> None:
        """Write a checkpoint, whole or not at all, then remove older ones; end the program if a signal asked for that.

        The state of an optimizer that is not from torch.optim cannot be read: then nothing is written. Raises `OutputError` if the disk
        refuses, and `NotFiniteError` for weights that are not finite, which are never saved.
        """
        if self.folder is None:
            return
        folder, ranks = self.folder, training.ranks
        can_save = isinstance(training.optimizer, torch.optim.Optimizer)
        if can_save:
            training.labels.collect(ranks)
            loss_sum = ranks.total(training.loss_sum)
            ranks.tell(lambda: self._write(training, loss_sum, folder))
        if self.signals.checkpoint:
            self.signals.checkpoint = False
            self.log(
                f"checkpoint after step {training.step:,}" if can_save else "note: no checkpoint: the optimizer's state cannot be saved."
            )
        self.signals.exit_if_requested()

    def _write(self, training: Training, loss_sum: Tensor, folder: Path) -> None:
        begun = time.perf_counter()
        training.check_finite(loss_sum)
        state = training.state_dict() | {"loss_sum": loss_sum}
        # Tied weights share memory; the file contains each of them in full.
        tensors = {name: value.detach().cpu().clone().contiguous() for name, value in state.items() if isinstance(value, Tensor)}
        values = {"version": VERSION} | {name: value for name, value in state.items() if name not in tensors}
        files = {_TENSORS: save_tensors(tensors), _VALUES: json.dumps(values, indent=1, allow_nan=False).encode()}
        path = folder / "step-{:010}-{}-{}".format(*training.position).removesuffix("-0")
        if not path.exists():
            with new_directory(path) as draft:
                for name, content in files.items():
                    write_bytes(draft / name, content)
                write_text(draft / _SUMS, "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items()))
        # Others at the same position or later are from before a rewind.
        found = self.found()
        kept = [path, *(other for other in found if _position(other)[:2] < _position(path)[:2])][:_KEPT]
        for old in found:
            if old not in kept:
                remove_directory(old)
        self._last = time.perf_counter()
        self._cost = self._last - begun
        self._spent += self._cost

    def restore(self, training: Training, before: float = math.inf) -> bool:
        """Restore `training` from the last intact checkpoint of fewer than `before` steps; return whether there is one.

        Of several processes only the first reads it. Raises `BundleError` if there are checkpoints, but none is intact or of this model.
        """
        found = training.ranks.tell(lambda: self._restore(training, before))
        if found:
            share_state(training, training.ranks)
        return found

    def _restore(self, training: Training, before: float) -> bool:
        damaged = []
        for path in self.found():
            if _position(path)[0] >= before:
                continue
            try:
                state = read_checkpoint(path)
            except PermissionError as error:
                raise BundleError(f"{path} cannot be read: {error.strerror}.", "Make its files readable.") from error
            except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
                damaged.append(path)
                self.log(f"note: {path} is damaged ({error}) and is not used.")
                continue
            try:
                training.load_state_dict(state)
            except Exception as error:  # An intact state may still contain anything.
                raise _mismatch(path, error) from error
            # A damaged one must not block a new one at the same step.
            for broken in damaged:
                remove_directory(broken)
            return True
        if damaged:
            raise BundleError(f"No checkpoint in {self.folder} is whole.", "Train again.")
        return False

    def found(self) -> list[Path]:
        """Return the checkpoints, the newest first."""
        return [] if self.folder is None else checkpoints_in(self.folder)


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the newest first."""
    return sorted((path for path in folder.glob("step-*") if _NAME.fullmatch(path.name)), key=_position, reverse=True)


def _position(path: Path) -> tuple[int, ...]:
    """Parse the name of a checkpoint."""
    return tuple(map(int, path.name.split("-")[1:]))


def read_checkpoint(path: Path) -> State:
    """Return the content of a checkpoint, after verifying every byte.

    Raises `BundleError` for one of another version, and `OSError` and `ValueError`, among others, for a damaged one.
    """
    sums = read_file(path / _SUMS, 1000).decode("ascii").splitlines()
    with open_file(path / _TENSORS, follow=False) as tensors, open_file(path / _VALUES, follow=False) as text:
        for name, file in ((_TENSORS, tensors), (_VALUES, text)):
            if f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}" not in sums:
                raise ValueError(f"{name} is not what was saved")
            file.seek(0)
        state: State = parse_json(text.read(MAX_STATE), MAX_STATE)
        if not isinstance(state, dict):
            raise ValueError(f"{_VALUES} has no values by name")
        if (version := state.pop("version")) != VERSION:
            raise BundleError(
                f"{path} is a checkpoint of version {version}; this Epochal reads version {VERSION}.",
                "Use the version of Epochal that wrote it, or train again.",
            )
        read_tensors(tensors)
        tensors.seek(0)
        return state | load_tensors(tensors.read())


def _mismatch(path: Path, error: Exception) -> BundleError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return BundleError(f"{path} is not of this model and these settings: {reason}", "Pass the code that wrote it.")
