"""The number of CPU threads per step while other programs need the cores too.

The last bits of PyTorch's results depend on the number of threads. So the number is a function of the step like everything else: it
changes only if the user has not set it, each change is recorded with its step, and a run that is resumed or reproduced changes at the
same steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import torch
from pydantic import Field

from epochal.cores import CoreWatch
from epochal.recipe import Recipe
from epochal.training.saved import Count, Saved, State

# Seconds over which a pace is measured. Fewer threads are tried once the cores have been crowded for longer than a moment, or
# immediately in the first seconds of training.
WINDOW_SECONDS = 0.4
_PATIENCE = 1.0
_START_SECONDS = 2.0
# Seconds until an unsuccessful trial is repeated, twice as many each time.
RETRY_SECONDS = 4.0
# The speed-up that makes a change worthwhile.
BETTER = 1.1


@dataclass(frozen=True)
class ThreadChange:
    """After `step` steps, each step uses `threads` CPU threads instead of `before`."""

    step: Count
    threads: Annotated[int, Field(ge=1)]
    before: Annotated[int, Field(ge=1)]


def is_open(recipe: Recipe, device: torch.device) -> bool:
    """Return whether the number of threads may change during training: there are several, and the user has not set the number.

    Processes that read data use cores themselves: then the pace says little about other programs.
    """
    is_chosen = recipe.origin("threads") not in ("measured", "this machine")
    return device.type == "cpu" and recipe.threads_per_step > 1 and not is_chosen and not recipe.workers


class _Saved(Saved):
    changes: list[ThreadChange]


class Threads:
    """The number of CPU threads as a function of the step: `first`, and the `changes` that followed."""

    def __init__(self, first: int, changes: Sequence[ThreadChange] = ()) -> None:
        self.first = first
        self.changes = list(changes)

    def at(self, step: int) -> int:
        """Return the number for the step after `step` others."""
        return next((change.threads for change in reversed(self.changes) if change.step <= step), self.first)

    def state_dict(self) -> State:
        """Return the changes."""
        return {"changes": [asdict(change) for change in self.changes]}

    def load_state_dict(self, state: State) -> None:
        """Continue from a state. Raises `ValueError`."""
        changes = _Saved.read(state).changes
        if any(change.threads > self.first for change in changes):
            raise ValueError(f"changes: one is to more than {self.first} threads")
        self.changes = changes

    def use(self, step: int) -> None:
        """Set the number for the step after `step` others."""
        threads = self.at(step)
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)


class Sharing:
    """Tries fewer threads while the cores are crowded, and more from time to time afterwards; keeps what is faster.

    It compares the pace of real steps before and after a change, so that nothing needs to be known about other programs.
    """

    def __init__(self, threads: Threads, watch: CoreWatch) -> None:
        self.threads = threads
        self.watch = watch
        # Of all steps, of those since the last trial, and of those in this window.
        self.total = self.settled = self.seconds = 0.0
        self.steps = 0
        self.before: tuple[int, float] | None = None
        self.pause_before_fewer, self.pause_before_more = 0.0, RETRY_SECONDS

    def step_done(self, step: int, seconds: float) -> ThreadChange | None:
        """Record that `step` steps have been made, the last in `seconds`; return a change that has been worthwhile."""
        self.total += seconds
        self.settled += seconds
        self.seconds += seconds
        self.steps += 1
        return None if self.seconds < WINDOW_SECONDS else self._look(step)

    def forget(self) -> None:
        """Abandon a trial, as training goes back to an earlier step."""
        self.before = None
        self.seconds, self.steps = 0.0, 0

    def _look(self, step: int) -> ThreadChange | None:
        count, pace, crowded = self.threads.at(step), self.steps / self.seconds, self.watch.crowded_seconds()
        # While threads spin the pace says nothing: it must be that of a window in which they yielded.
        patience = max(self.seconds, _PATIENCE if self.total > _START_SECONDS else 0.0)
        self.pause_before_fewer *= bool(crowded)
        kept = None
        if self.before is not None:
            kept = self._judge(step, count, pace, *self.before)
        elif count > 1 and crowded > patience and self.settled > self.pause_before_fewer:
            self._try(step, count, pace, count // 2)
        elif count < self.threads.first and self.settled > self.pause_before_more:
            self._try(step, count, pace, min(2 * count, self.threads.first))
        self.seconds, self.steps = 0.0, 0
        return kept

    def _judge(self, step: int, count: int, pace: float, previous: int, pace_before: float) -> ThreadChange | None:
        """End a trial: return the change if it is kept, otherwise undo it."""
        self.before = None
        self.settled = 0.0
        if pace > BETTER * pace_before:
            self.pause_before_fewer, self.pause_before_more = 0.0, RETRY_SECONDS
            return self.threads.changes[-1]
        self._change(step, count, previous)
        if previous > count:
            self.pause_before_fewer = max(2 * self.pause_before_fewer, RETRY_SECONDS)
        else:
            self.pause_before_more *= 2
        return None

    def _try(self, step: int, count: int, pace: float, other: int) -> None:
        self.before = count, pace
        self._change(step, count, other)

    def _change(self, step: int, before: int, threads: int) -> None:
        self.threads.changes.append(ThreadChange(step, threads, before))
