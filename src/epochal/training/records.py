"""What training reports: a few frozen records. Watchers receive them and cannot change training; `fit` has `stop` for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch

from epochal.data.spec import DataSpec
from epochal.recipe import Recipe
from epochal.tasks.scores import Scores
from epochal.training.schedule import Rewind
from epochal.training.sharing import ThreadChange


@dataclass(frozen=True)
class Started:
    """Training starts: on which data and device, and for how many steps at most; `notes` are about measured settings.

    If training continues from a checkpoint, `history` has the finished epochs, and `step` is the number of steps so far; otherwise
    `step` is `None`. `metrics` are the names of further scores besides loss and accuracy.
    """

    recipe: Recipe
    spec: DataSpec
    device: torch.device
    parameters: int
    epochs: int
    steps: int
    notes: tuple[str, ...] = ()
    history: tuple[EpochDone, ...] = ()
    step: int | None = None
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True)
class Progress:
    """Progress, a few times a second. Times are in seconds; `waiting` is the share of time spent waiting for data."""

    epoch: int
    epochs: int
    step: int
    steps: int
    examples: int
    epoch_examples: int
    loss: float
    examples_per_second: float
    waiting: float
    remaining: float


@dataclass(frozen=True)
class EpochDone:
    """An epoch is over. `train_loss` is the mean over its steps, with dropout and augmentation on; `valid` is `None` without data.

    `rewinds` is how often training has been rewound.
    """

    epoch: int
    epochs: int
    step: int
    train_loss: float
    valid: Scores | None
    lr: float
    seconds: float
    examples_per_second: float
    waiting: float
    is_best: bool
    rewinds: int = 0


@dataclass(frozen=True)
class Rewound:
    """A value became NaN or infinite, and training continues from the last checkpoint, after the epochs of `history`.

    Records of later epochs are void.
    """

    rewind: Rewind
    history: tuple[EpochDone, ...]


@dataclass(frozen=True)
class Finished:
    """Training is over: which epoch's weights were kept, and why it ended: "epochs", "steps", "seconds", "patience", or what `stop` said.

    `kept_for` says why these weights were kept. `threads` are all changes of the number of CPU threads, including unsuccessful trials.
    """

    epochs: int
    steps: int
    best_epoch: int
    reason: str
    seconds: float
    rewinds: tuple[Rewind, ...] = ()
    kept_for: str = ""
    threads: tuple[ThreadChange, ...] = ()

    def kept_weights(self) -> str:
        """Return in words which epoch's weights were kept, and why."""
        if not self.kept_for:
            return f"kept the weights of epoch {self.best_epoch}"
        return f"kept the weights of epoch {self.best_epoch}: {self.kept_for}"


Record: TypeAlias = Started | Progress | EpochDone | Rewound | ThreadChange | Finished
Watcher: TypeAlias = Callable[[Record], None]
