"""What training reports: a few frozen records. Watchers receive them and cannot change training; `fit` has `stop` for that."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import torch
from pydantic import BeforeValidator, PlainSerializer

from epochal.data.spec import DataSpec
from epochal.recipe import Recipe
from epochal.tasks.scores import Scores
from epochal.training.saved import Count
from epochal.training.sharing import ThreadChange


def _from_text(text: str | None) -> Scores | None:
    return None if text is None else Scores.from_json(json.loads(text))


def _as_text(scores: Scores | None) -> str | None:
    return None if scores is None else json.dumps(scores.to_json())


# In a checkpoint scores are text: one may be NaN, and the name of a class may come from a folder whose name is not UTF-8.
SavedScores = Annotated[Scores | None, BeforeValidator(_from_text), PlainSerializer(_as_text)]


@dataclass(frozen=True)
class Started:
    """Training starts: on which data and device, and for how many steps at most; `notes` are about measured settings.

    If training continues from a checkpoint, `history` has the finished epochs, and `step` is the number of steps so far; otherwise
    `step` is `None`. `metrics` are the names of further scores besides loss and accuracy. `untraced` is the reason for plain steps, if
    they are not traced.
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
    untraced: str = ""


@dataclass(frozen=True)
class Progress:
    """Progress, a few times a second. Times are in seconds; `waiting` is the share of time spent waiting for data.

    Of several processes, `examples_per_second` are those of all, and `slowest` is the number of the one that the others wait for, with how
    much longer it takes: a share of the mean of the others.
    """

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
    slowest: tuple[int, float] | None = None


@dataclass(frozen=True)
class EpochDone:
    """An epoch is over. `train_loss` is the mean over its steps, with dropout and augmentation on; `valid` is `None` without data."""

    epoch: Count
    epochs: Count
    step: Count
    train_loss: float
    valid: SavedScores
    lr: float
    seconds: float
    examples_per_second: float
    waiting: float
    is_best: bool


@dataclass(frozen=True)
class Rewound:
    """A value became NaN or infinite, as `reason` says: training continues from a checkpoint with the learning rate times `factor`.

    It was written after `step` steps, in `epoch`: earlier records of this epoch and of later ones are void.
    """

    step: Count
    epoch: Count
    factor: float
    reason: str


@dataclass(frozen=True)
class Finished:
    """Training is over: which epoch's weights were kept, and why it ended: "epochs", "steps", "seconds", "patience", or what `stop` said.

    `kept_for` says why these weights were kept. `threads` are all changes of the number of CPU threads, including unsuccessful trials.
    `untraced` is the reason for plain steps, if they were not traced.
    """

    epochs: int
    steps: int
    best_epoch: int
    reason: str
    seconds: float
    rewinds: tuple[Rewound, ...] = ()
    kept_for: str = ""
    threads: tuple[ThreadChange, ...] = ()
    untraced: str = ""

    def kept_weights(self) -> str:
        """Return in words which epoch's weights were kept, and why."""
        if not self.kept_for:
            return f"kept the weights of epoch {self.best_epoch}"
        return f"kept the weights of epoch {self.best_epoch}: {self.kept_for}"


Record: TypeAlias = Started | Progress | EpochDone | Rewound | ThreadChange | Finished
Watcher: TypeAlias = Callable[[Record], None]
