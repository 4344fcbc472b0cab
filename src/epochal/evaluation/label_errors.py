"""Labels of training examples that are likely wrong: those that the network found improbable all along training.

Examples are ranked by the mean probability of their given label over the epochs (see `training/label_history.py`). On MNIST with 5 % of
the labels changed, 97 to 98 % of as many from the top were changed ones. How many are wrong is told by the mean distance of
that probability to the best other's: below -0.5, the network was sure of another class. Where classes overlap, or all labels are learned
by heart, that says little, and so does the list. How little is measured by changing labels on purpose: see `check_labels`.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

from epochal.evaluation.uncertainty import Interval
from epochal.shown import Rows, Shown
from epochal.tasks.intervals import share_interval

# The network was sure of another class.
_SURE = -0.5

# The list has this share of the examples, and so many where there are, or as many as are likely wrong.
_LISTED, _LEAST = 0.01, 20

# So many of the listed are in result.json, and the most frequent pairs of classes; so many are shown.
_KEPT, _PAIRS, _SHOWN = 100, 10, 5

# The share of labels that are changed on purpose: so many that a share of them is known within some points, but few beside the others.
_CHANGED, _CHANGED_MOST, _WANTED = 0.01, 0.05, 400

# What is as improbable as these shares of the changed labels may hardly ever be right.
_TAILS = (0.2, 0.35, 0.5)

# The shares of wrong labels for which it is said how much of the list is wrong.
_SHARES = (0.01, 0.02, 0.05, 0.1)


@dataclass(frozen=True)
class Suspect:
    """A label that may be wrong: its `rank`, its `place` in train, the example's name, and the mean probability of the given class.

    `suggested` is the most probable other class, as the trained model sees it. `likely` says whether it is one of those that are likely
    wrong.
    """

    rank: int
    place: int
    example: str
    given: str
    suggested: str
    score: float
    likely: bool


@dataclass(frozen=True)
class Expected:
    """The share of the first `count` of the list that is wrong, if so many labels are: `precision`, with its 95 % interval."""

    count: int
    precision: float
    interval: Interval


@dataclass(frozen=True)
class LabelCheck:
    """What came of `changed` labels that were changed on purpose, at random, before training once more.

    `found` of them looked wrong then, the share `recall`. Not more than about `most` of the labels that were not changed are as
    improbable as these: of labels that are wrong at random there are hardly more. `expected` says how much of the list is wrong if 1, 2, 5
    or 10 % of all labels are, as far as that is not more, and if so many are.
    """

    changed: int
    found: int
    recall: float
    interval: Interval
    most: int
    expected: tuple[Expected, ...]

    def lines(self) -> list[str]:
        """Say what the list is worth."""
        low, high = self.interval
        return [
            f"Of {self.changed:,} labels changed on purpose, {100 * self.recall:.0f} % look wrong then (95 % interval {100 * low:.0f} to "
            f"{100 * high:.0f})",
            *(
                f"if {one.count:,} labels are wrong, about {100 * one.precision:.0f} % of the first {one.count:,} are"
                for one in self.expected
            ),
        ]


@dataclass(frozen=True, repr=False)
class LabelErrors(Shown):
    """The labels of `count` training examples: how many are `likely` wrong, and the first ones to look at, ranked.

    `likely` is how many look wrong, since the network was sure of another class; with a `check`, not more than that allows. The check says
    how much of the list can be believed; it is `None` unless that was measured, which takes another training.
    """

    count: int
    likely: int
    listed: tuple[Suspect, ...]
    check: LabelCheck | None = None

    def pairs(self) -> list[tuple[str, str, int]]:
        """Return the most frequent given and suggested classes of labels that are likely wrong, and how often."""
        found = Counter((one.given, one.suggested) for one in self.listed if one.likely)
        return [(given, suggested, times) for (given, suggested), times in found.most_common(_PAIRS)]

    def to_json(self) -> dict[str, Any]:
        """Return every number by its name: the first of the list alone, the whole of which is in labels.csv."""
        return {
            "count": self.count,
            "likely": self.likely,
            "listed": len(self.listed),
            "pairs": [{"given": given, "suggested": suggested, "count": times} for given, suggested, times in self.pairs()],
            "first": [asdict(one) for one in self.listed[:_KEPT]],
            "check": None if self.check is None else asdict(self.check),
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> LabelErrors:
        """Return what `to_json` gave, with the first of the list alone. Raises `ValueError`."""
        return _as_json().validate_python({**values, "listed": values["first"]})

    def to_csv(self) -> str:
        """Return the list as CSV; `label` and `remove` are for corrections (see `data/corrections.py`)."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("rank", "example", "label", "remove", "given", "suggested", "score", "likely"))
        for one in self.listed:
            row = one.rank, one.example, one.given, "", one.given, one.suggested, f"{one.score:.4f}", "yes" if one.likely else "no"
            writer.writerow(row)
        return text.getvalue()

    def __str__(self) -> str:
        """Say in one line how many labels are likely wrong."""
        if not self.likely:
            return f"None of {self.count:,} training labels stands out as wrong"
        return f"{self.likely:,} of {self.count:,} training labels {self.how}"

    @property
    def how(self) -> str:
        """How sure it is that those are wrong, in words: where classes overlap, many labels look wrong that are right."""
        return "look wrong" if self.check is None else "are likely wrong"

    def _title(self) -> str:
        return str(self)

    def _table(self) -> tuple[Sequence[str], Rows]:
        rows = [(one.example, one.given, one.suggested, f"{one.score:.3f}") for one in self.listed[:_SHOWN]]
        return ("example", "given", "suggested", "score"), rows


