"""Data that a Python program already holds: arrays, tensors, a map-style Dataset, a DataLoader, or one of these per split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler, TensorDataset
from torch.utils.data import default_collate as collate

from epochal.data.examples import Found, Part
from epochal.data.spec import SPLITS
from epochal.device import free_memory
from epochal.errors import DataError
from epochal.progress import progress
from epochal.random import drawn_from, key

# How many examples are read twice to see whether a Dataset changes them at random.
_PROBES = 8


def find_objects(what: Any) -> Found:
    """Return what a Python object holds: (x, y), a map-style `Dataset`, a `DataLoader`, or a mapping from split to one of these.

    A Dataset is read once and kept in memory, unless it gives other values at every reading (random transforms) or would not
    fit; then it is read example by example in every epoch. A DataLoader gives its Dataset and its batch size.
    """
    if not isinstance(what, Mapping):
        what = {"train": what}
    strange = [name for name in what if name not in SPLITS]
    if strange or "train" not in what:
        raise DataError(f"The splits {', '.join(map(str, what))} cannot be used.", "Name them train, and if there are any valid and test.")
    notes: list[str] = []
    parts = {name: _part(what[name], name, notes) for name in SPLITS if name in what}
    loader = what["train"]
    batch_size = loader.batch_size if isinstance(loader, DataLoader) else None
    return Found(_name(loader), parts, notes=tuple(notes), batch_size=batch_size)


def _name(what: Any) -> str:
    if isinstance(what, DataLoader):
        return _name(what.dataset)
    return "arrays" if isinstance(what, Sequence) else type(what).__name__


def _part(what: Any, split: str, notes: list[str]) -> Part:
    if isinstance(what, DataLoader):
        if not isinstance(what.sampler, RandomSampler | SequentialSampler) or what.batch_size is None:
            raise DataError("A DataLoader with a sampler of its own cannot be used.", "Pass its dataset, with the examples you want.")
        if what.collate_fn is not collate:
            raise DataError("A DataLoader with a collate function of its own cannot be used.", "Let the dataset return finished examples.")
        what = what.dataset
    if isinstance(what, TensorDataset) and len(what.tensors) == 2:
        what = what.tensors
    if isinstance(what, Sequence) and not isinstance(what, str) and len(what) == 2:
        return Part(_tensor(what[0], f"the inputs of {split}"), _targets(what[1], split))
    if isinstance(what, IterableDataset) or not (hasattr(what, "__getitem__") and hasattr(what, "__len__")):
        raise DataError(
            f"Data of type {type(what).__name__} cannot be used: it has no length and index.",
            "Pass (x, y), a map-style Dataset, a DataLoader, or {'train': ..., 'test': ...}.",
        )
    with drawn_from(key("read", split)):
        return _read(what, split, notes)


def _read(dataset: Dataset[Any], split: str, notes: list[str]) -> Part:
    """Read a Dataset once: its targets always, its inputs if they can be kept."""
    count = len(dataset)  # type: ignore[arg-type]
    if count == 0:
        raise DataError(f"The dataset for {split} is empty.", "Bring examples.")
    inputs = _DatasetInputs(dataset, split)
    varies = any(not _alike(inputs[place], inputs[place]) for place in range(0, count, max(1, count // _PROBES)))
    first, memory = inputs[0], free_memory()
    fits = memory is None or count * first.nbytes < memory / 2
    kept = torch.empty((count, *first.shape), dtype=first.dtype) if fits and not varies else None
    targets = []
    with progress(f"Reading {split}", count) as advance:
        for place in range(count):
            value, target = inputs.example(place)
            targets.append(target)
            if value.shape != first.shape or value.dtype != first.dtype:
                raise DataError(f"{split}[{place}] is {_kind(value)}, but {split}[0] is {_kind(first)}.", "Make all inputs alike.")
            if kept is not None:
                kept[place] = value
            advance()
    if kept is None:
        why = "it gives other values at every reading" if varies else "it does not fit memory"
        notes.append(f"the dataset for {split} is read anew in each epoch: {why}")
    return Part(inputs if kept is None else kept, _targets(targets, split))


def _alike(one: Tensor, two: Tensor) -> bool:
    # NaN, which is for others to find, differs from itself.
    return torch.equal(one.nan_to_num(), two.nan_to_num())


def _kind(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"


class _DatasetInputs:
    """The inputs of a Dataset, read one by one."""

    def __init__(self, dataset: Dataset[Any], split: str) -> None:
        self.dataset = dataset
        self.split = split

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Tensor:
        return self.example(index)[0]

    def example(self, index: int) -> tuple[Tensor, Any]:
        item = self.dataset[index]
        if not isinstance(item, Sequence) or len(item) != 2:
            raise DataError(f"{self.split}[{index}] is not a pair (input, target).", "Let the dataset return (x, y).")
        return _tensor(item[0], f"{self.split}[{index}]"), item[1]


def _tensor(value: Any, where: str) -> Tensor:
    """Turn an array, a number, a list or a picture into a tensor; pictures get their channels first."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, Image.Image):
        array = numpy.asarray(value if value.mode in ("L", "RGB") else value.convert("RGB"))
        return torch.from_numpy(array.copy() if array.ndim == 2 else array.transpose(2, 0, 1).copy())[(None,) * (array.ndim == 2)]
    try:
        array = numpy.asarray(value)
        array = numpy.ascontiguousarray(array, array.dtype.newbyteorder("="))
        return torch.from_numpy(array if array.flags.writeable else array.copy())
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{where.capitalize()} cannot be turned into numbers: {error}.", "Pass tensors, arrays, numbers or pictures."
        ) from error


def _targets(values: Any, split: str) -> Tensor | list[str]:
    if isinstance(values, Sequence) and len(values) and isinstance(values[0], Tensor):
        values = [value.tolist() for value in values]
    if not isinstance(values, Tensor):
        words = numpy.asarray(values, dtype=object)
        if words.ndim == 1 and all(isinstance(word, str) for word in words):
            return [str(word) for word in words]
    return _tensor(values, f"the targets of {split}")
