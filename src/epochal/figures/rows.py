"""Rows of values with what the model says about them: in what mistakes are unlike their class, and like the predicted one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor

from epochal.data.examples import Examples
from epochal.data.groups import Groups, grouped
from epochal.data.inputs.base import Cell
from epochal.data.spec import DataSpec
from epochal.evaluation.evaluate import Evaluation
from epochal.figures.fonts import printable, short
from epochal.figures.judged import blocks
from epochal.figures.style import BLUE, GREY, VERMILLION, WIDTH, with_fonts_for
from epochal.tasks.base import Judged, Task

# So many mistakes, with so many values of each.
_MISTAKES, _VALUES = 8, 5
_COLUMNS = 2

# Rows are compared with so many training rows at most; for quantities, with the share whose targets are nearest.
_COMPARED = 50_000
_NEAREST = 0.05

# A value speaks for the prediction if it is so many times as common there.
_TELLING = 1.2

# A quantity is at an end of a class if at most this share of it is beyond.
_END = 0.2

# Heights in inches: of the heading, of what is said of a mistake, of a value, and between mistakes.
_HEADING, _TITLE, _VALUE, _GAP = 0.95, 0.42, 0.2, 0.2
_LEFT, _BAR = 0.3, 0.55


class Telling(NamedTuple):
    """A value of a mistake: the share of training rows with such a value, among those like the truth and like the prediction, and the
    share of those like the truth that are below it."""

    cell: Cell
    of_true: float
    of_predicted: float
    below: float

    @property
    def weight(self) -> float:
        """The evidence for the prediction against the truth: the logarithm of the ratio of shares (I. J. Good, 1950)."""
        return float(np.log(self.of_predicted / self.of_true))

    def words(self) -> str:
        """Return where the value lies among the rows like the truth, if it is at an end."""
        if not self.cell.is_quantity or self.cell.words == "missing" or min(self.below, 1 - self.below) > _END:
            return ""
        return f"above {_percent(self.below)}" if self.below >= 0.5 else f"below {_percent(1 - self.below)}"


class Compared:
    """Training rows, with which mistakes are compared."""

    def __init__(self, train: Examples, cells: Sequence[Cell], task: Task) -> None:
        every = -(-len(train) // _COMPARED)
        self.rows: NDArray[np.float32] = np.asarray(train.inputs[torch.arange(0, len(train), every)].float())
        self.targets = train.targets[::every].double().reshape(len(self.rows), -1)
        self.task = task
        self.groups: list[Groups] = [grouped(column, is_quantity=cell.is_quantity) for cell, column in zip(cells, self.rows.T, strict=True)]
        self.codes = [groups.of(column) for groups, column in zip(self.groups, self.rows.T, strict=True)]

    def telling(self, example: Tensor, cells: Sequence[Cell], true: Tensor, predicted: Tensor) -> list[Telling]:
        """Return the values that speak most for the prediction against the truth, both as targets [...], the strongest first."""
        like_true, like_predicted = self._like(true), self._like(predicted)
        row = np.asarray(example.float())
        found = []
        for place, (cell, value) in enumerate(zip(cells, row, strict=True)):
            code = self.groups[place].of(row[place : place + 1])[0]
            # Half a row more on both sides: what never occurred is not impossible.
            shares = [
                (float((self.codes[place][like] == code).sum()) + 0.5) / (float(like.sum()) + 1) for like in (like_true, like_predicted)
            ]
            column = self.rows[like_true, place]
            column = column[~np.isnan(column)]
            below = (float((column < value).sum()) + float((column <= value).sum())) / 2 / max(1, len(column))
            found.append(Telling(cell, shares[0], shares[1], below))
        found.sort(key=lambda one: -one.weight)
        return [one for one in found[:_VALUES] if one.of_predicted >= _TELLING * one.of_true]

    def _like(self, target: Tensor) -> NDArray[np.bool_]:
        """Return which rows have a target like this: the same class, or one of the nearest."""
        distance = (self.targets - target.double().reshape(1, -1)).abs()
        spread = self.targets.std(0, correction=0)
        distance = (distance / spread.where(spread > 0, 1.0)).amax(1)
        if self.task.has_accuracy and bool((distance == 0).any()):
            return np.asarray(distance == 0)
        nearest = distance.kthvalue(max(1, round(_NEAREST * len(distance)))).values
        return np.asarray(distance <= nearest)


def telling_values(examples: Examples, evaluation: Evaluation, spec: DataSpec, train: Examples) -> Callable[[int], list[Telling]]:
    """Return what finds the values of an example, by its index, in which it is least like its class and most like the predicted one."""
    compared = Compared(train, spec.input.cells(examples.input(0)), spec.task)
    answers = _as_targets(spec.task, evaluation.predictions)

    def find(place: int) -> list[Telling]:
        example = examples.input(place)
        return compared.telling(example, spec.input.cells(example), evaluation.targets[place], answers[place])

    return find


def draw_rows(examples: Examples, evaluation: Evaluation, spec: DataSpec, train: Examples, judged: Judged) -> Figure | None:
    """Return the worst mistakes, each with the values in which it is least like its class and most like the predicted one."""
    shown = blocks(judged, _MISTAKES, 0)
    if not shown:
        return None
    block = shown[0]
    cells = {place: spec.input.cells(examples.input(place)) for place in block.places}
    with_fonts_for([words for some in cells.values() for cell in some for words in (cell.name, cell.words)])
    find = telling_values(examples, evaluation, spec, train)
    telling = {place: find(place) for place in block.places}
    high = _TITLE + _VALUE * max(map(len, telling.values())) + _GAP
    top = _HEADING + high * -(-len(block.places) // _COLUMNS)
    figure = Figure(figsize=(WIDTH, top))
    at: Any = {"transform": figure.dpi_scale_trans, "va": "top"}
    figure.text(WIDTH / 2, top - 0.1, block.title, color=block.colour, fontsize=11, fontweight="bold", ha="center", **at)
    figure.text(WIDTH / 2, top - 0.36, _legend(spec.task), color=GREY, fontsize=8, ha="center", **at)
    largest = max((max(one.of_true, one.of_predicted) for some in telling.values() for one in some), default=1.0)
    for number, place in enumerate(block.places):
        row, column = divmod(number, _COLUMNS)
        left, above = _LEFT + column * WIDTH / _COLUMNS, top - _HEADING - row * high
        said = f"{block.mark}{judged.predicted(place)}   {judged.note(place)}"
        figure.text(left, above, short(said, 44), fontsize=9, fontweight="bold", color=VERMILLION, **at)
        name = short(printable(examples.where(place)), 30)
        figure.text(left + WIDTH / _COLUMNS - 2 * _LEFT, above, name, fontsize=7, color=GREY, ha="right", **at)
        figure.text(left, above - 0.18, short(f"true: {judged.true(place)}", 48), fontsize=8, color=BLUE, **at)
        if not telling[place]:
            figure.text(left, above - _TITLE, "no value speaks for the prediction by itself", fontsize=7.5, color=GREY, **at)
        for line, one in enumerate(telling[place]):
            _draw_value(figure, left, above - _TITLE - line * _VALUE, one, _BAR / largest)
    return figure


def _as_targets(task: Task, predictions: Tensor) -> Tensor:
    """Return predictions in the form of targets."""
    if task.has_classes:
        return predictions.argmax(1)
    return (predictions >= 0.5).float() if task.has_accuracy else predictions


def _legend(task: Task) -> str:
    if task.has_accuracy:
        what = "class" if task.has_classes else "labels"
        true, predicted = f"of the true {what}", f"of the predicted {what}"
    else:
        true, predicted = "with about the true target", "with about the predicted one"
    return (
        f"bars: share of training rows {true} (blue) and {predicted} (red) that have such a value\n"
        f"above, below: share of training rows {true} that the value is above or below"
    )


def _draw_value(figure: Figure, left: float, above: float, one: Telling, unit: float) -> None:
    """Draw a value with both of its shares, as bars of `unit` inches for the whole."""
    inches = figure.dpi_scale_trans
    at: Any = {"transform": inches, "va": "top", "fontsize": 7.5}
    figure.text(left, above, short(printable(one.cell.name), 18), color=GREY, **at)
    figure.text(left + 1.15, above, short(printable(one.cell.words), 17), **at)
    figure.text(left + 2.25, above, one.words(), color=GREY, **at)
    for number, (share, colour) in enumerate(((one.of_true, BLUE), (one.of_predicted, VERMILLION))):
        corner = left + 3.1, above - 0.07 - number * 0.06
        figure.add_artist(Rectangle(corner, max(0.01, unit * share), 0.05, color=colour, linewidth=0, transform=inches))
    right = left + 3.14 + unit * max(one.of_true, one.of_predicted)
    figure.text(right, above, f"{_percent(one.of_true)}, {_percent(one.of_predicted)}", color=GREY, **at)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if 0.1 <= share <= 0.99 or share == 1 else f"{100 * share:.1f} %"
