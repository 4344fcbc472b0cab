"""Scores of predictions, computed from plain tensors; the definitions are scikit-learn's."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

# Scores that always exist, by their name as `monitor`.
ALWAYS = ("loss", "accuracy")

# Larger numbers are written with an exponent.
_LONG = 1e15


@dataclass(frozen=True)
class ClassScore:
    """The scores of one class or label: precision, recall and F1 (0 to 1), how many examples have it, and how many are predicted to.

    For one that neither occurs nor is predicted they are undefined: then they are 0, and no mean includes them.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    predicted: int

    @property
    def is_measured(self) -> bool:
        """Whether any example or prediction has it."""
        return self.support > 0 or self.predicted > 0

    def row(self) -> tuple[str, str, str, str, str]:
        """Return name, precision, recall, F1 and support in words, for a table."""
        shares = (f"{share:.3f}" if self.is_measured else "–" for share in (self.precision, self.recall, self.f1))
        return self.name, *shares, f"{self.support:,}"  # type: ignore[return-value]


@dataclass(frozen=True)
class Baseline:
    """The most common class (or set of labels), and the accuracy (0 to 1) of always answering it."""

    answer: str
    accuracy: float


@dataclass(frozen=True)
class Scores:
    """How good a model is on one split, in plain numbers.

    `loss` is the mean per example. `accuracy` (0 to 1, with its 95 % `interval`) is the share of examples that are right; with
    several labels, of those with all labels right. `top_k` maps k to top-k accuracy. `per_class`, `macro` and `weighted` hold
    precision, recall and F1, and the two means leave out classes that neither occur nor are predicted. Regression has `mse`, `mae`
    and `r2`, means over the outputs, computed in float64 against the original targets. What does not apply is `None` or
    empty. `metrics` are further numbers by name (`evaluation/named.py`).
    """

    count: int
    loss: float
    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    top_k: Mapping[int, float] = field(default_factory=dict)
    per_class: tuple[ClassScore, ...] = ()
    macro: ClassScore | None = None
    weighted: ClassScore | None = None
    mse: float | None = None
    mae: float | None = None
    r2: float | None = None
    baseline: Baseline | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    def number(self, name: str) -> float:
        """Return a score by its name: loss, accuracy, or one of the metrics (a usual one in any spelling)."""
        if name in ALWAYS:
            found = self.loss if name == "loss" else self.accuracy
            return math.nan if found is None else found
        return self.metrics[name] if name in self.metrics else self.metrics[plain_name(name)]

    def counted(self, remarks: str = "") -> str:
        """Return the number of examples in words, with `remarks` on them, and the metrics."""
        return f"n = {self.count:,}{remarks}" + "".join(f"; {name} {value:.4g}" for name, value in self.metrics.items())

    def to_json(self) -> dict[str, Any]:
        """Return every number by its name; what does not apply is left out."""
        values: dict[str, Any] = _as_json().dump_python(self, mode="json")
        return {name: value for name, value in values.items() if value not in (None, [], {})}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Scores:
        """Return the scores from the value of `to_json`; a number may be given as text, such as "nan". Raises `ValueError`."""
        return _as_json().validate_python(values)


@cache
def _as_json() -> TypeAdapter[Scores]:
    return TypeAdapter(Scores)


def class_scores(names: tuple[str, ...], hits: Tensor, predicted: Tensor, actual: Tensor) -> tuple[ClassScore, ...]:
    """Return the scores of each class from counts [classes]: true positives, predictions of it, examples of it.

    An undefined share (of a class that is never predicted, or never occurs) is 0.
    """
    precision = _share(hits, predicted)
    recall = _share(hits, actual)
    f1 = _share(2 * hits, predicted + actual)
    columns = zip(names, precision.tolist(), recall.tolist(), f1.tolist(), actual.long().tolist(), predicted.long().tolist(), strict=True)
    return tuple(ClassScore(*values) for values in columns)


def macro(scores: tuple[ClassScore, ...]) -> ClassScore | None:
    """Return the plain mean over the classes that occur or are predicted; `None` if there are none."""
    return _mean("macro", scores, [int(score.is_measured) for score in scores])


def weighted(scores: tuple[ClassScore, ...]) -> ClassScore | None:
    """Return the mean over the classes, weighted by their support; `None` if there are no examples."""
    return _mean("weighted", scores, [score.support for score in scores])


def _mean(name: str, scores: tuple[ClassScore, ...], weights: list[int]) -> ClassScore | None:
    total = sum(weights)
    if not total:
        return None
    precision = sum(score.precision * weight for score, weight in zip(scores, weights, strict=True)) / total
    recall = sum(score.recall * weight for score, weight in zip(scores, weights, strict=True)) / total
    f1 = sum(score.f1 * weight for score, weight in zip(scores, weights, strict=True)) / total
    support, predicted = sum(score.support for score in scores), sum(score.predicted for score in scores)
    return ClassScore(name, precision, recall, f1, support, predicted)


def plain_name(name: str) -> str:
    """Return the canonical form of a name: "balanced_accuracy" is "balanced accuracy"."""
    return re.sub(r"[\s_-]+", " ", name).strip().lower()


def r2_words(value: float) -> str:
    """Format R² in at most eight characters; it has no lower bound."""
    return f"{value:.4f}" if value > -100 else f"{value:.1e}"


def plain(value: float, digits: int) -> str:
    """Format a number with this many significant digits, or more if its integer part needs them."""
    whole = len(str(round(abs(value)))) if abs(value) < _LONG else 0
    return f"{value:.{max(digits, whole)}g}"


def percent(share: float) -> str:
    """Format a probability; one that is not 1 never reads as 100 %."""
    return f"{100 * share:.1f} %" if share < 0.9995 else "> 99.9 %"


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / whole.clamp(min=1), 0.0)
