"""Cross-validation: what models reach on the parts of the data that they were trained without, and how far that could be off.

The interval is one of the expected score of models that are trained in this way on so many examples, of which these are a sample. Scores of
folds are not independent, since any two models share most of their training examples, and each example is in the test of one and in the
training of the others: an interval from single examples, as for a test set, is too narrow for that. C. Nadeau and Y. Bengio ("Inference for
the generalization error", Machine Learning 52, 2003) therefore multiply the variance of one fold's score by 1 / folds plus the number of
examples in a test over that in training, where independent ones would have 1 / folds. They take that variance from the spread between
folds, of which five say little. Here it is what chance in so many single examples makes of it; by what folds differ beyond that, as where
models depend on their seeds, the variance of the mean is larger.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

from epochal.evaluation.assessment import Assessment, assess
from epochal.evaluation.by_example import SCORES, Answers, ByExample, Score, take
from epochal.evaluation.comparison import SHOWN, Difference, of_error
from epochal.evaluation.evaluate import Evaluation
from epochal.evaluation.several import Several, SeveralScores
from epochal.evaluation.slices import Slices
from epochal.evaluation.uncertainty import Interval, standard_error
from epochal.tasks.beta import student_quantile
from epochal.tasks.intervals import share_interval

_Z = 1.959963984540054

# A difference of shares that no example shows could still be off by so many standard errors of 1 / n: as in Tango's interval.
_LEAST = _Z


@dataclass(frozen=True)
class FoldScore(SeveralScores):
    """A score of all examples, each as the model answered that was trained without it; and that `by_fold`."""

    by_fold: tuple[float, ...]


@dataclass(frozen=True, repr=False)
class CrossValidation(Several):
    """What models score that were each trained without one of so many `folds` of the data, and measured on it.

    `tested` has the number of examples of each fold that is finished, and `trained` how many its model learned from, including those that
    chose its epoch. `groups` is the number of independent groups that the examples are in; `None` if each stands for itself.
    """

    folds: int
    tested: tuple[int, ...]
    trained: tuple[int, ...]
    groups: int | None
    scores: tuple[FoldScore, ...]

    @property
    def count(self) -> int:
        """The number of examples of the folds that are finished."""
        return sum(self.tested)

    @property
    def is_complete(self) -> bool:
        """Whether all folds are finished."""
        return len(self.tested) == self.folds

    @property
    def title(self) -> str:
        """What was measured, in one line."""
        if not self.is_complete:
            return f"cross-validation: {len(self.tested)} of {self.folds} folds, {self.count:,} examples so far"
        return f"cross-validation: {self.folds} folds of {self.count:,} examples in all"

    def headline(self) -> str:
        """Return the main score with its interval, in one line."""
        first = self.scores[0]
        if first.interval is None:
            return f"{first.name} out of fold {first.words(first.value)}"
        return f"{first.name} out of fold {first.words(first.value)} (95 % interval {first.between()})"

    @property
    def meaning(self) -> tuple[str, ...]:
        """What the scores and their intervals are of, in sentences."""
        least, most = min(self.trained), max(self.trained)
        many = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        said = [
            f"Each example was answered by a model that was trained without its fold, on {many} others.",
            "The interval is of the expected score of models trained in this way on as many examples, these being a sample.",
        ]
        if self.groups is not None:
            said.append(f"Examples of one group are in one fold, and count together: {self.groups:,} groups.")
        return tuple(said)

    @property
    def final(self) -> str:
        """How the model of the run itself relates to this."""
        return "The model that is kept was trained on all examples: none of these scores is its own."

    @property
    def heading(self) -> tuple[str, ...]:
        """The names of the columns of `table`."""
        return ("fold", "examples", *(score.name for score in self.scores))

    def table(self) -> list[tuple[str, ...]]:
        """Return the rows in words: each fold, all of them together, their spread, and the interval."""
        folds = [
            (str(place), f"{count:,}", *(score.words(score.by_fold[place - 1]) for score in self.scores))
            for place, count in enumerate(self.tested, 1)
        ]
        spread = ("" if score.spread is None else f"± {score.words(score.spread)}" for score in self.scores)
        return [
            *folds,
            ("all", f"{self.count:,}", *(score.words(score.value) for score in self.scores)),
            ("spread", "", *spread),
            ("95 % interval", "", *(score.between() for score in self.scores)),
        ]

    def to_json(self) -> dict[str, Any]:
        """Return every number by its name."""
        values: dict[str, Any] = asdict(self)
        return values

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> CrossValidation:
        """Return what `to_json` gave; what else is among the values is ignored. Raises `ValueError`."""
        return _as_json()(values)


def cross_validation(evaluation: Evaluation, fold: Tensor, folds: int, trained: Sequence[int]) -> CrossValidation:
    """Return what was measured of examples out of their folds: `fold` int64 [n] numbers those that are finished, from 0.

    `trained` is how many examples the model of each was trained on.
    """
    groups, task, count = evaluation.groups, evaluation.task, int(fold.max()) + 1
    answers = Answers(task, evaluation.outputs, evaluation.predictions, evaluation.targets, groups)
    parts = [take(answers, (fold == place).nonzero()[:, 0]) for place in range(count)]
    scores = []
    for score in SCORES.values():
        if not score.suits(task):
            continue
        found, by_fold = score_folds(score, answers, fold, folds), [score.measure(part).value for part in parts]
        spread = float(torch.tensor(by_fold, dtype=torch.float64).std()) if count > 1 else None
        in_percent = task.has_accuracy and score.higher_is_better
        scores.append(FoldScore(score.words, found.value, found.interval, spread, in_percent, tuple(by_fold)))
    return CrossValidation(
        folds,
        tuple(len(part.targets) for part in parts),
        tuple(trained),
        None if groups is None else len(groups.unique()),
        tuple(scores),
    )


def score_folds(score: Score, answers: Answers, fold: Tensor, folds: int) -> ByExample:
    """Return a score of answers out of fold, with the interval of `fold_interval`; arguments are as there."""
    found = score.measure(answers)
    interval = fold_interval(found.values, fold, folds, answers.groups, shares=score.is_share)
    if interval is not None:
        is_bounded = answers.task.has_accuracy and score.higher_is_better
        interval = max(0.0, interval[0]), min(1.0, interval[1]) if is_bounded else interval[1]
    return replace(found, interval=interval)


def compare_folds(
    first: Tensor, second: Tensor, fold: Tensor, folds: int, groups: Tensor | None = None, *, shares: bool, shown: float = SHOWN
) -> Difference:
    """Return the difference of the expected scores of two ways of training, from what each example adds out of fold: float [n] each.

    Both must have had the same folds: the standard error is that of a score (see above), of the differences. Arguments are as in
    `fold_interval`; a difference with a p below `shown` counts as shown.
    """
    change = second.double() - first.double()
    error, freedom = fold_error(change, fold, folds, groups)
    if shares:
        error = max(error, _LEAST / len(change) * _factor(fold, folds) ** 0.5)
    freedom = min(freedom, len(change) - 1)
    return of_error(len(change), float(first.double().mean()), float(second.double().mean()), error, freedom, shown)


def assess_folds(found: CrossValidation, evaluation: Evaluation, slices: Slices | None) -> Assessment | None:
    """Return what else is known from answers out of fold; its scores have the intervals of cross-validation. `slices` are
    those of the same examples.

    Other intervals are of the models at hand, for other examples (P. Bayle, A. Bayle, L. Janson and L. Mackey, "Cross-validation confidence
    intervals for test error", NeurIPS 2020).
    """
    assessment = assess(None, evaluation, slices)
    if assessment is None:
        return None
    intervals = {score.name: score.interval for score in found.scores}
    scores = {name: replace(one, interval=intervals[name]) for name, one in assessment.scores.items()}
    return replace(assessment, split="folds", scores=scores)


def fold_interval(values: Tensor, fold: Tensor, folds: int, groups: Tensor | None = None, *, shares: bool = False) -> Interval | None:
    """Return the 95 % interval of the expected score of models trained without one of so many `folds`: see above.

    `values` [n] are what each example adds to the score out of its fold, int64 [n]; `shares` says that these are 0 and 1. Not all folds
    need be there. Examples of one of `groups` int64 [n] count together. A share has the interval of that many fewer independent examples.
    `None` for a single value, or group.
    """
    error, freedom = fold_error(values, fold, folds, groups)
    if not freedom:
        return None
    reach = _Z if math.isinf(freedom) else student_quantile(freedom)
    count, middle = len(values), float(values.double().mean())
    if shares:
        plain_variance = middle * (1 - middle) / count
        independent = count if groups is None else len(groups.unique())
        same = max(error**2 / plain_variance, 1.0) if plain_variance > 0 else _factor(fold, folds) * count / independent
        same *= (reach / _Z) ** 2
        return share_interval(middle * count / same, count / same)
    return middle - reach * error, middle + reach * error


def fold_error(values: Tensor, fold: Tensor, folds: int, groups: Tensor | None = None) -> tuple[float, float]:
    """Return the standard error of the mean of `values`, and its degrees of freedom (F. Satterthwaite, Biometrics Bulletin 2, 1946).

    These are 0 for a single value, or group, and infinite where nothing varies; arguments are as in `fold_interval`.
    """
    there, independent = int(fold.max()) + 1, len(values) if groups is None else len(groups.unique())
    if independent < 2:
        return math.nan, 0.0
    values = values.double()
    means = torch.zeros(there, dtype=torch.float64).index_add_(0, fold, values) / fold.bincount()
    single = standard_error(values, groups) ** 2
    between = float(means.var()) if there > 1 else 0.0
    excess = max(0.0, between / there - single)
    sampling = _factor(fold, folds) * single
    below = sampling**2 / (independent - 1) + ((between / there) ** 2 / (there - 1) if excess else 0.0)
    variance = sampling + excess
    return variance**0.5, variance**2 / below if below > 0 else math.inf


def _factor(fold: Tensor, folds: int) -> float:
    """Return by how much the variance of a mean is larger out of so many `folds` than for independent answers."""
    return 1 + (int(fold.max()) + 1) / (folds - 1)


@cache
def _as_json() -> Callable[[Any], CrossValidation]:
    return TypeAdapter(CrossValidation).validate_python
