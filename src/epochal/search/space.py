"""What a search tries: for each setting a range of numbers, or a choice of values."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import NoneType
from typing import Any, TypeAlias, get_args

from epochal.errors import RecipeError
from epochal.recipe import RUNTIME_SETTINGS, Recipe, full_name, type_of

_RANGE = re.compile(r"(log|range)\(([^,()]+),([^,()]+)\)")

# Of data, only how they are read may differ between trials: not which examples there are, nor what is asked of them.
_OF_DATA = (
    "data.tokens", "data.size", "data.fit", "data.rate", "data.seconds", "data.windows", "data.sampling", "data.mean", "data.std",
)  # fmt: skip

# What decides on speed, on which examples are judged, by what, or by chance alone.
_APART = (
    *RUNTIME_SETTINGS, "device", "threads", "compile", "eval_batch_size", "max_seconds", "seed", "folds", "repeats", "metrics", "monitor",
    "thresholds",
)  # fmt: skip

# These change what the validation loss is.
_OF_LOSS = ("loss.name", "loss.delta")

_EXAMPLE = 'Write for example --set "lr=log(1e-4,1e-1)" --set "augment.erase=range(0,0.5)" --set model=conv,mlp'


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, by their logarithm if `log`; only integers if `whole`."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __str__(self) -> str:
        return f"{'log' if self.log else 'range'}({self.low:g}, {self.high:g})"

    def holds(self, value: Any) -> bool:
        """Whether a value is one of these numbers."""
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high

    def rounded(self, value: float) -> float:
        """Return a number with the three digits that people can compare, still in the range."""
        return int(value) if self.whole else min(max(float(f"{value:.3g}"), self.low), self.high)


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        return ", ".join(value if isinstance(value, str) else json.dumps(value) for value in self.values)

    @property
    def labels(self) -> list[str]:
        """The values as text, which tells them apart: `True` is not 1."""
        return [label(value) for value in self.values]

    def holds(self, value: Any) -> bool:
        """Whether a value is one of these."""
        return label(value) in self.labels


Axis: TypeAlias = Range | Choice
Space: TypeAlias = Mapping[str, Axis]


def label(value: Any) -> str:
    """Return a value as text."""
    return json.dumps(value)


def is_range(text: str) -> bool:
    """Whether a text is meant as log(LOW,HIGH) or range(LOW,HIGH)."""
    return text.partition("(")[0].strip() in ("log", "range")


def is_searchable(name: str) -> bool:
    """Whether trials may differ in a setting, by its full name."""
    return name not in _APART and (not name.startswith("data.") or name in _OF_DATA)


def as_space(given: Mapping[str, Any], recipe: Recipe) -> dict[str, Axis]:
    """Return what a search tries, as users say it: log(LOW,HIGH), range(LOW,HIGH), or a list of values; by full name.

    Each value is tried on top of `recipe`. Raises `RecipeError` for what is not a setting, cannot be searched, or is no value of it.
    """
    space: dict[str, Axis] = {}
    for short, values in given.items():
        name = full_name(short)
        _check_name(name, recipe)
        space[name] = _range(name, values) if isinstance(values, str) else _choice(name, values)
    for name, axis in space.items():
        for value in (axis.low, axis.high) if isinstance(axis, Range) else axis.values:
            recipe.updated({name: int(value) if isinstance(axis, Range) and axis.whole else value}, "search")
    return space


def _check_name(name: str, recipe: Recipe) -> None:
    if not is_searchable(name):
        kept = "which examples there are, what is asked of them, what judges a trial, chance and speed are the same for all trials"
        raise RecipeError(f"The setting {name} cannot be searched: {kept}.", "Set it to one value.")
    if name in _OF_LOSS and recipe.monitor in ("auto", "loss"):
        raise RecipeError(
            f"The setting {name} cannot be searched: trials are judged by the validation loss, which it changes.",
            "Let another score judge: --monitor accuracy, for example.",
        )


def _range(name: str, text: str) -> Range:
    found = _RANGE.fullmatch(text.replace(" ", ""))
    try:
        if found is None:
            raise ValueError
        kind, (low, high) = found[1], map(float, found.groups()[1:])
    except ValueError as error:
        raise RecipeError(f"{name} = {text} is not a range.", _EXAMPLE) from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high and (kind == "range" or low > 0)):
        two = "two numbers above 0" if kind == "log" else "two numbers"
        raise RecipeError(f"{name} = {text} is no range: it takes {two}, the smaller one first.", _EXAMPLE)
    kinds = _kinds(name)
    known = kinds is not None
    if kinds is not None and not kinds & {int, float}:
        raise RecipeError(f"The setting {name} is not a number, so it has no range.", f"List its values: --set {name}=...,...")
    # Only the model knows the types of its options: they are taken to be integers where both ends are written so.
    whole = float not in kinds if kinds is not None else all(end.lstrip("+-").isdigit() for end in found.groups()[1:])
    if whole and known and not (low.is_integer() and high.is_integer()):
        raise RecipeError(f"The setting {name} is a whole number: {text} has others.", _EXAMPLE)
    return Range(low, high, kind == "log", whole)


def _kinds(name: str) -> set[Any] | None:
    """Return the types of numbers that a setting may have; `None` for an option of a model."""
    annotation = type_of(name)
    if annotation is Any:
        return None
    found, left = set(), [annotation]
    while left:
        one = left.pop()
        left += [inner for inner in get_args(one) if not isinstance(inner, str)]
        found |= {one} & {int, float, bool, str}
    return found - {NoneType}


def _choice(name: str, values: Sequence[Any]) -> Choice:
    choice = Choice(tuple(list(value) if isinstance(value, tuple) else value for value in values))
    if len(choice.values) < 2 or len({*choice.labels}) < len(choice.values):
        raise RecipeError(f"{name} = {choice} is no choice: it takes two values or more, each once.", _EXAMPLE)
    return choice


def to_json(space: Space) -> dict[str, Any]:
    """Return a space as values for JSON."""
    return {name: asdict(axis) for name, axis in space.items()}


def from_json(values: Mapping[str, Any]) -> dict[str, Axis]:
    """Return the space that `to_json` gave."""
    return {name: Choice(tuple(one["values"])) if "values" in one else Range(**one) for name, one in values.items()}


def describe(space: Space) -> list[str]:
    """Return a line for each setting of a space."""
    return [f"{name}: {axis}" for name, axis in space.items()]
