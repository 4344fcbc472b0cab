"""Repeats: what the same settings reach with several seeds on the same test examples, and how far chance in either could move the mean."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from epochal.evaluation.by_example import SCORES, Answers
from epochal.evaluation.seeds import mean_over_seeds
from epochal.evaluation.several import Several, SeveralScores

# Of so many seeds, or fewer, it was measured how often an interval is right where seeds matter most.
_FEW = 5


@dataclass(frozen=True)
class RepeatScore(SeveralScores):
    """The mean of a score over seeds, and the score `by_seed`.

    The interval is for other test examples and other seeds; `examples` and `seeds` are the standard errors of the mean from each.
    """

    examples: float
    seeds: float
    by_seed: tuple[float, ...]

    def error(self, value: float) -> str:
        """Return a standard error in words."""
        return f"± {100 * value:.2f} %" if self.in_percent else f"± {self.words(value)}"


@dataclass(frozen=True, repr=False)
class Repeats(Several):
    """What one setting scores on `count` test examples with each of the `seeds` of which training is finished, out of so many `repeats`.

    `nearest` is the place among these of the model whose main score is nearest the median.
    """

    repeats: int
    seeds: tuple[int, ...]
    count: int
    nearest: int
    scores: tuple[RepeatScore, ...]

    @property
    def is_complete(self) -> bool:
        """Whether all are finished."""
        return len(self.seeds) == self.repeats

    @property
    def title(self) -> str:
        """What was measured, in one line."""
        if not self.is_complete:
            return f"repeats: {len(self.seeds)} of {self.repeats} trainings on one split so far"
        return f"repeats: {self.repeats} trainings on one split, with seeds {self.seeds[0]} to {self.seeds[-1]}"

    def headline(self) -> str:
        """Return the mean of the main score with its interval, in one line."""
        first = self.scores[0]
        return f"mean {first.name} {first.words(first.value)} over {len(self.seeds)} seeds (95 % interval {first.between()})"

    @property
    def meaning(self) -> tuple[str, ...]:
        """What the interval counts, how much of it comes from where, and which model is usual, in sentences."""
        first, place = self.scores[0], self.nearest
        few = (
            "Seeds change more than examples do, and few seeds tell little: in simulations such intervals have the true mean 85 to 93 % "
            "of the time."
        )
        return (
            "The interval of a mean is for other test examples and other seeds; what another split would change is not in it.",
            f"Standard error of the mean {first.name}: from examples {first.error(first.examples)}, from seeds {first.error(first.seeds)}.",
            f"Nearest the median is repeat {place + 1} (seed {self.seeds[place]}), with {first.name} {first.words(first.by_seed[place])}.",
            *([few] if first.seeds > first.examples and len(self.seeds) <= _FEW else []),
        )

    @property
    def heading(self) -> tuple[str, ...]:
        """The names of the columns of `table`."""
        return ("seed", *(score.name for score in self.scores))

    def table(self) -> list[tuple[str, ...]]:
        """Return the rows in words: each seed, the mean, the spread between seeds, the interval, and the standard errors."""
        return [
            *((str(seed), *(score.words(score.by_seed[place]) for score in self.scores)) for place, seed in enumerate(self.seeds)),
            ("mean", *(score.words(score.value) for score in self.scores)),
            ("spread", *(score.error(score.spread or 0.0) for score in self.scores)),
            ("95 % interval", *(score.between() for score in self.scores)),
            ("from examples", *(score.error(score.examples) for score in self.scores)),
            ("from seeds", *(score.error(score.seeds) for score in self.scores)),
        ]

    def to_json(self) -> dict[str, Any]:
        """Return every number by its name."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Repeats:
        """Return what `to_json` gave. Raises `ValueError`."""
        return _as_json()(values)


def measure_repeats(models: Sequence[Answers], seeds: Sequence[int], repeats: int) -> Repeats:
    """Return what was measured of models that were trained with these `seeds`, two at least, out of so many `repeats`.

    All answer the same test examples, in the same order. The interval is that of `seeds.mean_over_seeds`.
    """
    task, groups, scores = models[0].task, models[0].groups, []
    for score in SCORES.values():
        if not score.suits(task):
            continue
        found = [score.measure(answers) for answers in models]
        by_seed = tuple(one.value for one in found)
        mean = mean_over_seeds([one.values for one in found], groups, shares=score.is_share)
        in_percent = task.has_accuracy and score.higher_is_better
        interval = max(0.0, mean.interval[0]), min(1.0, mean.interval[1]) if in_percent else mean.interval[1]
        scores.append(
            RepeatScore(
                score.words, statistics.fmean(by_seed), interval, statistics.stdev(by_seed), in_percent, mean.examples, mean.seeds, by_seed
            )
        )
    main = scores[0].by_seed
    nearest = min(range(len(main)), key=lambda place: abs(main[place] - statistics.median(main)))
    return Repeats(repeats, tuple(seeds), len(models[0].targets), nearest, tuple(scores))


@cache
def _as_json() -> Callable[[Any], Repeats]:
    return TypeAdapter(Repeats).validate_python