def label_errors(
    means: Tensor,
    given: Tensor,
    names: Sequence[str],
    example: Callable[[int], str],
    outputs_of: Callable[[Tensor], Tensor],
    check: LabelCheck | None = None,
) -> LabelErrors | None:
    """Return the labels `given` (int64 [n]) that are likely wrong, by `means` [n, 2]: the mean probability of each, and its distance to
    that of the best other; NaN for examples that were not trained on.

    `names` are those of the classes, and `example` names one by its place; `outputs_of` gives the trained model's outputs [m, classes]
    for examples at m places. With a `check`, the list is as long as what that speaks of. Returns `None` if nothing was trained on.
    """
    count = int(means[:, 0].isfinite().sum())
    if not count:
        return None
    likely = int((means[:, 1] < _SURE).sum())
    if check is not None:
        likely = min(likely, check.most)
    order = means[:, 0].nan_to_num(nan=torch.inf).argsort(stable=True)
    places = order[: min(count, max(likely, math.ceil(_LISTED * count), _LEAST, 0 if check is None else check.most))]
    others = outputs_of(places).scatter(1, given[places, None], -torch.inf)
    suggested, scores = others.argmax(1).tolist(), means[places, 0].tolist()
    listed = tuple(
        Suspect(rank, place, example(place), names[int(given[place])], names[suggested[rank - 1]], scores[rank - 1], rank <= likely)
        for rank, place in enumerate(places.tolist(), 1)
    )
    return LabelErrors(count, likely, listed, check)


def changed_labels(given: Tensor, classes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return labels of which some were changed to any other class, and which (bool [n]): 1 % of them, or of few examples up to 5 %."""
    count = len(given)
    changed = min(count, max(1, round(count * min(_CHANGED_MOST, max(_CHANGED, _WANTED / count)))))
    places = torch.randperm(count, generator=generator)[:changed]
    labels, mask = given.clone(), torch.zeros(count, dtype=torch.bool)
    labels[places] = (given[places] + torch.randint(1, classes, (changed,), generator=generator)) % classes
    mask[places] = True
    return labels, mask


def check_labels(means: Tensor, changed: Tensor) -> LabelCheck:
    """Return what came of labels that were `changed` (bool [n]), by the `means` [n, 2] of all (see `label_errors`).

    Where k labels are wrong, and those were changed in the same way, as many of the wrong ones are among the first k of the list as of the
    changed ones are above the k-th of the others: that share is recall and precision. If a share s of the others is wrong, s times the
    share of the changed ones below a probability are wrong labels below it: so s is at most the ratio of both shares.
    """
    known = means[:, 0].isfinite()
    planted, others = means[known & changed, 0].sort().values, means[known & ~changed, 0].sort().values
    found = int((means[known & changed, 1] < _SURE).sum())
    count = len(planted)
    ratios = [
        float((others <= planted[place - 1]).float().mean()) / (place / count) for place in (math.ceil(share * count) for share in _TAILS)
    ]
    most = min(len(others), round(min(ratios, default=0.0) * len(others)))
    counts = [wrong for share in _SHARES if (wrong := round(share * len(others))) and wrong < most]
    return LabelCheck(
        count,
        found,
        found / count,
        share_interval(found, count),
        most,
        tuple(_expected(planted, others, wrong) for wrong in (*counts, most) if wrong),
    )


def _expected(planted: Tensor, others: Tensor, wrong: int) -> Expected:
    above = int((planted <= others[wrong - 1]).sum())
    return Expected(wrong, above / len(planted), share_interval(above, len(planted)))


@cache
def _as_json() -> TypeAdapter[LabelErrors]:
    return TypeAdapter(LabelErrors)
