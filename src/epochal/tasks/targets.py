"""From raw targets to a task and encoded targets: what they mean is inferred from their type and shape, unless the user says."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from epochal.errors import DataError
from epochal.tasks import TASKS
from epochal.tasks.base import Encoded, Task, Where
from epochal.tasks.columns import is_binary, is_one_hot
from epochal.tasks.multi_label import MultiLabel
from epochal.tasks.regression import Regression
from epochal.tasks.single_label import SingleLabel
from epochal.tasks.words import Words

# Words that programs write for missing values.
_BLANKS = ("nan", "none", "null", "na", "n/a", "<na>", "nat")


def encode(
    parts: Mapping[str, Tensor | Sequence[str]], classes: tuple[str, ...] | None, task: str | None, where: Where, like: Task | None = None
) -> Encoded:
    """Encode the raw targets of all splits.

    Integers, booleans and words are labels; numbers with a fraction are quantities; a table of 0 and 1 is several labels per example
    (or one, if each row has a single 1). `task` overrides that, `classes` names the labels. With `like`,
    the task is that of an existing model, and its outputs are matched by name: classes may be missing, columns may not. Columns without
    names are taken in order. Names that are equal in Unicode are one name. Quantities are float32 if that represents all of them
    exactly, otherwise float64.
    Raises `DataError` with the first target that does not fit, as named by `where`.
    """
    tensors, classes, notes = _numbers(parts, classes, where)
    tensors = {name: tensor.flatten() if tensor.ndim == 2 and tensor.shape[1] == 1 else tensor for name, tensor in tensors.items()}
    _check_shapes(tensors)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            bad = int((~tensor.isfinite()).reshape(len(tensor), -1).any(1).nonzero()[0])
            raise DataError(f"The target of {where(name, bad)} is NaN or infinite.", "Fix or remove that example.")
    chosen = type(like) if like is not None else TASKS[task] if task is not None else None
    kind = chosen or infer_task(tensors, classes)
    found = kind.encode(tensors, classes, like, where, is_chosen=chosen is not None)
    return replace(found, notes=notes + found.notes)


def infer_task(tensors: Mapping[str, Tensor], classes: tuple[str, ...] | None) -> type[Task]:
    """Return what targets mean by their type and shape; with names of `classes`, they are labels."""
    train = tensors["train"]
    if train.ndim == 2:
        if not is_binary(tensors):
            return Regression
        return SingleLabel if is_one_hot(tensors) else MultiLabel
    return Regression if train.is_floating_point() and classes is None else SingleLabel


def class_name(text: str) -> str:
    """Return the name of a class in the composed form of Unicode: names that look the same by its rules are one class."""
    return unicodedata.normalize("NFC", text)


def natural(text: str) -> tuple[list[tuple[int, str]], str]:
    """Sort key by which "2" comes before "10"; the text itself decides between "1" and "01"."""
    return [(int(run), "") if run.isdecimal() else (-1, run) for run in re.split(r"([0-9]+)", text)], text


def _numbers(
    parts: Mapping[str, Tensor | Sequence[str]], classes: tuple[str, ...] | None, where: Where
) -> tuple[dict[str, Tensor], tuple[str, ...] | None, tuple[str, ...]]:
    """Replace words by numbers from 0, in natural order of the words, with notes on words that may mean "no label"."""
    if classes is not None:
        classes = tuple(map(class_name, classes))
        twice = next((name for name in classes if classes.count(name) > 1), None) if len(set(classes)) < len(classes) else None
        if twice is not None:
            raise DataError(f"Two classes have the name '{twice}'.", "Give each class a name of its own.")
    words = {name: _composed(Words.of(targets)) for name, targets in parts.items() if not isinstance(targets, Tensor)}
    if not words:
        return {name: targets for name, targets in parts.items() if isinstance(targets, Tensor)}, classes, ()
    if len(words) != len(parts):
        raise DataError(f"The targets of {', '.join(words)} are words, the others are numbers.", "Use the same kind in every split.")
    found = {word for targets in words.values() for word in targets.words}
    _check_blanks(words, found, where)
    names = classes or tuple(sorted(found, key=natural))
    number = {word: position for position, word in enumerate(names)}
    for split, targets in words.items():
        if strange := [place for place, word in enumerate(targets.words) if word not in number]:
            index = targets.first(strange)
            problem = f"The target of {where(split, index)} is '{targets[index]}', which is not among the classes {', '.join(names)}."
            raise DataError(problem, "Fix it.")
    empty = [name for name in names if name.strip().lower() in _BLANKS]
    notes = tuple(f"the class '{name}' may mean missing labels: if so, leave its examples out" for name in empty)
    numbers = {split: torch.tensor([number[word] for word in targets.words], dtype=torch.long) for split, targets in words.items()}
    return {split: numbers[split].index_select(0, torch.from_numpy(targets.codes)) for split, targets in words.items()}, names, notes


def _composed(targets: Words) -> Words:
    return Words([class_name(word) for word in targets.words], targets.codes)


def _check_blanks(words: Mapping[str, Words], found: set[str], where: Where) -> None:
    """Refuse words that only differ in the spaces around them."""
    for word in sorted(found):
        if word != word.strip() and word.strip() in found:
            split, index = next((split, targets.index(word)) for split, targets in words.items() if word in targets.words)
            raise DataError(
                f"The target of {where(split, index)} is {word!r}, while others are {word.strip()!r}.", "Remove the blanks around the word."
            )


def _check_shapes(tensors: Mapping[str, Tensor]) -> None:
    train = tensors["train"]
    for name, tensor in tensors.items():
        if tensor.ndim not in (1, 2) or not tensor.shape[1:].numel():
            raise DataError(
                f"The targets of {name} have shape {tuple(tensor.shape)}.", "Give one target per example, or one row of them per example."
            )
        if tensor.shape[1:] != train.shape[1:]:
            raise DataError(
                f"The targets of {name} have shape {tuple(tensor.shape)}; those of train {tuple(train.shape)}.",
                "Give one target per example, or one row per example, alike in every split.",
            )
