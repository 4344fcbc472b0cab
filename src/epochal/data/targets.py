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
    the task is that of the data that it describes, and its outputs are matched by name: classes need not all be there, columns
    must. Columns without names are taken in order.
    Raises `DataError` naming the split and index of the first target that does not fit.
    """
    tensors, classes = _numbers(parts, classes)
    tensors = {name: tensor.flatten() if tensor.ndim == 2 and tensor.shape[1] == 1 else tensor for name, tensor in tensors.items()}
    _check_shapes(tensors)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            bad = int((~tensor.isfinite()).reshape(len(tensor), -1).any(1).nonzero()[0])
            raise DataError(f"The target of {name}[{bad}] is NaN or infinite.", "Mend or remove that example.")
    asked = like.task if like is not None else task
    told = asked or _tell(tensors, classes)
    notes: tuple[str, ...] = ()
    if told == "single-label":
        if tensors["train"].ndim == 2:
            tensors = _one_hot_labels(tensors)
            notes = ("targets are one-hot rows: one label per example",)
        codes, names = _codes(tensors, classes, asked=asked is not None)
        if like is None:
            _check_classes(codes, names)
        else:
            number = torch.tensor(_matched(names, like, "class"))
            codes, names = {name: number[code] for name, code in codes.items()}, like.outputs
        return Encoded(told, names, codes, notes)

    if told == "multi-label" and not _is_binary(tensors):
        raise DataError("Multi-label targets must be a table of 0 and 1 with a column for each label.", "Or choose another task.")
    columns = {name: tensor.float().reshape(len(tensor), -1) for name, tensor in tensors.items()}
    columns, names = _named(columns, classes, told, like)
    if asked is None and told == "multi-label":
        notes = (f"targets are a table of 0 and 1: {len(names)} labels that can be true together",)
    elif asked is None and _look_like_labels(tensors["train"]):
        notes = ("targets are whole numbers written as decimals: regression; data.task = single-label if they are labels",)
    return Encoded(told, names, columns, notes)


def _one_hot_labels(tables: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not _is_one_hot(tables):
        raise DataError("The targets are a table in which some rows do not have exactly one 1.", "Use task multi-label, or one label each.")
    return {name: table.int().argmax(1) for name, table in tables.items()}


def _named(
    columns: dict[str, Tensor], names: tuple[str, ...] | None, task: Task, like: DataSpec | None
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Name the columns of targets, or bring them into the order of those that a model gives."""
    width = columns["train"].shape[1]
    if names is not None and len(names) != width:
        raise DataError(
            f"There are {len(names)} names for {width} columns of targets.", "Give one for each column, or choose another task."
        )
    if like is None:
        stem = "y" if task == "regression" else ""
        return columns, names or ((stem,) if stem and width == 1 else tuple(f"{stem}{number}" for number in range(width)))
    if names is None:
        if width != len(like.outputs):
            raise DataError(f"The targets have {width} columns; the model gives {len(like.outputs)}.", "Bring the same columns.")
        return columns, like.outputs
    places = _matched(names, like, "output")
    lacking = [name for name in like.outputs if name not in names]
    if lacking:
        raise DataError(f"The targets lack a column '{lacking[0]}', which the model gives.", "Bring the same columns.")
    order = torch.tensor(places).argsort()
    return {name: table[:, order] for name, table in columns.items()}, like.outputs


def _matched(names: Sequence[str], like: DataSpec, what: str) -> list[int]:
    """Return where a trained model has the outputs of these names."""
    places = {name: place for place, name in enumerate(like.outputs)}
    unknown = [name for name in names if name not in places]
    if unknown:
        known = ", ".join(like.outputs[:10]) + ", ..." * (len(like.outputs) > 10)
        fix = "Remove those examples, or name the class as in training." if what == "class" else "Name the columns as in training."
        raise DataError(f"The model does not know the {what} '{unknown[0]}'; it knows {known}.", fix)
    return [places[name] for name in names]


def natural(text: str) -> tuple[list[tuple[int, str]], str]:
    """Sort key by which "2" comes before "10"; the text itself decides between "1" and "01"."""
    return [(int(run), "") if run.isdecimal() else (-1, run) for run in re.split(r"([0-9]+)", text)], text


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


def _look_like_labels(targets: Tensor) -> bool:
    """Whether decimals are few different whole numbers: so labels look after a detour over a table of decimals."""
    return targets.ndim == 1 and targets.is_floating_point() and bool((targets == targets.round()).all()) and len(targets.unique()) <= 100


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
