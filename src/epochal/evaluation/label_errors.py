"""Labels of training examples that are likely wrong: those that the network found improbable all along training.

Examples are ranked by the mean probability of their given label over the epochs (see `training/label_history.py`). On MNIST with 5 % of
the labels changed, 97 to 98 % of as many from the top were changed ones. How many are wrong is told by the mean distance of
that probability to the best other's: below -0.5, the network was sure of another class. Where classes overlap, or all labels are learned
by heart, that says little, and so does the list. How little is measured by changing labels on purpose: see `check_labels`. How many are
wrong cannot be told from that: a label that is wrong at random, and one that is right but unlikely, look the same.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

import torch
from pydantic import TypeAdapter
from torch import Tensor

from epochal.evaluation.uncertainty import Interval
from epochal.shown import Rows, Shown
from epochal.tasks.intervals import share_interval

# The network was sure of another class.
_SURE = -0.5

# The list has this share of the examples, and so many where there are, or as many as are likely wrong.
LISTED, LEAST = 0.01, 20

# So many of the listed are in result.json, and the most frequent pairs of classes; so many are shown.
_KEPT, _PAIRS, _SHOWN = 100, 10, 5

# This share of the labels is changed on purpose, so that few are beside the others, and again until there were so many, or so often.
_CHANGED, _WANTED, _MOST_DRAWS = 0.02, 400, 4

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
    """The share of the first `count` of the list that is wrong, if so many labels are: `precision`, with its 95 % interval.

    However many labels are wrong, it is the share of them that is among the first `count`.
    """

    count: int
    precision: float
    interval: Interval


@dataclass(frozen=True)
class LabelCheck:
    """What came of `changed` labels that were changed on purpose, at random, before training once more, or several times.

    `found` of them looked wrong then, the share `recall`. `expected` says how much of the list is wrong if 1, 2, 5 or 10 % of all labels
    are. How many are remains open: a label that is wrong at random, and one that is right but unlikely, look the same.
    """

    changed: int
    found: int
    recall: float
    interval: Interval
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
            "how many are wrong is seen by looking at the first of the list",
        ]


@dataclass(frozen=True, repr=False)
class LabelErrors(Shown):
    """The labels of `count` training examples: how many are `likely` wrong, and the first ones to look at, ranked.

    `likely` is how many look wrong, since the network was sure of another class. The `check` says how much of the list can be believed; it
    is `None` unless that was measured, which takes another training. `by` says what the list comes from: what the network said along
    "training", or "folds" (see `confident.py`).
    """

    count: int
    likely: int
    listed: tuple[Suspect, ...]
    check: LabelCheck | None = None
    by: Literal["training", "folds"] = "training"

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
            "by": self.by,
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
        return f"{self.likely:,} of {self.count:,} training labels look wrong"

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
    order = means[:, 0].nan_to_num(nan=torch.inf).argsort(stable=True)
    places = order[: min(count, max(likely, math.ceil((LISTED if check is None else max(_SHARES)) * count), LEAST))]
    others = outputs_of(places).scatter(1, given[places, None], -torch.inf)
    suggested, scores = others.argmax(1).tolist(), means[places, 0].tolist()
    listed = tuple(
        Suspect(rank, place, example(place), names[int(given[place])], names[suggested[rank - 1]], scores[rank - 1], rank <= likely)
        for rank, place in enumerate(places.tolist(), 1)
    )
    return LabelErrors(count, likely, listed, check)


def draws(count: int) -> int:
    """Return how often labels are changed on purpose to check those of so many examples."""
    return min(_MOST_DRAWS, math.ceil(_WANTED / max(1, round(_CHANGED * count))))


def changed_labels(given: Tensor, classes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return labels of which some were changed to any other class, and which (bool [n]): 2 % of them."""
    changed = max(1, round(_CHANGED * len(given)))
    places = torch.randperm(len(given), generator=generator)[:changed]
    labels, mask = given.clone(), torch.zeros(len(given), dtype=torch.bool)
    labels[places] = (given[places] + torch.randint(1, classes, (changed,), generator=generator)) % classes
    mask[places] = True
    return labels, mask


def check_labels(drawn: Sequence[tuple[Tensor, Tensor]], classes: int) -> LabelCheck:
    """Return what came of labels that were changed: the means [n, 2] of all (see `label_errors`) and which were (bool [n]), by draw.

    Where k labels are wrong, and those were changed in the same way, as many of the wrong ones are among the first k of the list as of the
    changed ones are above the k-th of the others: that share is recall and precision. Some that were wrong became right by the change.
    """
    parts = []
    for means, changed in drawn:
        known = means[:, 0].isfinite()
        parts.append((means[known & changed], means[known & ~changed, 0].sort().values))
    count, found = sum(len(planted) for planted, _ in parts), sum(int((planted[:, 1] < _SURE).sum()) for planted, _ in parts)
    others = min(len(rest) for _, rest in parts)
    expected = []
    for wrong in sorted({max(1, round(share * others)) for share in _SHARES}):
        above = sum(int((planted[:, 0] <= rest[wrong - 1]).sum()) for planted, rest in parts)
        became_right = wrong / others / (classes - 1)
        low, high = (_of_wrong(share, became_right, wrong / others) for share in share_interval(above, count))
        expected.append(Expected(wrong, _of_wrong(above / count, became_right, wrong / others), (low, high)))
    return LabelCheck(count, found, found / count, share_interval(found, count), tuple(expected))


def _of_wrong(share: float, became_right: float, wrong: float) -> float:
    """Return the share of those above a threshold among changed labels without those that `became_right`.

    Of `wrong` labels, as a share of all, as many are above it: so of the right ones wrong / (1 - wrong) times what of the wrong is not.
    """
    right = became_right * wrong / (1 - wrong)
    return min(1.0, max(0.0, (share - right) / (1 - became_right - right)))


@cache
def _as_json() -> TypeAdapter[LabelErrors]:
    return TypeAdapter(LabelErrors)
