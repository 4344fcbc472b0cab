"""Findings in a folder of pictures; every file is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from epochal.checks.copies import Labelled, about_equal, about_single
from epochal.checks.duplicates import equal, hash_keys
from epochal.checks.files import about_empty, about_kinds, about_sizes, about_unreadable, about_unused
from epochal.checks.findings import Finding, about_classes
from epochal.checks.groups import about_groups
from epochal.checks.survey import SMALL, survey
from epochal.data.inputs.picture.read import open_picture
from epochal.data.sources.groups import groups_of
from epochal.data.sources.layout import Listed, problems
from epochal.data.storage.cache import content_hash
from epochal.errors import DataError


def folder_findings(listed: Listed, group: str | None = None) -> Iterator[Finding]:
    """Yield the findings in a folder. Unreadable files are only reported as such. `group` is a pattern in file names; see `groups_of`."""
    yield from map(layout_finding, problems(listed))
    names = [file for split in listed.splits for file in listed.files(split)]
    found = survey([f"{listed.root}/{file}" for file in names])
    yield from about_unreadable({names[place]: error.problem for place, error in found.wrong.items()}, listed.root)
    yield from about_unused(listed.unused, listed.root)
    yield from about_empty(listed.empty)
    yield from about_classes(_class_counts(listed), listed.classes)
    if group:
        named = {split: groups_of(listed.files(split), group) for split in listed.splits}
        yield from about_groups(named, lambda split, place: listed.files(split)[place], group)
    splits = [split for split in listed.splits for _ in listed.files(split)]
    labels = [label for split in listed.splits for label in listed.targets(split).tolist()]
    kept = [place for place in range(len(names)) if place not in found.wrong]
    known, files = found.known[kept], [names[place] for place in kept]
    yield from about_kinds(known, files)
    yield from about_sizes(known, files)
    among = Labelled(lambda place: splits[kept[place]], lambda place: labels[kept[place]], files.__getitem__)
    groups = equal(hash_keys(known["small"]), _Pixels(known, [f"{listed.root}/{file}" for file in files]).identity)
    yield from about_equal(groups, among)
    yield from about_single(_tensor(known["thumb"]), _tensor(known["colour"]), groups, among)


def layout_finding(error: DataError) -> Finding:
    """Return the finding about an unclear layout."""
    return Finding("error", "layout", error.problem.rstrip("."), error.fix)


def _class_counts(listed: Listed) -> Mapping[str, Sequence[int]]:
    return {split: np.bincount(listed.targets(split).numpy(), minlength=len(listed.classes)).tolist() for split in listed.splits}


def _tensor(column: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(column))


class _Pixels:
    """Distinguishes pictures that are equal at the small size, by the hash of all their pixels."""

    def __init__(self, known: Any, paths: Sequence[str]) -> None:
        self.known = known
        self.paths = paths
        self.seen: dict[bytes, bytes] = {}

    def identity(self, place: int) -> tuple[int, int, bytes]:
        row = self.known[place]
        height, width, small = int(row["height"]), int(row["width"]), row["small"].tobytes()
        if (height, width) == SMALL.side:
            return height, width, small
        content = row["hash"].tobytes()
        if content not in self.seen:
            self.seen[content] = content_hash(open_picture(self.paths[place]).convert("RGB").tobytes())
        return height, width, self.seen[content]
