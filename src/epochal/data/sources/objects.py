"""Data passed as Python objects: arrays, tensors, a map-style Dataset, a DataLoader, or one of these per split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf
from time import monotonic
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler, TensorDataset, WeightedRandomSampler
from torch.utils.data import default_collate as collate

from epochal.data.examples import Found, Part
from epochal.data.inputs.picture.read import open_picture, to_tensor
from epochal.data.inputs.picture.rule import PictureRule, alike_fix
from epochal.data.inputs.values import Inputs, OneByOne
from epochal.data.numbers import as_tensor
from epochal.data.options import NO_OPTIONS, ReadOptions, refuse_table_options
from epochal.data.sources import table, text_tables
from epochal.data.sources.targets import read_targets
from epochal.data.sources.texts import Texts, as_texts, found_texts
from epochal.data.spec import SPLITS
from epochal.device import free_memory
from epochal.errors import DataError, EpochalError
from epochal.progress import progress
from epochal.random import key, seeded

# About this many examples are read again to see whether a Dataset changes them at random, even if rarely; with a slow Dataset, the
# first eight and as many as a second is enough for.
_PROBES = 64
_SURE_PROBES = 8
_PROBE_SECONDS = 1.0

_WRAPPED = """Let the dataset return finished examples, or wrap it:
    class Pairs(torch.utils.data.Dataset):
        def __init__(self, data): self.data = data
        def __len__(self): return len(self.data)
        def __getitem__(self, place): {reading}"""


def find_objects(what: Any, options: ReadOptions = NO_OPTIONS) -> Found:
    """Return the data in a Python object: (x, y), a map-style `Dataset`, a `DataLoader`, or a mapping from split to one of these.

    A Dataset is read once and kept in memory, unless its values change each time they are read (random transforms) or take more
    than `options.memory` bytes (by default, half of what is free); then it is read example by example in every epoch. Of a DataLoader,
    the Dataset and the batch size are used. With `options.like`, the data are for a trained model. Raises `DataError`.
    """
    if text_tables.has_texts(what, options):
        return text_tables.read(what, options)
    if options.table.targets or (options.like is not None and options.like.input.kind == "table"):
        return table.read(table.with_targets(what, options)[0], options)
    tables, targets = table.with_targets(what, options)
    if targets:
        return table.read(tables, replace(options, table=replace(options.table, targets=targets)))
    refuse_table_options(options, _name(what))
    if not isinstance(what, Mapping):
        what = {"train": what}
    strange = [name for name in what if name not in SPLITS]
    if strange or "train" not in what:
        raise DataError(
            f"The splits {', '.join(map(str, what))} cannot be used.",
            "Name them train, and if there are any valid and test; or if these are columns of a table, pass target=NAME.",
        )
    if (texts := _texts(what)) is not None:
        return found_texts("texts", texts, options)
    notes: list[str] = []
    parts = {name: _part(what[name], name, notes, options.memory) for name in SPLITS if name in what}
    loader = what["train"]
    if options.like is None and isinstance(loader, DataLoader) and isinstance(loader.sampler, SequentialSampler):
        notes.append("training shuffles by seed; the DataLoader's fixed order is not used")
    batch_size = loader.batch_size if isinstance(loader, DataLoader) else None
    return Found(_name(loader), parts, notes=tuple(notes), batch_size=batch_size)


def _texts(what: Mapping[str, Any]) -> dict[str, Texts] | None:
    """Return lists of strings with their targets, and lists of pairs of both; `None` for anything else."""
    found = {}
    for split in (name for name in SPLITS if name in what):
        one = what[split]
        pairs = (
            isinstance(one, list)
            and all(isinstance(pair, tuple) and len(pair) == 2 for pair in one)
            and as_texts([pair[0] for pair in one], split)
        )
        if pairs:
            found[split] = Texts(pairs, read_targets([pair[1] for pair in one], split))
        elif isinstance(one, Sequence) and len(one) == 2 and (texts := as_texts(one[0], f"the inputs of {split}")) is not None:
            found[split] = Texts(texts, read_targets(one[1], split))
        else:
            return None
    return found


def _name(what: Any) -> str:
    if isinstance(what, DataLoader):
        return _name(what.dataset)
    return "arrays" if isinstance(what, Sequence) else type(what).__name__


def _part(what: Any, split: str, notes: list[str], memory: float | None) -> Part:
    if isinstance(what, DataLoader):
        _check_loader(what)
        what = what.dataset
    if isinstance(what, TensorDataset) and len(what.tensors) == 2:
        what = what.tensors
    if isinstance(what, Sequence) and not isinstance(what, str) and len(what) == 2 and not _lists_examples(what, split):
        return Part(_tensor(what[0], f"the inputs of {split}"), read_targets(what[1], split))
    if hasattr(what, "columns"):
        raise DataError(
            f"A {type(what).__name__} does not say which of its columns are targets.",
            "Pass load(table, target=NAME); or (table[inputs], table[target]).",
        )
    if isinstance(what, IterableDataset) or not (hasattr(what, "__getitem__") and hasattr(what, "__len__")):
        listed = "Where it ends, pass list(...) of it: a list of pairs (input, target). Else: " * isinstance(what, Iterable)
        raise DataError(
            f"Data of type {type(what).__name__} cannot be used: it has no length and index.",
            f"{listed}Pass (x, y), a map-style Dataset, a DataLoader, or {{'train': ..., 'test': ...}}.",
        )
    with seeded(key("read", split)):
        return _read(what, split, notes, memory)


def _lists_examples(what: Sequence[Any], split: str) -> bool:
    """Whether a list of two is two examples (input, target), not inputs and targets. Raises `DataError` if it may be either."""
    if not isinstance(what, list) or not all(isinstance(item, tuple) and len(item) == 2 for item in what):
        return False
    (one, first), (two, second) = [tuple(map(_shape, item)) for item in what]
    if one == first == two == second:
        raise DataError(
            f"Data for {split} that are a list of two pairs may be two examples, or inputs and targets.",
            "Pass inputs and targets as a tuple: (x, y).",
        )
    return bool(one == two and first == second)


def _shape(value: Any) -> Any:
    if isinstance(value, str | Image.Image):
        return type(value)
    return tuple(value.shape) if hasattr(value, "shape") else (len(value),) if isinstance(value, Sequence) else ()


def _check_loader(loader: DataLoader[Any]) -> None:
    """Raise `DataError` for options that would be ignored: only the dataset and the batch size are used."""
    sampler = loader.sampler
    is_plain = isinstance(sampler, RandomSampler | SequentialSampler) and loader.batch_size is not None
    fix = "Pass its dataset; for some of its examples, torch.utils.data.Subset(dataset, places)."
    balance = "Pass its dataset, and sampling = balanced (each class as often), or loss.class_weights = balanced."
    own = f"a sampler of its own ({type(sampler if loader.batch_size is not None else loader.batch_sampler).__name__})"
    for is_so, what, remedy in (
        (isinstance(sampler, WeightedRandomSampler), own, balance),
        (not is_plain, own, fix),
        (isinstance(sampler, RandomSampler) and sampler.replacement, "sampling with replacement", fix),
        (is_plain and len(sampler) != len(loader.dataset), "another number of samples than its dataset has", fix),  # type: ignore[arg-type]
        (loader.drop_last, "drop_last", "Leave that out: the last batch is smaller, and no example is lost."),
        (
            loader.collate_fn is not collate,
            "a collate function of its own",
            _WRAPPED.format(reading="x, y = collate_fn([self.data[place]]); return x[0], y[0]"),
        ),
    ):
        if is_so:
            raise DataError(f"A DataLoader with {what} cannot be used.", remedy)


def _read(dataset: Dataset[Any], split: str, notes: list[str], memory: float | None) -> Part:
    """Read a Dataset once: its targets always, its inputs if they can be kept."""
    count = len(dataset)  # type: ignore[arg-type]
    if count == 0:
        raise DataError(f"The dataset for {split} is empty.", "Add examples.")
    inputs = _DatasetInputs(dataset, split)
    first, free = inputs.read(0), free_memory()
    allowed = memory if memory is not None else inf if free is None else free / 2
    fits = count * first.nbytes < allowed
    kept = torch.empty((count, *first.shape), dtype=first.dtype) if fits else None
    targets, digest = [], hashlib.sha256(_kind(first).encode())
    with progress(f"Reading {split}", count) as advance:
        for place in range(count):
            value, target = inputs.example(place)
            targets.append(target)
            if value.shape != first.shape or value.dtype != first.dtype:
                raise DataError(f"{split}[{place}] is {_kind(value)}, but {split}[0] is {_kind(first)}.", alike_fix(value, first))
            digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
            if kept is not None:
                kept[place] = value
            advance()
    varies = _varies(inputs, inputs if kept is None else kept)
    # The same examples have the same digest whether they fit in memory or not; random ones have none.
    made_from = None if varies else digest.digest()
    if kept is not None and not varies:
        return Part(kept, read_targets(targets, split), digest=made_from)
    why = "its values change each time they are read" if varies else "it does not fit in memory"
    measured = ", so scores vary as well" * (varies and split != "train")
    notes.append(f"the dataset for {split} is read again in each epoch: {why}{measured}")
    return Part(inputs, read_targets(targets, split), digest=made_from, varies=varies)


def _varies(inputs: Inputs, before: Inputs) -> bool:
    """Whether some examples differ from `before` when they are read again."""
    deadline = float("inf")
    for number, place in enumerate(torch.arange(0, len(before), max(1, len(before) // _PROBES)).split(1)):
        if number == _SURE_PROBES:
            deadline = monotonic() + _PROBE_SECONDS
        if monotonic() > deadline:
            break
        if not _alike(inputs[place], before[place]):
            return True
    return False


def _alike(one: Tensor, two: Tensor) -> bool:
    # NaN differs from itself; it is reported elsewhere.
    return torch.equal(one.nan_to_num(), two.nan_to_num())


def _kind(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"


class _DatasetInputs(OneByOne):
    """The inputs of a Dataset, read one by one."""

    def __init__(self, dataset: Dataset[Any], split: str) -> None:
        self.dataset = dataset
        self.split = split

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def read(self, place: int) -> Tensor:
        return self.example(place)[0]

    def example(self, index: int) -> tuple[Tensor, Any]:
        try:
            item = self.dataset[index]
        except EpochalError:
            raise
        except Exception as error:  # the user's own code may raise anything
            problem = f"{self.split}[{index}] cannot be read: {type(error).__name__}: {error}"
            raise DataError(f"{problem.rstrip('.: ')}.", f"Fix the dataset, whose length is {len(self)}.") from error
        if not isinstance(item, Sequence) or len(item) != 2:
            raise _no_pair(item, f"{self.split}[{index}]")
        return _tensor(item[0], f"{self.split}[{index}]"), item[1]


def _no_pair(item: Any, where: str) -> DataError:
    """Return the error that says what an example is instead of a pair, and how to turn it into one."""
    if isinstance(item, Mapping) and len(item) >= 2:
        # The target is most often the last of them.
        names = [*map(repr, item)]
        taken = f"item[{names[0]}], item[{names[-1]}]"
        what = f"a {type(item).__name__} of {', '.join(names)}"
    elif isinstance(item, Sequence) and not isinstance(item, str) and len(item) > 2:
        taken, what = "item[0], item[1]", f"a {type(item).__name__} of {len(item)}"
    else:
        return DataError(f"{where} is not a pair (input, target).", "Let the dataset return (x, y).")
    fix = _WRAPPED.format(reading=f"item = self.data[place]; return {taken}")
    inputs = "For a network with several inputs, concatenate them in one tensor, and split it in a module around the network."
    return DataError(f"{where} is {what}, not a pair (input, target).", f"{fix}\n{inputs}")


def _tensor(value: Any, where: str) -> Tensor:
    """Turn an array, a number, a list or a picture into a tensor; pictures get their channels first."""
    if isinstance(value, Image.Image):
        picture = open_picture(value, where)
        return to_tensor(picture, PictureRule(shape=(1 if picture.mode == "L" else 3, picture.height, picture.width)))
    if isinstance(value, list | tuple) and value and all(isinstance(item, Image.Image) for item in value):
        pictures = [_tensor(item, f"{where} [{index}]") for index, item in enumerate(value)]
        first = pictures[0]
        for index, read in enumerate(pictures):
            if read.shape != first.shape:
                raise DataError(
                    f"Picture {index} of {where} is {_kind(read)}, but the first is {_kind(pictures[0])}.", alike_fix(read, pictures[0])
                )
        return torch.stack(pictures)
    return as_tensor(value, where)
