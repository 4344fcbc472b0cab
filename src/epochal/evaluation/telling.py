"""In what a row of values is unlike its class, and like the predicted one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from epochal.data.examples import Examples
from epochal.data.groups import Groups, grouped
from epochal.data.inputs.base import Cell
from epochal.data.spec import DataSpec
from epochal.evaluation.evaluate import Evaluation
from epochal.tasks.base import Task

# Rows are compared with so many training rows at most; for quantities, with the share whose targets are nearest.
_COMPARED = 50_000
_NEAREST = 0.05

# A value speaks for the prediction if it is so many times as common there.
_TELLING = 1.2

# A quantity is at an end of a class if at most this share of it is beyond.
_END = 0.2

# So many values of a row are told.
_VALUES = 5


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
        return f"above {percent(self.below)}" if self.below >= 0.5 else f"below {percent(1 - self.below)}"


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
    answers = _as_targets(evaluation.task, evaluation.predictions)

    def find(place: int) -> list[Telling]:
        example = examples.input(place)
        return compared.telling(example, spec.input.cells(example), evaluation.targets[place], answers[place])

    return find


def _as_targets(task: Task, predictions: Tensor) -> Tensor:
    """Return predictions in the form of targets."""
    answers = task.answers(predictions)
    return answers if task.has_classes else answers.float()


def percent(share: float) -> str:
    """Return a share in percent, with a decimal where it is very small or nearly all."""
    return f"{100 * share:.0f} %" if 0.1 <= share <= 0.99 or share == 1 else f"{100 * share:.1f} %"
