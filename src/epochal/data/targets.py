"""What the targets mean: one label, several labels or quantities; told from their type and shape, or as the user says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from epochal.data.spec import DataSpec, Task
from epochal.errors import DataError


@dataclass(frozen=True)
class Encoded:
    """Targets as training takes them (see `Examples.targets`), with the task and the names of the outputs."""

    task: Task
    outputs: tuple[str, ...]
    targets: dict[str, Tensor]
    notes: tuple[str, ...] = ()


def encode(
    parts: Mapping[str, Tensor | Sequence[str]], classes: tuple[str, ...] | None, task: Task | None, like: DataSpec | None = None
) -> Encoded:
    """Encode the raw targets of all splits.

    Whole numbers, booleans and words are labels; numbers with a fraction are quantities; a table of 0 and 1 holds several
    labels per example (or one, where each row has a single 1). `task` overrides that, `classes` names the labels. With `like`,
    task and class numbers are those of the data that it describes.
    Raises `DataError` naming the split and index of the first target that does not fit.
    """
    if like is not None:
        return _encode_like(parts, classes, like)
    tensors, classes = _numbers(parts, classes)
    tensors = {name: tensor.flatten() if tensor.ndim == 2 and tensor.shape[1] == 1 else tensor for name, tensor in tensors.items()}
    _check_shapes(tensors)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            bad = int((~tensor.isfinite()).reshape(len(tensor), -1).any(1).nonzero()[0])
            raise DataError(f"The target of {name}[{bad}] is NaN or infinite.", "Mend or remove that example.")
    notes: tuple[str, ...] = ()
    told = task or _tell(tensors, classes)
    if told == "regression":
        columns = {name: tensor.float().reshape(len(tensor), -1) for name, tensor in tensors.items()}
        width = columns["train"].shape[1]
        names = classes or (("y",) if width == 1 else tuple(f"y{number}" for number in range(width)))
        if len(names) != width:
            raise DataError(
                f"There are {len(names)} names for {width} columns of quantities.", "Give one for each, or choose another task."
            )
        return Encoded(told, names, columns)
    is_table = tensors["train"].ndim == 2
    if told == "single-label" and is_table:
        if not _is_one_hot(tensors):
            raise DataError(
                "The targets are a table in which some rows do not have exactly one 1.", "Use task multi-label, or one label each."
            )
        tensors = {name: tensor.int().argmax(1) for name, tensor in tensors.items()}
        notes = ("targets are one-hot rows: one label per example",)
    elif told == "multi-label":
        if not (is_table and _is_binary(tensors)):
            raise DataError("Multi-label targets must be a table of 0 and 1 with a column for each label.", "Or choose another task.")
        width = tensors["train"].shape[1]
        names = classes or tuple(str(number) for number in range(width))
        if len(names) != width:
            raise DataError(f"There are {len(names)} label names for {width} columns of targets.", "Give one name for each column.")
        if task is None:
            notes = (f"targets are a table of 0 and 1: {width} labels that can be true together",)
        return Encoded(told, names, {name: tensor.float() for name, tensor in tensors.items()}, notes)
    codes, names = _codes(tensors, classes, asked=task is not None)
    _check_classes(codes, names)
    return Encoded("single-label", names, codes, notes)


def _encode_like(parts: Mapping[str, Tensor | Sequence[str]], classes: tuple[str, ...] | None, like: DataSpec) -> Encoded:
    """Encode targets for a model that was trained already: classes are matched by name, and need not all be there."""
    if like.task != "single-label":
        encoded = encode(parts, classes, like.task)
        if len(encoded.outputs) != len(like.outputs):
            raise DataError(
                f"The targets have {len(encoded.outputs)} columns; the model gives {len(like.outputs)}.", "Bring the same columns."
            )
        return Encoded(like.task, like.outputs, encoded.targets, encoded.notes)
    tensors, named = _numbers(parts, classes)
    tensors = {name: tensor.int().argmax(1) if tensor.ndim == 2 else tensor.flatten() for name, tensor in tensors.items()}
    codes, names = _codes(tensors, named, asked=True)
    unknown = [name for name in names if name not in like.outputs]
    known = ", ".join(like.outputs[:10]) + ", ..." * (len(like.outputs) > 10)
    if unknown:
        raise DataError(
            f"The model does not know the class '{unknown[0]}'; it knows {known}.",
            "Remove those examples, or name the class as in training.",
        )
    number = torch.tensor([like.outputs.index(name) for name in names])
    return Encoded("single-label", like.outputs, {name: number[code] for name, code in codes.items()})


def natural(text: str) -> list[tuple[int, str]]:
    """Sort key by which "2" comes before "10"."""
    return [(int(run), "") if run.isdecimal() else (-1, run) for run in re.split(r"([0-9]+)", text)]


def _numbers(
    parts: Mapping[str, Tensor | Sequence[str]], classes: tuple[str, ...] | None
) -> tuple[dict[str, Tensor], tuple[str, ...] | None]:
    """Replace words by numbers from 0, in natural order of the words."""
    words = {name: list(targets) for name, targets in parts.items() if not isinstance(targets, Tensor)}
    if not words:
        return {name: targets for name, targets in parts.items() if isinstance(targets, Tensor)}, classes
    if len(words) != len(parts):
        raise DataError(f"The targets of {', '.join(words)} are words, the others are numbers.", "Use the same kind in every split.")
    names = classes or tuple(sorted({word for targets in words.values() for word in targets}, key=natural))
    number = {word: position for position, word in enumerate(names)}
    for split, targets in words.items():
        for index, word in enumerate(targets):
            if word not in number:
                raise DataError(
                    f"The target of {split}[{index}] is '{word}', which is not among the classes {', '.join(names)}.", "Mend it."
                )
    return {split: torch.tensor([number[word] for word in targets]) for split, targets in words.items()}, names


def _check_shapes(tensors: Mapping[str, Tensor]) -> None:
    train = tensors["train"]
    for name, tensor in tensors.items():
        if tensor.ndim not in (1, 2) or tensor.shape[1:] != train.shape[1:]:
            raise DataError(
                f"The targets of {name} have shape {tuple(tensor.shape)}; those of train {tuple(train.shape)}.",
                "Give one target per example, or one row per example, alike in every split.",
            )


def _tell(tensors: Mapping[str, Tensor], classes: tuple[str, ...] | None) -> Task:
    train = tensors["train"]
    if train.ndim == 2:
        if not _is_binary(tensors):
            return "regression"
        return "single-label" if _is_one_hot(tensors) else "multi-label"
    return "regression" if train.is_floating_point() and classes is None else "single-label"


def _is_binary(tensors: Mapping[str, Tensor]) -> bool:
    return all(bool(((tensor == 0) | (tensor == 1)).all()) for tensor in tensors.values())


def _is_one_hot(tensors: Mapping[str, Tensor]) -> bool:
    return _is_binary(tensors) and all(bool((tensor.sum(1) == 1).all()) for tensor in tensors.values())


def _codes(tensors: Mapping[str, Tensor], classes: tuple[str, ...] | None, *, asked: bool) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Number the labels from 0 and name them."""
    labels = torch.cat(list(tensors.values()))
    if labels.is_floating_point() and (labels != labels.round()).any():
        raise DataError("Some labels have a fraction.", "Use whole numbers or words as labels, or task regression.")
    is_truth = labels.dtype == torch.bool
    codes = {name: tensor.long() for name, tensor in tensors.items()}
    for name, tensor in codes.items():
        outside = tensor < 0 if classes is None else (tensor < 0) | (tensor >= len(classes))
        if outside.any():
            bad = int(outside.nonzero()[0])
            known = f"there are {len(classes)} classes" if classes is not None else "labels count from 0"
            raise DataError(f"The label of {name}[{bad}] is {int(tensor[bad])}, but {known}.", "Mend or remove that example.")
    if classes is not None:
        return codes, classes
    values = labels.long().unique()
    if not asked and len(values) > 100 and len(values) > len(labels) / 2:
        raise DataError(
            f"The targets are {len(values)} different whole numbers for {len(labels)} examples: quantities rather than labels?",
            "Say so: data.task = regression, or single-label if each really is a class.",
        )
    names = tuple(str(bool(value) if is_truth else value) for value in values.tolist())
    return {name: torch.searchsorted(values, tensor) for name, tensor in codes.items()}, names


def _check_classes(codes: Mapping[str, Tensor], names: tuple[str, ...]) -> None:
    trained = set(codes["train"].unique().tolist())
    for split, tensor in codes.items():
        strange = sorted(set(tensor.unique().tolist()) - trained)
        if strange:
            raise DataError(
                f"The class '{names[strange[0]]}' is in {split} but not in train.",
                "Add training examples of it, or remove it from the others.",
            )
    if len(trained) < 2:
        raise DataError(f"All training examples are of one class, '{names[min(trained)]}'.", "Bring examples of at least two classes.")
