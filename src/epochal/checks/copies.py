"""Findings about equal and nearly equal examples: leakage, contradictions, and duplicates."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from epochal.checks.duplicates import Pairs, joined, nearly_equal
from epochal.checks.findings import Case, Finding, Severity
from epochal.data.spec import SPLITS
from epochal.shown import counted

_LEAVE_OUT = "Leave the copies out: --quarantine FILE lists them."


@dataclass(frozen=True)
class Labelled:
    """Examples in the order of train, valid and test: the split, the label and the name of each; `noun` is their singular noun.

    `has_classes` says that labels are classes, not quantities; `is_distinct`, that equal inputs are the same example.
    """

    split: Callable[[int], str]
    label: Callable[[int], Hashable]
    name: Callable[[int], str]
    noun: str = "picture"
    has_classes: bool = True
    is_distinct: bool = True


class Loaded(NamedTuple):
    """Examples in memory: the rule of their inputs, inputs [n, *shape] by split, training first, and groups of indices of equal ones."""

    rule: Any
    inputs: Sequence[Tensor]
    groups: Sequence[Sequence[int]]
    among: Labelled


def about_equal(groups: Iterable[Sequence[int]], among: Labelled) -> Iterator[Finding]:
    """Yield findings about groups of equal examples.

    Equal rows of numbers may well be different examples; equal pictures hardly ever are.
    """
    leaking, torn, repeated = _sorted(groups, among)
    noun = among.noun
    is_sure = among.is_distinct
    fix = _LEAVE_OUT if is_sure else f"Rows that only happen to be equal may stay. {_LEAVE_OUT}"
    if leaking:
        words = f"{counted(len(leaking), noun)} {_are(leaking)} in {_where(leaking, among)}"
        severity: Severity = "error" if is_sure else "warning"
        cases = tuple(_case(group, among) for group in leaking)
        yield Finding(severity, "leakage", words, f"The score would include memorized examples. {fix}", cases)
    if torn:
        parted = [group for group in torn if _splits(group, among) > 1]
        words = f"{counted(len(torn), noun)} {_are(torn)} {'in two classes' if among.has_classes else 'present with different targets'}"
        words += f", {len(parted):,} of them in {_where(parted, among)}" if parted and not is_sure else ""
        severity = "error" if is_sure else "warning" if parted else "note"
        cases = tuple(_torn(group, among) for group in torn)
        yield Finding(severity, "contradiction", words, f"Only one can be right. {fix}" if is_sure else fix, cases)
    if repeated:
        copies = sum(map(len, repeated)) - len(repeated)
        words = f"{counted(len(repeated), noun)} {_are(repeated)} present more than once ({counted(copies, 'copy', 'copies')})"
        yield Finding("warning" if is_sure else "note", "duplicates", words, fix, tuple(_case(group, among) for group in repeated))


def about_nearly_equal(pairs: Pairs, equal: Iterable[Sequence[int]], among: Labelled) -> Iterator[Finding]:
    """Yield findings about pairs of nearly equal pictures; `equal` are groups of equal ones, of which pairs have only the first."""
    others = {group[0]: list(group) for group in equal}
    turned = [
        (one, two)
        for (one, two), mirrored in zip(pairs.places.tolist(), pairs.mirrored.tolist(), strict=True)
        if mirrored and among.label(one) != among.label(two)
    ]
    plain = set(map(tuple, pairs.places.tolist())).difference(turned)
    groups = [sorted(copy for place in group for copy in others.get(place, [place])) for group in joined(sorted(plain))]
    leaking, torn, repeated = _sorted(groups, among)
    nearly = "resized, recompressed, mirrored or retouched"
    if leaking:
        words = f"{counted(len(leaking), 'picture')} {_are(leaking)} in {_where(leaking, among)}, {nearly}"
        fix = "The score would include nearly memorized examples. " + _LEAVE_OUT
        yield Finding("error", "near leakage", words, fix, tuple(_case(group, among) for group in leaking))
    if torn:
        words = f"{counted(len(torn), 'picture')} {_are(torn)} in two classes, {nearly}"
        fix = "Check their classes; a difference may be small, but decisive."
        yield Finding("warning", "near contradiction", words, fix, tuple(Case(_names(group, among)) for group in torn))
    if repeated:
        words = f"{counted(len(repeated), 'picture')} {_are(repeated)} present more than once, {nearly}"
        fix = f"{_LEAVE_OUT} Or, if they show one thing or person, --group keeps these in one split, and counts them together."
        yield Finding("warning", "near duplicates", words, fix, tuple(_case(group, among) for group in repeated))
    if turned:
        words = f"{counted(len(turned), 'picture')} {_are(turned)} the mirror image of one in another class"
        fix = "Check both classes; if they are right, augment.flip would create wrong examples."
        yield Finding("warning", "mirrored", words, fix, tuple(Case(_names(pair, among)) for pair in turned))


def about_single(thumbs: Tensor, colours: Tensor, equal: Sequence[Sequence[int]], among: Labelled) -> Iterator[Finding]:
    """Look for nearly equal pictures (see `nearly_equal`) among all but those that repeat `equal` ones."""
    copies = {place for group in equal for place in group[1:]}
    single = torch.tensor([place for place in range(len(thumbs)) if place not in copies], dtype=torch.long)
    pairs = nearly_equal(thumbs[single], colours[single])
    yield from about_nearly_equal(Pairs(single[pairs.places], pairs.mirrored), equal, among)
    if pairs.crowded:
        words = f"{counted(pairs.crowded, 'picture')} so similar to many others that only exact copies are reported"
        yield Finding("note", "alike", words, "Nothing needs to be done: simple pictures are often alike.")


def _sorted(groups: Iterable[Sequence[int]], among: Labelled) -> tuple[list[Sequence[int]], list[Sequence[int]], list[Sequence[int]]]:
    """Sort groups into those in several splits, those with several labels, and the rest."""
    leaking, torn, repeated = list[Sequence[int]](), list[Sequence[int]](), list[Sequence[int]]()
    for group in groups:
        if len({among.label(place) for place in group}) > 1:
            torn.append(group)
        elif _splits(group, among) > 1:
            leaking.append(group)
        else:
            repeated.append(group)
    return leaking, torn, repeated


def _splits(group: Sequence[int], among: Labelled) -> int:
    return len({among.split(place) for place in group})


def _case(group: Sequence[int], among: Labelled) -> Case:
    """Keep one: the first in test, else in valid, else in train, so that the test set stays as it is."""
    kept = max(group, key=lambda place: (SPLITS.index(among.split(place)), -place))
    left_out = tuple(among.name(place) for place in group if place != kept)
    return Case(_names(group, among), leave_out=left_out)


def _torn(group: Sequence[int], among: Labelled) -> Case:
    names = _names(group, among)
    return Case(names, leave_out=names)


def _names(group: Sequence[int], among: Labelled) -> tuple[str, ...]:
    return tuple(among.name(place) for place in group)


def _where(groups: Sequence[Sequence[int]], among: Labelled) -> str:
    """Return in which splits groups are: "both train and test"."""
    found = {among.split(place) for group in groups for place in group}
    named = [split for split in SPLITS if split in found]
    return f"both {named[0]} and {named[1]}" if len(named) == 2 else "more than one of train, valid and test"


def _are(groups: Sequence[object]) -> str:
    return "is" if len(groups) == 1 else "are"
