"""Several models on the same examples: what each scores, which differences are shown, and in what words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from epochal.evaluation.comparison import SHOWN, Difference
from epochal.evaluation.uncertainty import Interval
from epochal.shown import Rows, Shown, are, counted


@dataclass(frozen=True)
class RunScore:
    """The score of one run, with its 95 % `interval`; `model` and `seed` are those of its recipe."""

    name: str
    model: str
    seed: int
    score: float
    interval: Interval | None


@dataclass(frozen=True)
class Setting:
    """Runs that differ in their seeds alone: their mean score, and its 95 % interval for other examples and seeds.

    `spread` is the standard deviation of the scores from seed to seed. Of a single run it is `None`, and the interval is for other examples
    alone. `differs` has the settings in which it is unlike others that are compared, in words.
    """

    name: str
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    score: float
    interval: Interval | None
    spread: float | None
    differs: Mapping[str, str]


@dataclass(frozen=True)
class Pair:
    """The difference of a `second` run, or setting, from the `first`; `p` is corrected for how many are compared.

    `first_only` and `second_only` name some of the examples that all models of one have right, and none of the other. `same` says that
    both gave the same outputs for every example.
    """

    first: str
    second: str
    difference: Difference
    p: float
    same: bool
    first_only: tuple[str, ...] = ()
    second_only: tuple[str, ...] = ()

    @property
    def is_shown(self) -> bool:
        """Whether one is shown to be better."""
        return self.p < SHOWN and not self.same


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """Several runs on the same `count` test examples of `data`; the first of them, or its setting, is what all others are compared with.

    `score` is the name of the score, and `left_out` the number of examples that are not measured, because a run was trained on them.
    Where `over_seeds`, settings are compared, and chance is in examples and in seeds; otherwise single models. `folds` is how many there
    are if examples were answered out of fold, so that ways of training are compared, or else 0. `groups` is how many independent groups
    the examples are in; `None` if each stands for itself. `method` says how p and intervals of differences are computed. `remarks` say how
    examples were matched, if not by content.
    """

    data: str
    count: int
    left_out: int
    score: str
    higher_is_better: bool
    in_percent: bool
    over_seeds: bool
    folds: int
    groups: int | None
    runs: tuple[RunScore, ...]
    settings: tuple[Setting, ...]
    pairs: tuple[Pair, ...]
    method: str
    remarks: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What is compared, in one line."""
        if self.folds:
            return f"{self.score} of {len(self.runs)} runs on the same {self.count:,} examples of {self.data}, out of {self.folds} folds"
        return f"{self.score} of {len(self.runs)} runs on the same {counted(self.count, 'test example')} of {self.data}"

    def verdict(self, pair: Pair) -> str:
        """Return what a pair shows, in one sentence."""
        found, first, second = pair.difference, pair.first, pair.second
        if pair.same:
            return f"{first} and {second} give the same outputs for every example."
        if not pair.is_shown:
            if not self._is_possible(found.detectable):
                return f"No difference shown between {first} and {second}: these examples could not show any."
            least = self.amount(found.detectable, found)
            if self.in_percent:
                return (
                    f"No difference shown between {first} and {second}; one of {least} points or more would have been, four times of five."
                )
            return f"No difference shown between {first} and {second}; one of {least} or more would have been, four times of five."
        better, other = (second, first) if (found.value > 0) == self.higher_is_better else (first, second)
        ends = found.interval if found.value > 0 else (-found.interval[1], -found.interval[0])
        size, low, high = (self.amount(value, found) for value in (abs(found.value), *ends))
        if self.in_percent:
            return f"{better} is better than {other} by {size} points (95 % interval {low} to {high})."
        return f"{better} is better than {other} by {size} (95 % interval {low} to {high})."

    def amount(self, value: float, like: Difference) -> str:
        """Return a difference in words, without its unit, with the digits that the uncertainty of `like` leaves."""
        return self._number(value, like.interval)

    def signed(self, value: float, like: Difference) -> str:
        """Return a difference in words, with its sign, and without its unit."""
        words = self.amount(value, like)
        return words if words.startswith("-") or not float(words) else f"+{words}"

    def words(self, one: RunScore | Setting) -> str:
        """Return a score in words, with the digits that its interval leaves."""
        return self._number(one.score, one.interval) + " %" * self.in_percent

    def between(self, one: RunScore | Setting) -> str:
        """Return the interval of a score in words, without its unit."""
        if one.interval is None:
            return "–"
        low, high = (self._number(end, one.interval) for end in one.interval)
        return f"{low} to {high}"

    def _number(self, value: float, interval: Interval | None) -> str:
        scale = 100 if self.in_percent else 1
        width = 0.0 if interval is None else scale * (interval[1] - interval[0])
        # An interval of 0.73 leaves two decimals, one of 30 none.
        digits = max(0, 1 - math.floor(math.log10(width))) if 0 < width < math.inf else 2
        return f"{scale * value:.{max(digits, 1) if self.in_percent else digits}f}"

    def chance(self, p: float) -> str:
        """Return a p-value in words."""
        return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be known to read the result right."""
        found = [*self.remarks]
        if self.left_out:
            found.append(f"{counted(self.left_out, 'test example')} {are(self.left_out)} left out: a run was trained on the same")
        if self.groups is not None:
            found.append(f"examples of one group count together: {counted(self.groups, 'group')}")
        if len(self.pairs) > 1:
            found.append(f"each is compared with the first; p is corrected for {len(self.pairs)} comparisons (Holm), intervals are not")
        if self.folds:
            found.append(
                "each example was answered by models that were trained without it: this compares ways of training, not the models that are "
                "kept"
            )
        elif self.over_seeds:
            found.append("chance is in the test examples and in the seeds: other examples, or seeds, could have given other scores")
        elif len(self.settings) > 1:
            found.append(
                "this compares these models: how much another seed would change is not known; train each with --repeats 3, "
                "on one --split-seed"
            )
        return tuple(found)

    @property
    def run_table(self) -> Rows:
        """The score of each run in words, below a row of headings."""
        heading = "run", self.score, "95 % interval", "model", "seed"
        return [heading, *((run.name, self.words(run), self.between(run), run.model, str(run.seed)) for run in self.runs)]

    @property
    def setting_table(self) -> Rows:
        """The mean score of each setting in words, and its spread from seed to seed, below a row of headings; nothing without seeds."""
        if len(self.settings) == len(self.runs):
            return []
        rows = [
            (setting.name, self.words(setting), self.between(setting), self._spread(setting), ", ".join(map(str, setting.seeds)))
            for setting in self.settings
        ]
        return [("setting", f"mean {self.score}", "95 % interval", "spread", "seeds"), *rows]

    @property
    def pair_title(self) -> str:
        """What `pair_table` shows."""
        first = self.pairs[0].first
        return f"difference from {first}, in points" if self.in_percent else f"difference from {first}"

    def _is_possible(self, detectable: float) -> bool:
        """Whether there can be a difference that is large enough to be shown: of shares, none above 100 points."""
        return 0 < detectable < (1 if self.in_percent else math.inf)

    @property
    def pair_table(self) -> Rows:
        """The difference of each pair in words, below a row of headings."""
        counts = ("right alone",) if self.counts else ()
        rows = [
            (
                pair.second,
                self.signed(found.value, found),
                f"{self.signed(found.interval[0], found)} to {self.signed(found.interval[1], found)}",
                self.chance(pair.p),
                self.amount(found.detectable, found) if self._is_possible(found.detectable) else "–",
                *((f"{found.second_only:,} / {found.first_only:,}",) if self.counts else ()),
            )
            for pair in self.pairs
            for found in (pair.difference,)
        ]
        return [("setting" if self.over_seeds else "run", "difference", "95 % interval", "p", "detectable", *counts), *rows]

    @property
    def counts(self) -> bool:
        """Whether examples are right or wrong."""
        return self.pairs[0].difference.first_only is not None

    def _spread(self, setting: Setting) -> str:
        if setting.spread is None:
            return "–"
        return f"{self._number(setting.spread, setting.interval)}{' points' if self.in_percent else ''}"

    def _title(self) -> str:
        return self.title

    def _rows(self) -> Rows:
        return [
            *((run.name, f"{self.words(run)} ({self.between(run)})") for run in self.runs),
            *(("", self.verdict(pair)) for pair in self.pairs),
            *(("note", note) for note in self.notes),
        ]

    def to_json(self) -> dict[str, Any]:
        """Return every number by its name, and what each pair shows in words."""
        values = asdict(self)
        for described, pair in zip(values["pairs"], self.pairs, strict=True):
            described |= {"shown": pair.is_shown, "verdict": self.verdict(pair)}
            described["difference"]["value"] = pair.difference.value
        return values | {"notes": list(self.notes)}


def differing(settings: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the names of what is not the same in all settings."""
    names = dict.fromkeys(name for setting in settings for name in setting)
    return tuple(name for name in names if any(setting.get(name) != settings[0].get(name) for setting in settings))
