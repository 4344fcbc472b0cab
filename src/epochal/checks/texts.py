"""Findings in texts: empty ones, and those in nearly the same words as others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from epochal.checks.copies import Loaded
from epochal.checks.duplicates import joined
from epochal.checks.findings import Case, Finding
from epochal.data.load import Data
from epochal.shown import counted

# Texts are nearly equal if they share this part of their n-grams or words, of which each has at least so many.
_ALIKE, _LEAST = 0.8, 20

# Texts that share 0.8 of their n-grams have a band of equal minima with a probability of 99.7 %.
_BANDS, _IN_BAND = 8, 3
_AT_ONCE = 1000


def text_findings(data: Loaded) -> Iterator[Finding]:
    """Yield the empty texts, and those that are nearly equal, among int32 inputs [n, 2, length] or [n, length]."""
    ids = [(values[:, 0] if values.ndim == 3 else values).cpu().numpy() for values in data.inputs]
    used = np.concatenate([(values > 0).sum(1) for values in ids])
    empty = np.flatnonzero(used == 0).tolist()
    if empty:
        cases = tuple(Case((data.among.name(place),), "no words", (data.among.name(place),)) for place in empty)
        yield Finding(
            "warning", "empty", f"{counted(len(empty), 'text')} without words", "Remove them: --quarantine FILE lists them.", cases
        )
    copies = {place: group[0] for group in data.groups for place in group}
    pairs = [(one, two) for one, two in _nearly_equal(ids, used) if copies.get(one, one) != copies.get(two, two)]
    groups = joined(sorted(pairs))
    leaking = [group for group in groups if len({data.among.split(place) for place in group}) > 1]
    for found, kind, where, fix in (
        (leaking, "near leakage", "present in several splits", "The score would include nearly memorized texts: leave out one of each."),
        ([group for group in groups if group not in leaking], "near duplicates", "present more than once", "Leave out all but one."),
    ):
        if found:
            cases = tuple(Case(tuple(map(data.among.name, group))) for group in found)
            noun = "text" if len(found) == 1 else "texts"
            yield Finding("warning", kind, f"{len(found):,} {noun} {where} in nearly the same words", fix, cases)


def _nearly_equal(ids: Sequence[NDArray[np.int32]], used: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield pairs of nearly equal texts, each text with the one before it that has the same minima of hashes in a band."""
    starts = np.cumsum([0, *map(len, ids)])
    minima = np.concatenate([_minima(values[at : at + _AT_ONCE]) for values in ids for at in range(0, len(values), _AT_ONCE)])
    usable = np.flatnonzero(used >= _LEAST)
    seen = set[tuple[int, int]]()

    def text(place: int) -> NDArray[np.int32]:
        part = int(np.searchsorted(starts, place, "right")) - 1
        row = ids[part][place - int(starts[part])]
        return np.unique(row[row > 0])

    for band in np.split(minima[usable], _BANDS, axis=1):
        order = np.lexsort(band.T)
        same = np.flatnonzero((band[order[1:]] == band[order[:-1]]).all(1))
        for one, two in zip(usable[order[same]].tolist(), usable[order[same + 1]].tolist(), strict=True):
            pair = (min(one, two), max(one, two))
            if pair not in seen:
                seen.add(pair)
                first, second = text(one), text(two)
                shared = len(np.intersect1d(first, second, assume_unique=True))
                if shared >= _ALIKE * (len(first) + len(second) - shared):
                    yield pair


def _minima(ids: NDArray[np.int32]) -> NDArray[np.uint32]:
    """Return the least of several hashes of the numbers of each text: [n, hashes]."""
    numbers, is_padding = ids.astype(np.uint32), ids == 0
    found = np.empty((len(ids), _BANDS * _IN_BAND), np.uint32)
    for place, factor in enumerate(np.random.default_rng(0).integers(1, 2**31, found.shape[1]).astype(np.uint32)):
        hashes = numbers * (factor * np.uint32(2) + np.uint32(1))
        hashes ^= hashes >> np.uint32(15)
        hashes *= np.uint32(0x2C1B3C6D)
        hashes[is_padding] = 0xFFFFFFFF
        found[:, place] = hashes.min(1)
    return found


def encoding_findings(data: Data) -> Iterator[Finding]:
    """Yield the texts whose letters were once decoded wrongly: valid UTF-8, but not what was written."""
    for words, fix, is_so in (
        ("with signs in place of bytes that were not understood (�)", "Read them again from where they come.", _is_replaced),
        ("that were written as UTF-8 and read as another encoding (such as Ã© for é)", "Read them again as UTF-8.", _is_misread),
    ):
        found = [(part, index) for part in data.splits.values() for index in range(len(part)) if is_so(part.text(index))]
        if found:
            cases = tuple(Case((part.where(index),), _around(part.text(index))) for part, index in found)
            yield Finding("warning", "encoding", f"{counted(len(found), 'text')} {words}", fix, cases)


def _is_replaced(text: str) -> bool:
    return "\ufffd" in text


def _is_misread(text: str) -> bool:
    """Whether the letters beyond ASCII of a text, in the bytes of another encoding, are UTF-8.

    A few Chinese letters may have the form of UTF-8 by chance, six hardly ever.
    """
    letters = "" if text.isascii() else "".join(letter for letter in text if letter > "\x7f")
    for encoding, least in (("cp1252", 2), ("gb18030", 6)):
        if len(letters) >= least:
            with suppress(UnicodeError):
                letters.encode(encoding).decode("utf-8")
                return True
    return False


def _around(text: str) -> str:
    """Return the place of the first letter beyond ASCII."""
    place = next(index for index, letter in enumerate(text) if letter > "\x7f")
    return " ".join(text[max(0, place - 20) : place + 20].split())
