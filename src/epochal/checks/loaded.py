"""What is found in data that are loaded: all of it, or what is found in no time before they are trained on."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from epochal.checks.copies import Labelled, about_equal, about_single
from epochal.checks.duplicates import equal, hash_keys, row_keys
from epochal.checks.findings import Case, Finding, about_classes, count
from epochal.checks.survey import SIDE
from epochal.data.examples import Examples
from epochal.data.load import Data
from epochal.data.standard import apart


def loaded_findings(data: Data) -> Iterator[Finding]:
    """Yield what is found in data."""
    parts, among = list(data.splits.values()), _labelled(data)
    yield from _about_classes(data)
    groups = _equal_examples(parts)
    yield from about_equal(groups, among)
    yield from _about_scale(data)
    inputs = [part.inputs for part in parts if isinstance(part.inputs, Tensor)]
    if len(inputs) < len(parts):
        return
    is_picture = data.spec.is_image and data.spec.dtype == "uint8"
    yield from _about_inputs(inputs, among, is_picture=is_picture)
    if is_picture and min(data.spec.shape[1:]) >= SIDE:
        small = [_small(values) for values in inputs]
        yield from about_single(torch.cat([thumb for thumb, _ in small]), torch.cat([colour for _, colour in small]), groups, among)


def in_one_line(data: Data) -> str:
    """Return what is quickly found and matters in data that are split, in one line; "" where there is nothing."""
    found = [*_about_classes(data)]
    found += about_equal(_equal_examples(list(data.splits.values())), _labelled(data))
    found += _about_scale(data)
    return "; ".join(finding.words for finding in found if finding.severity != "note" and finding.kind != "duplicates")


def _about_scale(data: Data) -> Iterator[Finding]:
    """Yield splits whose inputs are of another scale than those of training, such as pixels from 0 to 255 beside such from 0 to 1."""
    for split, part in data.splits.items():
        told = "" if split == "train" else apart(part.inputs, data.spec.std)
        if told:
            yield Finding("warning", "scale", f"inputs of {split} {told} than those of train", "Bring all splits in one unit.")


def _about_classes(data: Data) -> Iterator[Finding]:
    """Yield what is found in the numbers of examples of each class; of train, as it was brought: before others were cut from it."""
    counts = data.spec.task.class_counts
    if counts:
        of_train = (counts[name] for name, examples in data.splits.items() if examples.part == "train")
        yield from about_classes({**counts, "train": tuple(map(sum, zip(*of_train, strict=True)))}, data.outputs)


def _about_inputs(inputs: Sequence[Tensor], among: Labelled, *, is_picture: bool) -> Iterator[Finding]:
    """Yield inputs without anything on them, and numbers that are the same in all training examples."""
    if is_picture:
        flat = torch.cat([values.flatten(1) for values in inputs])
        blank = (flat == flat[:, :1]).all(1).nonzero().flatten().tolist()
        if blank:
            words = f"{count(len(blank), 'picture')} with nothing to see: one colour everywhere"
            yield Finding(
                "warning",
                "blank",
                words,
                "Remove them, unless that is a class of yours.",
                tuple(Case((among.name(place),)) for place in blank),
            )
    elif inputs[0].ndim == 2:
        train = inputs[0]
        constant = (train == train[0]).all(0).nonzero().flatten().tolist()
        if constant:
            words = f"{count(len(constant), 'input')} never changing: {', '.join(f'number {place}' for place in constant[:5])}"
            yield Finding("note", "constant", words, "It tells nothing: leave it out, or see whether it was read rightly.")


def _small(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Return grey thumbnails (uint8 [n, side, side]) and mean colours (float32 [n, 3]) of pictures (uint8 [n, channels, height, width])."""
    thumbs, colours = [], []
    for some in pictures.split(2048):
        levels = torch.nn.functional.adaptive_avg_pool2d(some.float(), SIDE)
        thumbs.append(levels.mean(1).round().to(torch.uint8))
        means = levels.mean((2, 3))
        colours.append(means if means.shape[1] == 3 else means.mean(1, keepdim=True).expand(-1, 3))
    return torch.cat(thumbs), torch.cat(colours)


def _equal_examples(parts: Sequence[Examples]) -> list[list[int]]:
    """Return groups of equal examples, counted through all parts: by the hashes of their files, or by their inputs in memory."""
    hashes = [part.hashes[part.positions.numpy()] for part in parts if part.hashes is not None]
    if len(hashes) == len(parts):
        content = np.concatenate(hashes)
        return equal(hash_keys(content), lambda place: content[place].tobytes())
    inputs = [part.inputs for part in parts if isinstance(part.inputs, Tensor)]
    if len(inputs) < len(parts):
        return []
    starts = np.cumsum([0, *map(len, inputs)])

    def row(place: int) -> bytes:
        part = int(np.searchsorted(starts, place, "right")) - 1
        return inputs[part][place - int(starts[part])].contiguous().numpy().tobytes()

    return equal(np.concatenate([row_keys(values) for values in inputs]), row)


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

    noun = "picture" if data.spec.is_image else "example"
    return Labelled(lambda place: names[found(place)[0]], label, name, noun, has_classes=data.task.has_classes)
