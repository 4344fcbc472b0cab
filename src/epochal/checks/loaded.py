"""Findings in loaded data: all of them, or those found quickly before training."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence

import numpy as np
from torch import Tensor

from epochal.checks.copies import Labelled, Loaded, about_equal
from epochal.checks.drift import drift_findings
from epochal.checks.duplicates import equal, hash_keys, row_keys
from epochal.checks.findings import Finding, about_classes
from epochal.checks.groups import about_groups
from epochal.checks.numbers import number_findings
from epochal.checks.pictures import picture_findings
from epochal.checks.sounds import sound_findings
from epochal.checks.tables import table_findings
from epochal.checks.texts import encoding_findings, text_findings
from epochal.data.examples import Examples
from epochal.data.inputs.values import in_memory
from epochal.data.load import Data

# Checks for certain input kinds.
_BY_KIND: dict[str, Callable[[Loaded], Iterator[Finding]]] = {
    "numbers": number_findings,
    "picture": picture_findings,
    "sound": sound_findings,
    "text": text_findings,
}


def loaded_findings(data: Data) -> Iterator[Finding]:
    """Yield all findings in data."""
    parts, among = list(data.splits.values()), _labelled(data)
    yield from _about_classes(data)
    yield from _about_groups(data)
    groups = _equal_examples(parts)
    yield from about_equal(groups, among)
    yield from drift_findings(data)
    # Of tables, drift says the same for each column.
    if data.input.kind != "table":
        yield from _about_scale(data)
    inputs = _in_memory(parts)
    find = _BY_KIND.get(data.input.kind)
    if inputs is not None and find is not None:
        yield from find(Loaded(data.input, inputs, groups, among))
    yield from table_findings(data)
    yield from encoding_findings(data)


def in_one_line(data: Data) -> str:
    """Return the important findings in split data that are quick to compute, in one line; "" if there are none."""
    found = [*_about_classes(data), *_about_groups(data)]
    found += about_equal(_equal_examples(list(data.splits.values())), _labelled(data))
    found += _about_scale(data)
    return "; ".join(finding.words for finding in found if finding.severity != "note" and finding.kind != "duplicates")


def _about_scale(data: Data) -> Iterator[Finding]:
    """Yield splits whose inputs differ in scale from those of training, such as pixels from 0 to 255 instead of 0 to 1."""
    for split, part in data.splits.items():
        difference = "" if split == "train" else data.spec.input.differs(part.inputs)
        if difference:
            yield Finding("warning", "scale", f"inputs of {split} {difference} than those of train", "Use the same unit in all splits.")


def _about_classes(data: Data) -> Iterator[Finding]:
    """Yield findings about the number of examples of each class; for train, before other splits were split off from it."""
    counts = data.spec.task.class_counts
    if counts:
        of_train = (counts[name] for name, examples in data.splits.items() if examples.part == "train")
        yield from about_classes({**counts, "train": tuple(map(sum, zip(*of_train, strict=True)))}, data.outputs)


def _about_groups(data: Data) -> Iterator[Finding]:
    groups = {split: named for split, part in data.splits.items() if (named := part.group_names()) is not None}
    yield from about_groups(groups, lambda split, place: data.splits[split].where(place), data.listing.group)


def _equal_examples(parts: Sequence[Examples]) -> list[list[int]]:
    """Return groups of equal examples, numbered through all parts: by the hashes of their files, or by their inputs in memory."""
    hashes = [part.hashes[part.positions.numpy()] for part in parts if part.hashes is not None]
    if len(hashes) == len(parts):
        content = np.concatenate(hashes)
        return equal(hash_keys(content), lambda place: content[place].tobytes())
    inputs = _in_memory(parts)
    if inputs is None:
        return []
    starts = np.cumsum([0, *map(len, inputs)])

    def row(place: int) -> bytes:
        part = int(np.searchsorted(starts, place, "right")) - 1
        return inputs[part][place - int(starts[part])].contiguous().numpy().tobytes()

    return equal(np.concatenate([row_keys(values) for values in inputs]), row)


def _in_memory(parts: Sequence[Examples]) -> list[Tensor] | None:
    """Return the inputs of all parts, or `None` if some are not in memory."""
    inputs = [values for part in parts if (values := in_memory(part.inputs)) is not None]
    return inputs if len(inputs) == len(parts) else None


def _labelled(data: Data) -> Labelled:
    names, parts = list(data.splits), list(data.splits.values())
    starts = np.cumsum([0, *map(len, parts)])

    def found(place: int) -> tuple[int, int]:
        number = int(np.searchsorted(starts, place, "right")) - 1
        return number, place - int(starts[number])

    def label(place: int) -> Hashable:
        number, index = found(place)
        return tuple(parts[number].targets[index].flatten().tolist())

    def name(place: int) -> str:
        number, index = found(place)
        return parts[number].where(index)

    return Labelled(
        lambda place: names[found(place)[0]],
        label,
        name,
        data.input.noun,
        has_classes=data.task.has_classes,
        is_distinct=data.input.is_distinct,
    )
