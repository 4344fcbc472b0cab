"""How good a model is by the number of labels that it learned from, and what twice as many would bring.

All models are evaluated on the same examples. Two things make a score uncertain: which examples it is measured on, and which the model
was trained on. The first is estimated by leaving blocks of test examples out (the jackknife), which also tells how much of it is common
to all sizes; the second from several draws of training examples of each size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter

from epochal.evaluation.by_example import Answers
from epochal.evaluation.evaluate import Evaluation
from epochal.shown import Rows, Shown
from epochal.tasks.base import Task
from epochal.tasks.intervals import share_interval

Numbers = NDArray[np.float64]

# So many blocks of test examples are left out in turn.
_BLOCKS = 20

# The curve is fitted to so many possible measurements.
_SAMPLES = 2000

# Exponents of the power law that are tried.
_EXPONENTS = np.linspace(0.1, 1.5, 15)

# Fewer sizes say nothing about the shape of the curve.
_LEAST_SIZES = 3

# 95 % of a normal distribution.
_Z = 1.96

# And of Student's, by degrees of freedom from 1.
_STUDENT = (12.71, 4.30, 3.18, 2.78)


@dataclass(frozen=True)
class LabelCount:
    """The mean score of models that learned from so many `labels`, over so many `draws`, with its 95 % interval.

    Without draws it is not measured, but expected by the curve.
    """

    labels: int
    score: float
    interval: tuple[float, float]
    draws: int = 0


@dataclass(frozen=True, repr=False)
class LearningCurve(Shown):
    """The score of `task` by the number of labels, measured on the same `count` examples of the split `measured_on`.

    `twice` is what twice as many labels are expected to bring, by a power law: score = a - b * labels^-c. It is `None` where that
    cannot be told, and `why` says why.
    """

    task: Task
    measured_on: str
    count: int
    points: tuple[LabelCount, ...]
    twice: LabelCount | None
    why: str = ""

    @property
    def heading(self) -> tuple[str, str, str, str]:
        """The names of the columns of `table`."""
        return "labels", self.task.score_name, "95 % interval", "draws"

    def table(self) -> list[tuple[str, str, str, str]]:
        """Return the rows in words: what was measured, and what is expected."""
        points = (*self.points, *(() if self.twice is None else (self.twice,)))
        return [
            (f"{one.labels:,}", self.words(one.score), self.between(one), str(one.draws) if one.draws else "expected") for one in points
        ]

    def words(self, score: float) -> str:
        """Return a score with its unit."""
        return f"{100 * score:.1f} %" if self.task.has_accuracy else self.task.score_words(score)

    def between(self, point: LabelCount) -> str:
        """Return an interval in words."""
        low, high = point.interval
        return f"{100 * low:.1f} – {100 * high:.1f} %" if self.task.has_accuracy else f"{self.words(low)} – {self.words(high)}"

    def outlook(self) -> str:
        """Return what twice as many labels would bring, in one line."""
        if self.twice is None:
            return f"what twice as many labels would bring cannot be told: {self.why}"
        return f"twice as many labels ({self.twice.labels:,}) would bring about {self.words(self.twice.score)} ({self.between(self.twice)})"

    def to_json(self) -> dict[str, Any]:
        """Return every number by its name."""
        twice = None if self.twice is None else asdict(self.twice)
        points = [asdict(point) for point in self.points]
        named = {"score": self.task.score_name, "measured_on": self.measured_on, "count": self.count}
        return {**named, "points": points, "twice": twice, "why": self.why}

    @staticmethod
    def from_json(values: Mapping[str, Any], task: Task) -> LearningCurve:
        """Return what `to_json` gave for the `task`. Raises `ValueError`."""
        return _as_json().validate_python({**values, "task": task})

    @property
    def title(self) -> str:
        """What the table shows."""
        return f"{self.task.score_name} by the number of labels, measured on {self.count:,} {self.measured_on} examples"

    def _title(self) -> str:
        return self.title

    def _rows(self) -> Rows:
        return [*self.table(), ("", self.outlook())]

    def _table(self) -> tuple[Sequence[str], Rows]:
        return self.heading, self.table()


def learning_curve(sizes: Sequence[Sequence[tuple[int, Evaluation]]], measured_on: str) -> LearningCurve:
    """Return the curve through what was measured: for each size, in rising order, the number of labels and the evaluation of each draw.

    The last size is all labels, and has one; the others have 2 to 5.
    """
    task, count = sizes[-1][0][1].task, sizes[-1][0][1].count
    draws = [len(size) for size in sizes]
    labels = np.array([np.mean([number for number, _ in size]) for size in sizes])
    scores = [np.array([task.score_value(one) for _, one in size]) for size in sizes]
    means = np.array([size.mean() for size in scores])
    covariance = _of_test(sizes, task) + np.diag(_of_draws(labels, scores))
    points = tuple(
        LabelCount(
            round(float(labels[place])),
            float(means[place]),
            _interval(task, float(means[place]), float(covariance[place, place]), count),
            draws[place],
        )
        for place in range(len(sizes))
    )
    twice, why = _expected(labels, means, covariance, task)
    return LearningCurve(task, measured_on, count, points, twice, why)


def _interval(task: Task, score: float, variance: float, count: int) -> tuple[float, float]:
    if not task.has_accuracy:
        reach = _Z * math.sqrt(variance)
        return score - reach, min(score + reach, 1.0)
    # As for a share of so many independent examples.
    share = (count * score + 2) / (count + 4)
    same = max(share * (1 - share) / variance, 1.0)
    return share_interval(score * same, same)


def _of_test(sizes: Sequence[Sequence[tuple[int, Evaluation]]], task: Task) -> Numbers:
    """Return the covariance of the mean scores, [sizes, sizes], that comes from which examples they are measured on."""
    count = sizes[0][0][1].count
    blocks = min(_BLOCKS, count)
    block = torch.arange(count) % blocks
    block = block[torch.randperm(count, generator=torch.Generator().manual_seed(0))]
    scores = [[_on_some(one) for _, one in size] for size in sizes]
    without = np.array([[np.mean([score(block != left) for score in size]) for size in scores] for left in range(blocks)])
    shifts = without - without.mean(0)
    covariance: Numbers = (blocks - 1) / blocks * shifts.T @ shifts
    if task.has_accuracy:
        # Where all examples are right, or nearly all, they vary more than these do: by 2 more right ones and 2 more wrong ones.
        share = (count * np.array([np.mean([task.score_value(one) for _, one in size]) for size in sizes]) + 2) / (count + 4)
        least = share * (1 - share) / (count + 4)
        covariance += np.diag(np.maximum(least - np.diag(covariance), 0))
    return covariance


def _on_some(evaluation: Evaluation) -> Callable[[torch.Tensor], float]:
    """Return what the score is on those examples (bool [n]) of an evaluation."""
    task, outputs, predictions, targets = evaluation.task, evaluation.outputs, evaluation.predictions, evaluation.targets
    if task.has_accuracy:
        right = Answers(task, outputs, predictions, targets).right.double()
        return lambda kept: float(right[kept].mean())
    return lambda kept: task.score_value(task.score(outputs[kept], predictions[kept], targets[kept], loss=0.0))


def _of_draws(labels: Numbers, scores: Sequence[Numbers]) -> Numbers:
    """Return the variance of the mean scores, [sizes], that comes from which examples were labelled.

    Draws from the same examples agree more than others would: where they have a share f of these, their variance is 1 - f of it. Of all
    examples there is one draw: its variance is that of the size before, falling as 1 / n.
    """
    share = labels / labels[-1]
    variance = np.zeros(len(labels))
    for place, size in enumerate(scores[:-1]):
        # Few draws may agree by chance: Student's distribution has wider tails.
        whole = size.var(ddof=1) * (_STUDENT[len(size) - 2] / _Z) ** 2 / (1 - share[place])
        variance[place] = whole * (share[place] + (1 - share[place]) / len(size))
        variance[-1] = whole * share[place]
    return variance


def _expected(labels: Numbers, means: Numbers, covariance: Numbers, task: Task) -> tuple[LabelCount | None, str]:
    """Return what twice as many labels are expected to bring, or why that cannot be told."""
    if len(labels) < _LEAST_SIZES:
        return None, f"{len(labels)} sizes are too few"
    samples = np.random.default_rng(0).multivariate_normal(means, covariance, _SAMPLES, method="eigh")
    if np.mean(samples[:, -1] > samples[:, 0]) < 0.975:
        return None, f"the {task.score_name} of few labels and of all differs by no more than chance"
    found = power_law(labels, samples, 1 / np.diag(covariance), 2 * labels[-1])
    low, middle, high = np.quantile(found, (0.025, 0.5, 0.975)).tolist()
    if high - low > 2 * (means[-1] - means[0]):
        return None, "the measured scores are too uncertain for that"
    return LabelCount(round(2 * float(labels[-1])), middle, (low, high)), ""


def power_law(labels: Numbers, scores: Numbers, weights: Numbers, wanted: float) -> Numbers:
    """Return the score [n] at the `wanted` number of labels, by a curve through each row of `scores` [n, sizes].

    Of all curves a - b * labels^-c with b >= 0 and a <= 1, it is the one with the least squared distances by `weights` [sizes].
    """
    best, found = np.full(len(scores), np.inf), np.zeros(len(scores))
    # Labels are counted in units of all of them, so that numbers stay near 1.
    sizes, far = labels / labels[-1], wanted / labels[-1]
    weights = weights / weights.sum()
    for exponent in _EXPONENTS:
        x, at = sizes**-exponent, far**-exponent
        mean_x, mean_y = weights @ x, scores @ weights
        slope = np.minimum((scores - mean_y[:, None]) @ (weights * (x - mean_x)) / (weights @ (x - mean_x) ** 2), 0)
        top = mean_y - slope * mean_x
        # No score is above 1: then the curve goes to 1, as steeply as suits best.
        bounded = np.minimum((scores - 1) @ (weights * x) / (weights @ x**2), 0)
        top, slope = np.where(top > 1, 1.0, top), np.where(top > 1, bounded, slope)
        distance = (scores - top[:, None] - slope[:, None] * x) ** 2 @ weights
        is_better = distance < best
        best, found = np.where(is_better, distance, best), np.where(is_better, top + slope * at, found)
    return found


@cache
def _as_json() -> TypeAdapter[LearningCurve]:
    return TypeAdapter(LearningCurve)
