"""What training tells while it goes on: a few frozen records. Watchers receive them and cannot steer: `fit` has `stop` for that."""

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
    """Training begins: what on, where, and how many steps at most; `notes` are settings that were chosen by measurement.

    Where training goes on from a checkpoint, `history` has the epochs that are over, and `step` is how many steps were made;
    else `step` is `None`. `metrics` are the names of what is measured beside loss and accuracy.
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
    """A few times a second: where training is. Times are in seconds; `waiting` is the share of time spent waiting for data."""

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

    `rewinds` is how often training was rewound up to here.
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
    """Something became NaN or infinite, and training goes on from the last checkpoint: how, and which epochs are over there.

    What was told of later epochs no longer counts.
    """

    rewind: Rewind
    history: tuple[EpochDone, ...]


@dataclass(frozen=True)
class Finished:
    """Training is over: which epoch's weights were kept, and why it ended: "epochs", "steps", "seconds", "patience", or what `stop` said.

    `kept_for` says in words why it is that epoch's weights. `threads` are all changes of the number of CPU threads, those that were
    tried in vain too.
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
        """Say which epoch's weights were kept, and why."""
        if not self.kept_for:
            return f"kept the weights of epoch {self.best_epoch}"
        return f"kept the weights of epoch {self.best_epoch}: {self.kept_for}"


Record: TypeAlias = Started | Progress | EpochDone | Rewound | ThreadChange | Finished
Watcher: TypeAlias = Callable[[Record], None]
