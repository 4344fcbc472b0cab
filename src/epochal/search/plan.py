"""Which trainings a search makes, as functions of what is finished: synchronous successive halving.

All trials are trained for a quarter of their epochs, the better half of them for a half, and the better half of these to the end (K.
Jamieson and A. Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", AISTATS 2016). Each is begun with all
of its epochs, so that its schedule means the same however far it comes. The default, trial 0, is always trained to the end.

Every trial knows exactly those before it that are at least `LAG` away: so many can be trained at once, and how many are changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

# The share of its epochs that a trial has made at the end of each rung.
RUNGS = (0.25, 0.5, 1.0)
LAST = len(RUNGS) - 1

# Trial j is proposed from the results of those up to j - LAG.
LAG = 4


@dataclass(frozen=True, order=True)
class Task:
    """One training: a trial up to a rung; or, with a `seed`, a whole run with its settings."""

    trial: int
    rung: int
    seed: int | None = None

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"trial-{self.trial}-rung-{self.rung + 1}" if self.seed is None else f"trial-{self.trial}-seed-{self.seed}"


@dataclass(frozen=True)
class Plan:
    """How many `trials` there are, and with which `seeds` the best and the default are trained at the end."""

    trials: int
    seeds: tuple[int, ...]

    def open_tasks(self, scores: Mapping[Task, float], retrained: Collection[Task]) -> list[Task]:
        """Return what can be done now, in order, given the scores of finished tasks (less is better) and which runs are finished.

        None is left when all is done. A trial that failed has an infinite score, and goes no further.
        """
        first = {trial: scores[Task(trial, 0)] for trial in range(self.trials) if Task(trial, 0) in scores}
        if len(first) < self.trials:
            return [Task(trial, 0) for trial in range(self.trials) if trial not in first and self.is_ready(trial, first)]
        for rung in range(1, len(RUNGS)):
            missing = [Task(trial, rung) for trial in self.survivors(rung, scores) if Task(trial, rung) not in scores]
            if missing:
                return missing
        finalists = dict.fromkeys((0, self.best(scores)))
        wanted = [Task(trial, LAST, seed) for seed in self.seeds for trial in finalists] if len(finalists) > 1 else []
        return [task for task in wanted if task not in retrained]

    @staticmethod
    def known_to(trial: int) -> range:
        """Return the trials that a trial is proposed from."""
        return range(max(0, trial - LAG + 1))

    def is_ready(self, trial: int, finished: Collection[int]) -> bool:
        """Whether all that a trial is proposed from is known."""
        return all(other in finished for other in self.known_to(trial))

    def survivors(self, rung: int, scores: Mapping[Task, float]) -> list[int]:
        """Return the trials that reach a rung, once all of the one before are finished; the best first, and the default always."""
        if not rung:
            return list(range(self.trials))
        before = [trial for trial in self.survivors(rung - 1, scores) if math.isfinite(scores[Task(trial, rung - 1)])]
        ranked = sorted(before, key=lambda trial: (scores[Task(trial, rung - 1)], trial))
        kept = ranked[: max(1, math.ceil(self.trials / 2**rung))]
        return kept if 0 in kept else [*kept, 0]

    def best(self, scores: Mapping[Task, float]) -> int:
        """Return the trial with the best score at the end; of equal ones the first."""
        return min(self.survivors(LAST, scores), key=lambda trial: (scores[Task(trial, LAST)], trial))

    @property
    def trainings(self) -> float:
        """How many whole trainings all tasks amount to, at most."""
        return work(self.trials) + 2 * len(self.seeds)


def work(trials: int) -> float:
    """Return how many whole trainings so many trials amount to, at most."""
    return sum(
        (trials if not rung else math.ceil(trials / 2**rung) + 1) * (share - (RUNGS[rung - 1] if rung else 0))
        for rung, share in enumerate(RUNGS)
    )
