"""How many CPU threads the steps of training use where other programs want the cores too.

PyTorch's results depend, in their last bits, on the number of threads. So the number is a function of the step like everything else:
it changes only where the user has not set it, each change is kept with the step that it counts from, and a run that is resumed or
reproduced changes at the same steps.
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

# A pace is measured over so many seconds. Fewer threads are tried once the cores have been crowded for longer than a moment, but in the
# first seconds of training at once.
_WINDOW_SECONDS = 0.4
_PATIENCE = 1.0
_START_SECONDS = 2.0
# What was tried in vain is tried again after so many seconds, twice as many each time.
_RETRY_SECONDS = 4.0
# So much faster must be what is tried.
_BETTER = 1.1


@dataclass(frozen=True)
class ThreadChange:
    """From the step that comes after `step` others on, each step uses `threads` CPU threads, where those before it used `before`."""

    step: Count
    threads: Annotated[int, Field(ge=1)]
    before: Annotated[int, Field(ge=1)]


def is_open(recipe: Recipe, device: torch.device) -> bool:
    """Return whether the number of threads may change while training goes on: there are several, and nobody has asked for just so many.

    Processes that read data take cores of their own: with them the pace says little about other programs.
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
        """Return the number for the step that comes after `step` others."""
        return next((change.threads for change in reversed(self.changes) if change.step <= step), self.first)

    def state_dict(self) -> State:
        """Return the changes."""
        return {"changes": [asdict(change) for change in self.changes]}

    def load_state_dict(self, state: State) -> None:
        """Go on from a state. Raises `ValueError`."""
        changes = _Saved.read(state).changes
        if any(change.threads > self.first for change in changes):
            raise ValueError(f"changes: one is to more than {self.first} threads")
        self.changes = changes

    def use(self, step: int) -> None:
        """Let operations use the number of that step."""
        threads = self.at(step)
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)


class Sharing:
    """Tries fewer threads while the cores are crowded, and more from time to time afterwards; keeps what is faster.

    What counts is the pace of the real steps before and after a change, so that nothing has to be known about the other programs.
    """

    def __init__(self, threads: Threads, watch: CoreWatch) -> None:
        self.threads = threads
        self.watch = watch
        # Of all steps, of those since the last trial, and of those in this window.
        self.total = self.settled = self.seconds = 0.0
        self.steps = 0
        self.before: tuple[int, float] | None = None
        self.pause_before_fewer, self.pause_before_more = 0.0, _RETRY_SECONDS

    def step_done(self, step: int, seconds: float) -> ThreadChange | None:
        """Take note that `step` steps are made, the last in so many `seconds`; return a change that has proved its worth."""
        self.total += seconds
        self.settled += seconds
        self.seconds += seconds
        self.steps += 1
        return None if self.seconds < _WINDOW_SECONDS else self._look(step)

    def forget(self) -> None:
        """Let what was being tried go, as training goes back to an earlier step."""
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
        """End a trial: return the change if it is kept, else take it back."""
        self.before = None
        self.settled = 0.0
        if pace > _BETTER * pace_before:
            self.pause_before_fewer, self.pause_before_more = 0.0, _RETRY_SECONDS
            return self.threads.changes[-1]
        self._change(step, count, previous)
        if previous > count:
            self.pause_before_fewer = max(2 * self.pause_before_fewer, _RETRY_SECONDS)
        else:
            self.pause_before_more *= 2
        return None

    def _try(self, step: int, count: int, pace: float, other: int) -> None:
        self.before = count, pace
        self._change(step, count, other)

    def _change(self, step: int, before: int, threads: int) -> None:
        self.threads.changes.append(ThreadChange(step, threads, before))
