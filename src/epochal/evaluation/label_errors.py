"""Labels of training examples that are likely wrong: those that the network found improbable all along training.

Examples are ranked by the mean probability of their given label over the epochs (see `training/label_history.py`). On MNIST with 5 % of
the labels changed, 97 to 98 % of as many from the top were changed ones. How many are wrong is told by the mean distance of
that probability to the best other's: below -0.5, the network was sure of another class. Where classes overlap, or all labels are learned
by heart, that says little, and so does the list. How little is measured by changing labels on purpose: see `label_check.py`. How many are
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

from epochal.evaluation.label_check import SHARES, SURE, LabelCheck
from epochal.shown import Rows, Shown

# The list has this share of the examples, and so many where there are, or as many as are likely wrong.
LISTED, LEAST = 0.01, 20

# So many of the listed are in result.json, and the most frequent pairs of classes; so many are shown.
_KEPT, _PAIRS, _SHOWN = 100, 10, 5


@dataclass(frozen=True)
class Suspect:
    """A label that may be wrong: its `rank`, its `place` in train, the example's name, and the mean probability of the given class.

    `suggested` is the most probable other class, as the trained model sees it. `likely` says whether it is one of those that are likely
    wrong. Of several labels, or quantities, `target` names the one that is meant, which is given as 0, 1 or a number; the score of a
    quantity is how far it is from the prediction, in units of what is usual (see `wrong_values.py`).
    """

    rank: int
    place: int
    example: str
    given: str
    suggested: str
    score: float
    likely: bool
    target: str = ""

    @property
    def said(self) -> tuple[str, str]:
        """What is given and suggested, with the name of the label or quantity that is meant, if there are several."""
        before = f"{self.target}: " if self.target else ""
        return before + self.given, before + self.suggested


@dataclass(frozen=True, repr=False)
class LabelErrors(Shown):
    """The labels of `count` training examples: how many are `likely` wrong, and the first ones to look at, ranked.

    Of examples with several "labels" or "quantities", each is counted by itself; `kind` says which it is.
    `likely` is how many look wrong, since the network was sure of another class. The `check` says how much of the list can be believed; it
    is `None` unless that was measured, which takes another training. `by` says what the list comes from: what the network said along
    "training", or "folds" (see `confident.py`).
    """

    count: int
    likely: int
    listed: tuple[Suspect, ...]
    check: LabelCheck | None = None
    by: Literal["training", "folds"] = "training"
    kind: Literal["classes", "labels", "quantities"] = "classes"

    def pairs(self) -> list[tuple[str, str, int]]:
        """Return the most frequent given and suggested classes of labels that are likely wrong, and how often; none of quantities."""
        found = Counter(one.said for one in self.listed if one.likely and self.kind != "quantities")
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
            "kind": self.kind,
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> LabelErrors:
        """Return what `to_json` gave, with the first of the list alone. Raises `ValueError`."""
        return _as_json().validate_python({**values, "listed": values["first"]})

    def to_csv(self) -> str:
        """Return the list as CSV; `label` and `remove` are for corrections (see `data/corrections.py`)."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        named = ("target",) * (self.kind != "classes")
        writer.writerow(("rank", "example", *named, "label", "remove", "given", "suggested", "score", "likely"))
        for one in self.listed:
            first = one.rank, one.example, *((one.target,) if named else ())
            writer.writerow((*first, one.given, "", one.given, one.suggested, f"{one.score:.4f}", "yes" if one.likely else "no"))
        return text.getvalue()

    def __str__(self) -> str:
        """Say in one line how many labels are likely wrong."""
        if self.kind == "quantities":
            if not self.likely:
                return f"None of {self.count:,} training values stands out as wrong"
            return f"{self.likely:,} of {self.count:,} training values look{'s' * (self.likely == 1)} wrong"
        if not self.likely:
            return f"None of {self.count:,} training labels stands out as wrong"
        return f"{self.likely:,} of {self.count:,} training labels look{'s' * (self.likely == 1)} wrong"

    def _title(self) -> str:
        return str(self)

    def _table(self) -> tuple[Sequence[str], Rows]:
        rows = [(one.example, *one.said, f"{one.score:.3f}") for one in self.listed[:_SHOWN]]
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
    likely = int((means[:, 1] < SURE).sum())
    order = means[:, 0].nan_to_num(nan=torch.inf).argsort(stable=True)
    places = order[: min(count, list_length(count, likely, check))]
    others = outputs_of(places).scatter(1, given[places, None], -torch.inf)
    suggested, scores = others.argmax(1).tolist(), means[places, 0].tolist()
    listed = tuple(
        Suspect(rank, place, example(place), names[int(given[place])], names[suggested[rank - 1]], scores[rank - 1], rank <= likely)
        for rank, place in enumerate(places.tolist(), 1)
    )
    return LabelErrors(count, likely, listed, check)


def list_length(count: int, likely: int, check: LabelCheck | None) -> int:
    """Return how many are listed of the labels of so many examples, of which so many are `likely` wrong."""
    return max(likely, math.ceil((LISTED if check is None else max(SHARES)) * count), LEAST)


@cache
def _as_json() -> TypeAdapter[LabelErrors]:
    return TypeAdapter(LabelErrors)
