"""What the targets mean: one label, several labels or quantities; told from their type and shape, or as the user says."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from epochal.data.examples import address
from epochal.data.spec import DataSpec, Task
from epochal.errors import DataError

# Names an example by its split and its place there.
Where = Callable[[str, int], str]

# The square of a larger quantity, or of a smaller spread, is beyond float64.
_LARGEST = 1e150

# Words that programs write where there is no value.
_BLANKS = ("nan", "none", "null", "na", "n/a", "<na>", "nat")

_REMOVE = "Fix or remove that example."

# A table of more different whole numbers holds quantities.
_FEW = 100


@dataclass(frozen=True)
class Encoded:
    """Targets as training takes them (see `Examples.targets`), with the task and the names of the outputs."""

    task: Task
    outputs: tuple[str, ...]
    targets: dict[str, Tensor]
    notes: tuple[str, ...] = ()


def encode(
    parts: Mapping[str, Tensor | Sequence[str]],
    classes: tuple[str, ...] | None,
    task: Task | None,
    like: DataSpec | None = None,
    where: Where = address,
) -> Encoded:
    """Encode the raw targets of all splits.

    Whole numbers, booleans and words are labels; numbers with a fraction are quantities; a table of 0 and 1 holds several
    labels per example (or one, where each row has a single 1). `task` overrides that, `classes` names the labels. With `like`,
    the task is that of the data that it describes, and its outputs are matched by name: classes need not all be there, columns
    must. Columns without names are taken in order. Names that Unicode counts as equal are one. Quantities are float32 where that
    holds every one of them exactly, and float64 elsewhere.
    Raises `DataError` naming the first target that does not fit, by `where`.
    """
    tensors, classes, notes = _numbers(parts, classes, where)
    tensors = {name: tensor.flatten() if tensor.ndim == 2 and tensor.shape[1] == 1 else tensor for name, tensor in tensors.items()}
    _check_shapes(tensors)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            bad = int((~tensor.isfinite()).reshape(len(tensor), -1).any(1).nonzero()[0])
            raise DataError(f"The target of {where(name, bad)} is NaN or infinite.", _REMOVE)
    asked = like.task if like is not None else task
    told = asked or _tell(tensors, classes)
    if told == "single-label":
        if tensors["train"].ndim == 2:
            tensors = _one_hot_labels(tensors)
            notes += ("targets are one-hot rows: one label per example",)
        codes, names = _codes(tensors, classes, where, asked=asked is not None)
        notes += _about_codes(names if classes is None else ())
        if like is None:
            _check_classes(codes, names)
        else:
            number = torch.tensor(_matched(names, like, "class"))
            codes, names = {name: number[code] for name, code in codes.items()}, like.outputs
        return Encoded(told, names, codes, notes)

    if told == "multi-label" and not _is_binary(tensors):
        raise DataError("Multi-label targets must be a table of 0 and 1 with a column for each label.", "Or choose another task.")
    if told == "multi-label":
        columns = {name: tensor.float().reshape(len(tensor), -1) for name, tensor in tensors.items()}
    else:
        columns = _quantities(tensors, where)
    columns, names = _named(columns, classes, told, like)
    return Encoded(told, names, columns, notes + (_about_columns(tensors["train"], told) if asked is None else ()))


def class_name(text: str) -> str:
    """Return the name of a class in the composed form of Unicode: names that look the same by its rules are one class."""
    return unicodedata.normalize("NFC", text)


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
    parts: Mapping[str, Tensor | Sequence[str]], classes: tuple[str, ...] | None, where: Where
) -> tuple[dict[str, Tensor], tuple[str, ...] | None, tuple[str, ...]]:
    """Replace words by numbers from 0, in natural order of the words; and say which of them may be none."""
    if classes is not None:
        classes = tuple(map(class_name, classes))
        twice = next((name for name in classes if classes.count(name) > 1), None) if len(set(classes)) < len(classes) else None
        if twice is not None:
            raise DataError(f"Two classes have the name '{twice}'.", "Give each class a name of its own.")
    words = {name: list(map(class_name, targets)) for name, targets in parts.items() if not isinstance(targets, Tensor)}
    if not words:
        return {name: targets for name, targets in parts.items() if isinstance(targets, Tensor)}, classes, ()
    if len(words) != len(parts):
        raise DataError(f"The targets of {', '.join(words)} are words, the others are numbers.", "Use the same kind in every split.")
    found = {word for targets in words.values() for word in targets}
    _check_blanks(words, found, where)
    names = classes or tuple(sorted(found, key=natural))
    number = {word: position for position, word in enumerate(names)}
    for split, targets in words.items():
        for index, word in enumerate(targets):
            if word not in number:
                told = f"The target of {where(split, index)} is '{word}', which is not among the classes {', '.join(names)}."
                raise DataError(told, "Fix it.")
    empty = [name for name in names if name.strip().lower() in _BLANKS]
    notes = tuple(f"the class '{name}' may stand for missing labels: leave its examples out if so" for name in empty)
    return {split: torch.tensor([number[word] for word in targets]) for split, targets in words.items()}, names, notes


def _check_blanks(words: Mapping[str, Sequence[str]], found: set[str], where: Where) -> None:
    """Refuse words that look the same, since only the blanks around them differ."""
    for word in sorted(found):
        if word != word.strip() and word.strip() in found:
            split, index = next((split, targets.index(word)) for split, targets in words.items() if word in targets)
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


def _tell(tensors: Mapping[str, Tensor], classes: tuple[str, ...] | None) -> Task:
    train = tensors["train"]
    if train.ndim == 2:
        if not _is_binary(tensors):
            return "regression"
        return "single-label" if _is_one_hot(tensors) else "multi-label"
    return "regression" if train.is_floating_point() and classes is None else "single-label"


def _about_columns(train: Tensor, task: Task) -> tuple[str, ...]:
    """Say what targets were taken for that could mean something else."""
    if task == "multi-label":
        return (f"targets are a table of 0 and 1: {train.shape[1]} labels that can be true together",)
    if train.ndim == 2 and _are_shares(train):
        return (
            f"targets are rows that add up to 1, taken as {train.shape[1]} quantities: regression; where they are probabilities of "
            "classes, give the most probable class of each example instead",
        )
    if (train != train.round()).any():
        return ()
    values = train.unique().tolist()
    if train.ndim == 2 and len(values) == 2:
        low, high = (f"{value:.15g}" for value in values)
        return (
            f"targets are a table of {low} and {high}, taken as {train.shape[1]} quantities: regression; where they are labels, "
            "write them as 0 and 1",
        )
    if train.ndim == 2 and len(values) <= _FEW:
        return (
            f"targets are a table of whole numbers, taken as {train.shape[1]} quantities: regression; where its columns are labels, "
            "train on one of them at a time",
        )
    if train.is_floating_point() and len(values) <= _FEW:
        return ("targets are whole numbers written as decimals: regression; data.task = single-label if they are labels",)
    return ()


def _are_shares(table: Tensor) -> bool:
    return table.shape[1] > 1 and bool((table >= 0).all()) and bool(((table.double().sum(1) - 1).abs() < 1e-3).all())


def _about_codes(names: Sequence[str]) -> tuple[str, ...]:
    """Say which classes may be none: numbers below 0 beside others that count from 0."""
    below = [name for name in names if name.startswith("-")]
    if not below or "0" not in names:
        return ()
    return (f"labels below 0 are classes too ({', '.join(below[:5])}): leave their examples out where they stand for no label",)


def _quantities(tensors: Mapping[str, Tensor], where: Where) -> dict[str, Tensor]:
    """Return quantities as tables of numbers that are exact, or as exact as float64 is over the range of all."""
    exact = {name: tensor.double().reshape(len(tensor), -1) for name, tensor in tensors.items()}
    for name, table in exact.items():
        far = (table.abs() > _LARGEST).any(1)
        if far.any():
            bad = int(far.nonzero()[0])
            raise DataError(f"The target of {where(name, bad)} is larger than {_LARGEST:g}.", "Use a larger unit.")
        if not tensors[name].is_floating_point():
            _check_rounding(tensors[name].reshape(table.shape), table, name, where)
    spread = exact["train"].amax(0) - exact["train"].amin(0)
    if ((spread > 0) & (spread < 1 / _LARGEST)).any():
        raise DataError(f"The targets differ by less than {1 / _LARGEST:g}.", "Use a smaller unit.")
    if all(bool((table.float() == table).all()) for table in exact.values()):
        return {name: table.float() for name, table in exact.items()}
    return exact


def _check_rounding(whole: Tensor, rounded: Tensor, name: str, where: Where) -> None:
    """Refuse whole numbers of which float64 keeps too little of what tells them apart: less than float32 keeps near 0."""
    step = 2.0 ** (math.frexp(float(rounded.abs().max()))[1] - 53)
    spread = float((rounded.amax(0) - rounded.amin(0)).min())
    is_lost = (rounded.long() != whole).any(1)
    if spread < 2.0**24 * step and is_lost.any():
        bad = int(is_lost.nonzero()[0])
        told = f"The target of {where(name, bad)} is {', '.join(map(str, whole[bad].tolist()))}"
        raise DataError(f"{told}: beside its size the targets differ too little for float64.", "Subtract the smallest from all.")


def _is_binary(tensors: Mapping[str, Tensor]) -> bool:
    return all(bool(((tensor == 0) | (tensor == 1)).all()) for tensor in tensors.values())


def _is_one_hot(tensors: Mapping[str, Tensor]) -> bool:
    return _is_binary(tensors) and all(bool((tensor.sum(1) == 1).all()) for tensor in tensors.values())


def _codes(
    tensors: Mapping[str, Tensor], classes: tuple[str, ...] | None, where: Where, *, asked: bool
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Number the labels from 0 and name them."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            _check_whole(tensor, name, where)
    is_truth = all(tensor.dtype == torch.bool for tensor in tensors.values())
    codes = {name: tensor.long() for name, tensor in tensors.items()}
    if classes is not None:
        for name, tensor in codes.items():
            outside = (tensor < 0) | (tensor >= len(classes))
            if outside.any():
                bad = int(outside.nonzero()[0])
                raise DataError(f"The label of {where(name, bad)} is {int(tensor[bad])}, but there are {len(classes)} classes.", _REMOVE)
        return codes, classes
    labels = torch.cat(list(codes.values()))
    values = labels.unique()
    if not asked and len(values) > 100 and len(values) > len(labels) / 2:
        raise DataError(
            f"The targets are {len(values)} different whole numbers for {len(labels)} examples: quantities rather than labels?",
            "Say so: data.task = regression, or single-label if each really is a class.",
        )
    names = tuple(str(bool(value) if is_truth else value) for value in values.tolist())
    return {name: torch.searchsorted(values, tensor) for name, tensor in codes.items()}, names


def _check_whole(labels: Tensor, name: str, where: Where) -> None:
    """Refuse labels with a fraction, and such as may have been rounded to their type already: two classes would be one."""
    fraction = labels != labels.round()
    if fraction.any():
        bad = int(fraction.nonzero()[0])
        raise DataError(
            f"The label of {where(name, bad)} is {labels[bad].item():g}, which has a fraction.",
            "Use whole numbers or words as labels, or task regression.",
        )
    whole = 2 / torch.finfo(labels.dtype).eps
    beyond = labels.abs() > whole
    if beyond.any():
        bad = int(beyond.nonzero()[0])
        kind = str(labels.dtype).removeprefix("torch.")
        raise DataError(
            f"The label of {where(name, bad)} is {labels[bad].item():.0f}, but {kind} has not all whole numbers beyond {whole:.0f}: "
            "others may have been rounded to it.",
            "Give labels as whole numbers (int64) or words from the start.",
        )


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
