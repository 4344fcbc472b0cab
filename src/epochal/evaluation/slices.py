"""Slices of test data on which a model does worse: the examples that have one value in a column, against all others.

Looking at many slices finds some that are worse by chance, so p is corrected (S. Holm, Scand. J. Stat. 6, 1979): of a model that is
equally good on all, any slice is said to be worse for at most 5 % of test sets. Slices of different columns overlap, which only makes that
less. The search for such slices is that of Y. Chung, T. Kraska, N. Polyzotis, K. Tae and S. Whang ("Slice Finder", ICDE 2019), without
slices of several columns: these would be so many that only large differences could be shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from epochal.data.attributes import Attributes, Cut, cut
from epochal.data.examples import Examples
from epochal.data.inputs.base import InputRule
from epochal.data.inputs.table.rule import TableRule
from epochal.evaluation.by_example import Answers, score_for
from epochal.evaluation.comparison import SHOWN, holm
from epochal.evaluation.uncertainty import Interval, mean_interval, standard_error
from epochal.shown import Rows, Shown, are, counted
from epochal.tasks.beta import student_quantile, student_tails
from epochal.tasks.intervals import share_interval
from epochal.tasks.scores import plain

# What examples of splits are called, where it is not the name of the split.
_SPLITS = {"valid": "validation", "folds": "out-of-fold"}

# A slice has so many examples, and so have all others; of examples in groups, it has so many groups.
LEAST, _GROUPS = 30, 10

# Of each column, so many of the commonest values are looked at.
_VALUES = 20

# So many of the surest are kept.
_KEPT = 50

# So many values are looked at: of very many examples, those of the first columns.
_CELLS = 1 << 25

# The normal quantiles of a power of 80 %, and of 95 % intervals.
_POWER, _Z = 0.8416212335729143, 1.959963984540054
_HALVINGS = 40


@dataclass(frozen=True)
class Slice:
    """The `count` examples with one value in a `column`: their score, and by how much it differs from that of the `rest`.

    The intervals are for 95 %. `p` is the probability, corrected for all slices, that a slice which is not worse looks so much worse.
    """

    column: str
    name: str
    count: int
    score: float
    interval: Interval | None
    rest: float
    difference: float
    difference_interval: Interval
    p: float

    @property
    def is_shown(self) -> bool:
        """Whether the slice is shown to be worse."""
        return self.p < SHOWN


@dataclass(frozen=True, repr=False)
class Slices(Shown):
    """The slices of a split, the surest to be worse first; the surest 50 are `found` of all that were `compared`.

    `score` is what is compared: the accuracy, or the mean absolute error, which is better if lower. `columns` were looked at, and of
    `left_out` more there was no time. `shown` slices are worse. `detectable` are the smallest true differences that would be shown in 80 %
    of test sets like this one, in the largest and in the smallest slice; `None` where none would.
    """

    split: str
    count: int
    score: str
    higher_is_better: bool
    columns: int
    left_out: int
    compared: int
    shown: int
    found: tuple[Slice, ...]
    detectable: tuple[float | None, float | None]

    def lines(self) -> Iterator[str]:
        """Yield what was found in words."""
        if not self.compared:
            return
        if not self.shown:
            yield self.title
            return
        first, many, split = self.found[0], f"{self.found[0].count:,}", _SPLITS.get(self.split, self.split)
        score, rest = self.words(first.score), self.words(first.rest)
        by = f"(p = {first.p:.2g}, corrected for {counted(self.compared, 'slice')})"
        if self.higher_is_better:
            yield f"Worse where {first.name}: {score} of {many} {split} examples are right, and {rest} of the others {by}"
        else:
            yield f"Worse where {first.name}: {many} {split} examples are off by {score}, and the others by {rest} {by}"
        if more := self.shown - 1:
            yield f"and {counted(more, 'more slice')} {are(more)} shown to be worse: see the report"

    @property
    def title(self) -> str:
        """The result in a sentence."""
        if not self.compared:
            return f"There are no slices of {LEAST} or more examples to compare"
        if self.shown:
            return f"Worse where {self.found[0].name}: {self.words(self.found[0].score)} instead of {self.words(self.found[0].rest)}"
        low, high = (None if one is None else self._size(one) for one in self.detectable)
        if low is None:
            return f"No slice of {self.compared:,} is shown to be worse: there are too few examples to show it"
        if high is None:
            return f"No slice of {self.compared:,} is shown to be worse: {low} in the largest would have been, and nothing in the smallest"
        return f"No slice of {self.compared:,} is shown to be worse: {low} in the largest, and {high} in the smallest, would have been"

    def words(self, score: float) -> str:
        """Return a score in words."""
        return f"{100 * score:.1f} %" if self.higher_is_better else plain(score, 4)

    def _size(self, difference: float) -> str:
        return f"{100 * difference:.1f} points" if self.higher_is_better else plain(difference, 3)

    def _title(self) -> str:
        return self.title

    def _rows(self) -> Rows:
        return [
            (one.name, f"{self.words(one.score)} of {one.count:,}, others {self.words(one.rest)}, p = {one.p:.2g}") for one in self.found
        ]

    def to_json(self) -> dict[str, Any]:
        """Return every number by its name."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Slices:
        """Return what `to_json` gave; a number may be given as text, such as "nan". Raises `ValueError`."""
        return _as_json().validate_python(values)


