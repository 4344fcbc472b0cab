"""Labels that the user has corrected, as a table with a row for each example: labels.csv of a run, with another `label` in some rows.

    example,label,remove,given
    train/cat/7.jpg,dog,,cat
    train/cat/9.jpg,cat,yes,cat

The `label` is what is right, and `given` what the data say; where they are the same, nothing is changed. A row with yes in `remove`
takes its example out. Where examples have several labels, or quantities, a column `target` names the one that is meant, and labels are 0
or 1, or numbers. Other columns are not looked at. The data themselves stay as they are.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from epochal.data.examples import Correction, Examples
from epochal.data.inputs.table.files import open_table
from epochal.data.load import Data
from epochal.errors import DataError, suggest
from epochal.shown import are, counted
from epochal.tasks.targets import class_name

# What a row must say, and what it may.
_COLUMNS, _REMOVE, _TARGET = ("example", "label", "given"), "remove", "target"

_ORDER = "Give the lists in the order in which they were written, or make a new one of the data as they are."


# The line of each row, by the example and the target that it speaks of.
Lines = dict[tuple[str, str], str]


def read_corrections(path: Path) -> tuple[tuple[Correction, ...], Lines]:
    """Return what the rows of a table say, and on which line each is.

    Raises `DataError` naming the line of a row that says nothing clear, or speaks of an example for the second time.
    """
    if not path.is_file():
        raise DataError(f"The list of corrected labels, {path}, does not exist.", "Check the setting data.labels.")
    table = open_table(path, header=True)
    missing = [name for name in _COLUMNS if name not in table.names]
    if missing:
        raise DataError(
            f"{path} has no column {missing[0]}, which a list of corrected labels needs.", "Correct the labels.csv of a run: it has all."
        )
    found, lines = list[Correction](), Lines()
    for chunk in table.chunks():
        for row, number in zip(chunk.rows, chunk.lines, strict=True):
            cells, where = dict(zip(table.names, row, strict=True)), f"{path}, line {number:,}"
            one = _correction(cells, where)
            if (told := (one.example, one.target)) in lines:
                raise DataError(f"{where}: '{one.example}' is listed twice; first in {lines[told]}.", "Remove one of these rows.")
            lines[told] = where
            found.append(one)
    return tuple(found), lines


def _correction(cells: dict[str, str], where: str) -> Correction:
    example, label, given = (cells[name] for name in _COLUMNS)
    target = class_name(cells.get(_TARGET, ""))
    mark = cells.get(_REMOVE, "").strip().lower()
    if mark not in ("", "yes", "no"):
        raise DataError(f"{where}: remove is '{mark}'.", "Write yes to leave the example out, or leave the cell empty.")
    if mark == "yes":
        return Correction(example, class_name(given), None, target)
    if not label.strip():
        raise DataError(f"{where}: there is no label.", "Fill in the right one; to leave the example out, write yes in the column remove.")
    return Correction(example, class_name(given), class_name(label), target)


def corrected_by(data: Data, path: Path) -> Data:
    """Return split data with the labels that a list corrects, and a note on them.

    Raises `DataError` if a row fits no example, has a label that is no class, or if the example has another label than was given.
    """
    listed, lines = read_corrections(path)
    changes = tuple(one for one in listed if one.label != one.given)
    data = correct(data, listed, lines)
    removed = sum(one.label is None for one in changes)
    corrected = len(changes) - removed
    return replace(
        data,
        notes=(
            *data.notes,
            f"{path.name}: {counted(corrected, 'label')} {are(corrected)} corrected, {counted(removed, 'example')} left out",
        ),
    )


def correct(data: Data, corrections: Sequence[Correction], where: Lines | None = None) -> Data:
    """Return split data with corrected labels, in whatever split they are; `where` says where each was read.

    What splits are made of does not change by it: with the same seed, a run is tested on the same examples as without.
    """
    if not corrections and where is None:
        return data
    places = _places(data, {one.example for one in corrections})
    splits = data.splits
    targets = {name: examples.targets.clone() for name, examples in splits.items()}
    kept = {name: torch.ones(len(examples), dtype=torch.bool) for name, examples in splits.items()}
    for one in corrections:
        said = f"'{one.example}'" if where is None else where[one.example, one.target]
        if one.example not in places:
            raise DataError(f"{said}: there is no example '{one.example}' in {data.name}.", "Is that list of a run on other data?")
        column, given = _column(data, one, said), _number(data, one.given, said)
        label = None if one.label is None else _number(data, one.label, said)
        for split, place in places[one.example]:
            has = targets[split][place] if column is None else targets[split][place, column]
            if not kept[split][place]:
                # Of several labels of an example one row leaves it out, and others have nothing left to correct.
                if column is not None:
                    continue
                raise DataError(f"{said}: '{one.example}' is left out already.", _ORDER)
            if has != has.new_tensor(given):
                has_now = data.outputs[int(has)] if column is None else f"{float(has):g}"
                raise DataError(
                    f"{said}: '{one.example}' has the label '{has_now}' now, and not '{one.given}', as when the list was written.", _ORDER
                )
            if label is None:
                kept[split][place] = False
            else:
                has.fill_(label)
    changes = tuple(one for one in corrections if one.label != one.given)
    if not changes:
        return data
    _check_remaining(data, targets, kept)
    parts = {name: _changed(examples, targets[name], kept[name]) for name, examples in splits.items()}
    return replace(
        data,
        train=parts["train"],
        valid=parts.get("valid"),
        test=parts.get("test"),
        fingerprint=hashlib.sha256(repr((data.fingerprint, *changes)).encode()).hexdigest(),
        corrected=data.corrected + changes,
        described=None,
    )


def _column(data: Data, one: Correction, said: str) -> int | None:
    """Return the column of targets that a correction speaks of; `None` where there is one class for each example."""
    if data.task.has_classes:
        return None
    if one.target not in data.outputs:
        noun, others = data.task.nouns[0], suggest(one.target, data.outputs)
        raise DataError(f"{said}: the column target has '{one.target}', which is no {noun} of {data.name}.", others)
    return data.outputs.index(one.target)


def _number(data: Data, text: str, said: str) -> float:
    """Return a label as targets have it: the number of a class, 0 or 1, or a quantity."""
    if data.task.has_classes:
        if text not in data.outputs:
            raise DataError(f"{said}: '{text}' is not a class of {data.name}.", suggest(text, data.outputs))
        return data.outputs.index(text)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if data.task.has_accuracy and value not in (0, 1):
        raise DataError(f"{said}: '{text}' is neither 0 nor 1.", "Write 1 where the label applies, and 0 where it does not.")
    if not math.isfinite(value):
        raise DataError(f"{said}: '{text}' is not a number.", "Write the right value, with a point for decimals.")
    return value


def _changed(examples: Examples, targets: Tensor, kept: Tensor) -> Examples:
    """Return those examples that are kept (bool [n]), with these targets."""
    changed = replace(examples, targets=targets)
    return changed if kept.all() else changed.take(kept.nonzero()[:, 0])


def _places(data: Data, names: set[str]) -> dict[str, list[tuple[str, int]]]:
    """Return where the examples of these names are: a file that is listed in several rows is several examples."""
    found: dict[str, list[tuple[str, int]]] = {}
    for split, examples in data.splits.items():
        for place in range(len(examples)):
            if (name := examples.where(place)) in names:
                found.setdefault(name, []).append((split, place))
    return found


def _check_remaining(data: Data, targets: dict[str, Tensor], kept: dict[str, Tensor]) -> None:
    """Raise `DataError` if corrections leave nothing of a split, or nothing of a class to train on."""
    for name, is_kept in kept.items():
        if not is_kept.any():
            raise DataError(f"The list of corrected labels leaves out all of {name}.", "Leave out fewer.")
    if not data.task.has_classes:
        return
    before, after = (Counter(part.tolist()) for part in (data.train.targets, targets["train"][kept["train"]]))
    if lost := sorted(before.keys() - after.keys()):
        raise DataError(
            f"The list of corrected labels leaves no example of '{data.outputs[lost[0]]}' to train on.",
            "Remove that class from the data, or correct fewer.",
        )
