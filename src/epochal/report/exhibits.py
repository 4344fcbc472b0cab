"""Examples for the report: the worst mistakes, some right answers, labels that look wrong, and training examples as the network sees them.

They are chosen at the end of a run, while the data are there, and kept in the run's folder: a report can be made again without the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch import Tensor

from epochal.data.examples import Examples
from epochal.data.glance import as_url
from epochal.data.inputs.values import access
from epochal.data.spec import DataSpec
from epochal.evaluation.evaluate import Evaluation
from epochal.evaluation.label_errors import Suspect
from epochal.evaluation.shown_examples import blocks
from epochal.evaluation.telling import Compared, Telling, telling_values
from epochal.recipe import Recipe
from epochal.tasks.base import Judged

# So many mistakes, right answers and labels to look at are kept, and so many training examples, each changed at random so many times.
_WRONG, _RIGHT, _LABELS, _SAMPLES, _CHANGED = 12, 6, 12, 4, 3

# Pictures are made smaller than this.
_SIDE = 160

# Of texts, so many letters are kept; of a row of an example so many values.
_LETTERS, _VALUES = 400, 12


@dataclass(frozen=True)
class Value:
    """A value of a row, and the share of training rows like the truth, and like the prediction, that have such a value."""

    name: str
    words: str
    of_true: float | None = None
    of_predicted: float | None = None


@dataclass(frozen=True)
class Exhibit:
    """An example: its picture (as a data URL), its text or its values, and what is said of it."""

    name: str
    picture: str = ""
    text: str = ""
    values: tuple[Value, ...] = ()
    predicted: str = ""
    true: str = ""
    note: str = ""


@dataclass(frozen=True)
class Group:
    """Examples under a title, all mistakes or none."""

    title: str
    is_wrong: bool
    examples: tuple[Exhibit, ...]


@dataclass(frozen=True)
class Exhibits:
    """Groups of judged examples; `labels`, the training examples whose labels are to be looked at first, where `true` is the given
    label and how probable it was; and some training examples, each as it is read, and then as it is changed at random in some epochs."""

    judged: tuple[Group, ...] = ()
    labels: tuple[Exhibit, ...] = ()
    samples: tuple[tuple[Exhibit, ...], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Exhibits:
        """Return what `to_json` gave. Raises `ValueError`."""
        return _as_json().validate_python({name: values.get(name, ()) for name in ("judged", "labels", "samples")})


def choose_exhibits(
    evaluation: Evaluation | None,
    examples: Examples | None,
    suspects: Sequence[Suspect],
    train: Examples,
    spec: DataSpec,
    recipe: Recipe,
) -> Exhibits:
    """Return the examples that a report shows; `evaluation` is that of `examples`, and `suspects` are ranked."""
    groups: tuple[Group, ...] = ()
    if evaluation is not None and examples is not None and len(examples):
        judged = evaluation.task.judge(evaluation.predictions, evaluation.targets, spec.outputs)
        groups = () if judged is None else tuple(_groups(judged, evaluation, examples, train, spec))
    return Exhibits(groups, tuple(_suspects(suspects[:_LABELS], train, spec)), tuple(_samples(train, spec, recipe)))


def _suspects(suspects: Sequence[Suspect], train: Examples, spec: DataSpec) -> Iterator[Exhibit]:
    show, outputs = _shower(train, spec), spec.task.outputs
    compared: Compared | None = None
    for one in suspects:
        example = train.input(one.place)
        found, cells = show(one.place), spec.input.cells(example)
        if cells and spec.task.has_classes and access(train.inputs) != "items":
            compared = compared or Compared(train, cells, spec.task)
            given, suggested = (torch.tensor(outputs.index(name)) for name in (one.given, one.suggested))
            found = tuple(map(_told, compared.telling(example, cells, given, suggested)))
        said_given, suggested_instead = one.said
        score = f"{100 * one.score:.1f} %" if spec.task.has_accuracy else f"{one.score:.1f} σ"
        yield _exhibit(one.example, found, suggested_instead, f"{said_given} · {score}")


def _groups(judged: Judged, evaluation: Evaluation, examples: Examples, train: Examples, spec: DataSpec) -> Iterator[Group]:
    show = _shower(examples, spec)
    first = spec.input.cells(examples.input(0))
    compare: Callable[[int], Sequence[Telling]] | None = None
    if first and access(train.inputs) != "items":
        compare = telling_values(examples, evaluation, spec, train)
    for block in blocks(judged, _WRONG, 0 if first else _RIGHT):
        shown = []
        for place in block.places:
            found = show(place) if compare is None else tuple(map(_told, compare(place)))
            shown.append(_exhibit(examples.where(place), found, judged.predicted(place), judged.true(place), judged.note(place)))
        yield Group(block.title, block.is_wrong, tuple(shown))


def _told(one: Telling) -> Value:
    return Value(one.cell.name, one.cell.words, one.of_true, one.of_predicted)


_Shown = str | NDArray[numpy.uint8] | tuple[Value, ...]


def _shower(examples: Examples, spec: DataSpec) -> Callable[[int], _Shown]:
    """Return what shows an example, by its index: as pixels, its text, or its values."""

    def show(place: int) -> _Shown:
        example = examples.input(place)
        if (pixels := spec.input.draw(example)) is not None:
            return pixels
        return examples.text(place) or tuple(Value(cell.name, cell.words) for cell in spec.input.cells(example)[:_VALUES])

    return show


def _exhibit(name: str, shown: _Shown, predicted: str = "", true: str = "", note: str = "") -> Exhibit:
    if isinstance(shown, str):
        return Exhibit(name, "", shown[:_LETTERS] + "…" * (len(shown) > _LETTERS), (), predicted, true, note)
    if isinstance(shown, tuple):
        return Exhibit(name, "", "", shown, predicted, true, note)
    return Exhibit(name, as_url(shown, _SIDE), "", (), predicted, true, note)


def _samples(train: Examples, spec: DataSpec, recipe: Recipe) -> Iterator[tuple[Exhibit, ...]]:
    show = _shower(train, spec)
    augment = spec.input.augment(recipe.augment, recipe.seed)
    for place in range(min(_SAMPLES, len(train))):
        found = [_exhibit(train.where(place), show(place))]
        if augment is not None and found[0].picture:
            for epoch in range(1, 1 + _CHANGED):
                changed = augment(train.input(place)[None].clone(), torch.tensor([place]), epoch)
                found += [] if (pixels := _drawn(spec, changed)) is None else [_exhibit("", pixels)]
        yield tuple(found)


def _drawn(spec: DataSpec, changed: Tensor) -> NDArray[numpy.uint8] | None:
    return spec.input.draw(changed[0])


@cache
def _as_json() -> TypeAdapter[Exhibits]:
    return TypeAdapter(Exhibits)