@cache
def _as_json() -> TypeAdapter[Slices]:
    return TypeAdapter(Slices)


def find_slices(
    answers: Answers, measured: Sequence[Examples], train: Examples, rule: InputRule, attributes: Attributes, split: str
) -> Slices | None:
    """Return how the slices of a split compare: `answers` are those on the examples of `measured`, in that order.

    Columns are those of a table that is learned from, and `attributes`; quantities are cut as the `train` examples have them. `None` where
    there are no columns.
    """
    learned = rule.columns if isinstance(rule, TableRule) else ()
    others = attributes.columns if all(part.attributes is not None for part in measured) else ()
    total, count = len(learned) + len(others), len(answers.targets)
    if not total or not count:
        return None
    learned = learned[: _CELLS // count]
    others = others[: _CELLS // count - len(learned)]
    cuts: list[Iterator[Cut]] = []
    if learned:
        cuts.append(cut(learned, torch.cat([part.inputs[torch.arange(len(part))] for part in measured])[:, : len(learned)]))
    if others:
        known = Attributes(columns=others).learn(attributes_of(train)[:, : len(others)])
        cuts.append(cut(known.columns, torch.cat([attributes_of(part) for part in measured])[:, : len(others)]))
    score = score_for(None, answers.task)
    # Each stands for itself here.
    values = score.measure(replace(answers, groups=None)).values
    ranked = compare_slices(values, (one for some in cuts for one in some), answers.groups, is_share=score.is_share)
    looked = len(learned) + len(others)
    return Slices(split, count, score.words, score.higher_is_better, looked, total - looked, *ranked)


def attributes_of(examples: Examples) -> Tensor:
    """Return what is known of examples besides their inputs: float32 [n, columns]."""
    assert examples.attributes is not None
    return examples.attributes[examples.positions]


class Ranked(NamedTuple):
    """The slices that were `compared`, how many are `shown` to be worse, and the surest `found`; `detectable` as in `Slices`."""

    compared: int
    shown: int
    found: tuple[Slice, ...]
    detectable: tuple[float | None, float | None]


def compare_slices(values: Tensor, cuts: Iterable[Cut], groups: Tensor | None = None, *, is_share: bool) -> Ranked:
    """Return the slices by how sure it is that they are worse, from what each example adds to a score: float64 [n].

    A share (each example adds 0 or 1) is better if higher, and tested by Fisher's exact test of one side ("Statistical methods for research
    workers", 1934). Other means are errors, lower if better, and compared by B. Welch's t-test (Biometrika 34, 1947). Examples of one of
    `groups` int64 [n] count together: then t is of errors that are robust to that.
    """
    test = _Shares(values.bool()) if is_share and groups is None else _Means(values.double(), groups, -1 if is_share else 1)
    sliced = [one for one in _slices_of(cuts, len(values)) if groups is None or _has_groups(groups, one.places)]
    p = holm([test.p(one.places) for one in sliced])
    # Of equally sure ones, the larger first.
    order = sorted(range(len(sliced)), key=lambda number: (p[number], -sliced[number].size))
    found = tuple(test.describe(sliced[number], p[number]) for number in order[:_KEPT])
    ends: tuple[float | None, float | None] = (None, None)
    if sliced:
        largest, smallest = (choose(sliced, key=lambda one: one.size) for choose in (max, min))
        level = SHOWN / len(sliced)
        ends = test.detectable(largest.places, level), test.detectable(smallest.places, level)
    return Ranked(len(sliced), sum(one < SHOWN for one in p), found, ends)


class _Sliced(NamedTuple):
    """The examples of a `cut` at one `place`, of which there are so many: its `size`."""

    cut: Cut
    place: int
    size: int

    @property
    def places(self) -> Tensor:
        """Which examples are in it: bool [n]."""
        return torch.from_numpy(self.cut.codes == self.place)


def _slices_of(cuts: Iterable[Cut], count: int) -> Iterator[_Sliced]:
    """Yield the slices that are large enough, and small enough, of so many examples."""
    for one in cuts:
        sizes = np.bincount(one.codes, minlength=len(one.names))
        for place in np.argsort(-sizes, kind="stable")[:_VALUES].tolist():
            if LEAST <= sizes[place] <= count - LEAST:
                yield _Sliced(one, place, int(sizes[place]))


def _has_groups(groups: Tensor, places: Tensor) -> bool:
    """Whether there are enough groups on both sides: a few people, or speakers, say nothing of others."""
    return min(len(groups[places].unique()), len(groups[~places].unique())) >= _GROUPS


class _Shares:
    """Which answers are `right`, bool [n]."""

    def __init__(self, right: Tensor) -> None:
        self.right = right
        self.count, self.wrong = len(right), int((~right).sum())

    def p(self, places: Tensor) -> float:
        """Return the probability that a slice chosen at random looks as bad."""
        return at_least(int((~self.right[places]).sum()), int(places.sum()), self.wrong, self.count)

    def describe(self, one: _Sliced, p: float) -> Slice:
        """Describe a slice; the interval of the difference is that of R. Newcombe (Stat. Med. 17, 1998, method 10)."""
        right, others = int(self.right[one.places].sum()), self.count - one.size
        right_others = self.count - self.wrong - right
        score, rest = right / one.size, right_others / others
        (low, high), (low_rest, high_rest) = _wilson(score, one.size), _wilson(rest, others)
        change = score - rest
        ends = change - math.hypot(score - low, high_rest - rest), change + math.hypot(high - score, rest - low_rest)
        interval = share_interval(right, one.size)
        return Slice(one.cut.column, one.cut.names[one.place], one.size, score, interval, rest, change, ends, p)

    def detectable(self, places: Tensor, level: float) -> float | None:
        """Return by how much more often than in the rest answers must be wrong to be shown (p < `level`) with a power of 80 %.

        The fewest wrong answers that show it are exact; how many there are is taken to be normally distributed.
        """
        count, rest_wrong = int(places.sum()), int((~self.right[~places]).sum())
        others, too_few, fewest = self.count - count, -1, count + 1
        while fewest - too_few > 1:
            middle = (too_few + fewest) // 2
            p = at_least(middle, count, rest_wrong + middle, self.count)
            too_few, fewest = (too_few, middle) if p < level else (middle, fewest)
        if fewest > count:
            return None
        rest = rest_wrong / others
        limit, low, high = (fewest - 0.5) / count - rest, 0.0, 1 - rest
        for _ in range(_HALVINGS):
            change = (low + high) / 2
            share = rest + change
            error = math.sqrt(share * (1 - share) / count + rest * (1 - rest) / others)
            low, high = (low, change) if change - _POWER * error >= limit else (change, high)
        return high


def at_least(wrong: int, count: int, all_wrong: int, total: int) -> float:
    """Return the probability that `count` examples chosen at random from `total`, of which `all_wrong` are, have `wrong` or more."""
    most, least = min(count, all_wrong), max(0, count + all_wrong - total)
    if wrong <= least:
        return 1.0
    numbers = torch.arange(least, most + 1, dtype=torch.float64)
    logs = _log_choose(all_wrong, numbers) + _log_choose(total - all_wrong, count - numbers)
    weights = (logs - logs.max()).exp()
    return float(weights[wrong - least :].sum() / weights.sum())


def _log_choose(whole: int, part: Tensor) -> Tensor:
    return math.lgamma(whole + 1) - torch.lgamma(part + 1) - torch.lgamma(whole - part + 1)


def _wilson(share: float, count: int) -> Interval:
    """Return the score interval of a share (E. Wilson, JASA 22, 1927)."""
    middle = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    reach = _Z / (1 + _Z**2 / count) * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    return middle - reach, middle + reach


class _Means:
    """What each example adds to a score: float64 [n]; a slice is worse if its mean times `sign` is higher."""

    def __init__(self, values: Tensor, groups: Tensor | None, sign: int) -> None:
        self.values, self.groups, self.sign = values, groups, sign

    def p(self, places: Tensor) -> float:
        """Return the probability that a slice which is not worse looks as bad."""
        score, rest, error, freedom = self._against(places)
        change = score - rest
        tails = (1.0 if change == 0 else 0.0) if error == 0 else student_tails(freedom, change / error)
        return tails / 2 if self.sign * change > 0 else 1 - tails / 2

    def describe(self, one: _Sliced, p: float) -> Slice:
        """Describe a slice."""
        places = one.places
        score, rest, error, freedom = self._against(places)
        reach, change = student_quantile(freedom) * error, score - rest
        interval = mean_interval(self.values[places], None if self.groups is None else self.groups[places])
        ends = change - reach, change + reach
        return Slice(one.cut.column, one.cut.names[one.place], one.size, score, interval, rest, change, ends, p)

    def detectable(self, places: Tensor, level: float) -> float | None:
        """Return the difference that is shown (p < `level`) with a power of 80 %."""
        *_, error, freedom = self._against(places)
        return (student_quantile(freedom, 1 - level) + _POWER) * error

    def _against(self, places: Tensor) -> tuple[float, float, float, float]:
        """Return the means of a slice and of the rest, the standard error of their difference, and its degrees of freedom."""
        inside, outside = self.values[places], self.values[~places]
        score, rest, count, others = float(inside.mean()), float(outside.mean()), len(inside), len(outside)
        if self.groups is None:
            within, without = float(inside.var()) / count, float(outside.var()) / others
            whole = within**2 / (count - 1) + without**2 / (others - 1)
            return score, rest, math.sqrt(within + without), (within + without) ** 2 / whole if whole > 0 else float(count + others - 2)
        total = count + others
        # By how much each example pulls the difference, times the number of examples.
        pulls = torch.where(places, (self.values - score) * (total / count), (rest - self.values) * (total / others))
        fewer = min(len(self.groups[part].unique()) for part in (places, ~places))
        return score, rest, standard_error(pulls, self.groups), float(fewer - 1)
