"""Duplicate pictures: equal ones by hash and comparison; nearly equal ones by what survives resizing, recompression and mirroring.

Nearly equal pictures have nearly the same low frequencies. As in pHash (Zauner, 2010, "Implementation and benchmarking of perceptual
image hash functions"), a grey thumbnail is reduced to its lowest 8×8 cosine coefficients. Here they are not reduced to bits but
compared by their correlation, each weighted by its frequency: natural pictures have amplitudes of about 1/f (Field, 1987), so all
frequencies then count equally, and pictures that only share a bright sky are far apart. A mirrored picture has the same
coefficients, except that those of odd horizontal frequencies change sign, so two products, of the even and of the odd ones, compare two
pictures both ways. Only pictures of nearly the same brightness are compared at all: sorted by it, each meets a small window of others.

Some pictures are similar by nature: one handwritten 1 looks much like the next. A copy stands out, because nothing else is nearly as
similar. If many others are, as in Lowe's ratio test (2004, "Distinctive image features from scale-invariant keypoints"), a pair is
not evidence of copying.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from epochal.data.inputs.picture.decoding import cores
from epochal.device import using_threads

# Pictures with at least this correlation are nearly equal. Pictures of CIFAR-10 that were resized to 20 to 64 pixels, saved as
# JPEG of quality 30 or mirrored reach 0.975 and more; nearly all of its other pictures stay below 0.9.
ALIKE = 0.96

# A picture is in a crowd if `CROWD` more pictures, plus `_TIMES` as many (at most `_ANY_CROWD`), are loosely similar than are nearly
# equal: a hundred digits "1" may be nearly equal, among a thousand similar ones.
_LOOSELY, CROWD, _TIMES, _ANY_CROWD = 0.85, 4, 3, 50

# Mean colours of nearly equal pictures differ by at most this many levels of 255.
_COLOUR = 4.0

# If the weighted frequencies are weaker than this (root mean square, in levels), what remains of a picture is noise.
_FLAT = 6.0

_FREQUENCIES = 8

# The golden ratio's fraction in 64 bits: multiplied by it, every bit of a word reaches all higher ones.
_ODD = np.uint64(0x9E3779B97F4A7C15)

ROWS, COLUMNS = 256, 2048
MANY, _MANY_PLACES = 50_000, 16_384


class Pairs(NamedTuple):
    """Pairs of nearly equal pictures, int64 [pairs, 2], and whether the second is the mirror image of the first, bool [pairs].

    `crowded` is the number of pictures with so many similar ones that their pairs mean nothing.
    """

    places: Tensor
    mirrored: Tensor
    crowded: int = 0


def equal(keys: NDArray[np.uint64], identity: Callable[[int], Hashable]) -> list[list[int]]:
    """Return the places of equal items, group by group in order.

    Equal items have equal `keys`; among items with equal keys, `identity` decides.
    """
    ordered = np.sort(keys)
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    groups: dict[tuple[int, Hashable], list[int]] = {}
    for place in np.flatnonzero(np.isin(keys, again)).tolist() if len(again) else ():
        groups.setdefault((int(keys[place]), identity(place)), []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def nearly_equal(thumbs: Tensor, colours: Tensor) -> Pairs:
    """Return the pairs of nearly equal pictures, of their grey thumbnails (uint8 [n, side, side]) and mean colours (float32 [n, 3])."""
    # One independent thread per core: threads that share every product would wait for each other thousands of times.
    with using_threads(1), ThreadPoolExecutor(cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        even, odd, strength = map(torch.cat, zip(*pool.map(_frequencies, thumbs.split(COLUMNS)), strict=True))
        # Flat pictures have nothing to compare.
        order = (strength > _FLAT).nonzero().flatten()
        order = order[colours[order].mean(1).argsort(stable=True)]
        sorted_ = _Sorted(even[order], odd[order], colours[order])
        found = list(pool.map(sorted_.pairs, range(0, len(order), ROWS)))
        pairs = torch.cat([torch.zeros((0, 2), dtype=torch.long), *found])
        involved = pairs.unique()
        crowded = torch.zeros(len(order), dtype=torch.bool)
        # If there are very many, a sample of the others suffices.
        step = 1 + len(involved) // _MANY_PLACES
        crowded[involved] = torch.cat([crowded[:0], *pool.map(lambda some: sorted_.crowded(some, step), involved.split(ROWS))])
    pairs = pairs[~crowded[pairs].any(1)]
    is_mirrored = (sorted_.odd[pairs[:, 0]] * sorted_.odd[pairs[:, 1]]).sum(1) < 0
    places = order[pairs].sort(1).values
    sequence = (places[:, 0] * len(thumbs) + places[:, 1]).argsort()
    return Pairs(places[sequence], is_mirrored[sequence], int(crowded.sum()))


class _Sorted:
    """The weighted frequencies and mean colours of pictures, sorted by brightness."""

    def __init__(self, even: Tensor, odd: Tensor, colours: Tensor) -> None:
        self.even = even
        self.odd = odd
        self.colours = colours
        brightness = colours.mean(1)
        self.ends = torch.searchsorted(brightness, brightness + _COLOUR / 2, right=True).tolist()

    def pairs(self, top: int) -> Tensor:
        """Return the pairs of the rows from `top` on with those after them: int64 [pairs, 2]."""
        found = [torch.zeros((0, 2), dtype=torch.long)]
        bottom = min(top + ROWS, len(self.ends))
        for left in range(top, self.ends[bottom - 1], COLUMNS):
            right = min(left + COLUMNS, self.ends[bottom - 1])
            alike = self.likeness(slice(top, bottom), slice(left, right))
            if left == top:
                alike.diagonal().zero_()
            if float(alike.max()) < ALIKE:
                continue
            row, column = (alike >= ALIKE).nonzero(as_tuple=True)
            row, column = top + row, left + column
            keep = (column > row) & ((self.colours[row] - self.colours[column]).abs().amax(1) <= _COLOUR)
            row, column = row[keep], column[keep]
            if len(row) > MANY:
                # If very many pictures are all similar, each is joined to just one of the others.
                one, first = np.unique(column.numpy(), return_index=True)
                row, column = row[torch.from_numpy(first)], torch.from_numpy(one)
            found.append(torch.stack([row, column], 1))
        return torch.cat(found)

    def crowded(self, places: Tensor, step: int) -> Tensor:
        """Return which pictures are alike many more of the others (or of each `step`-th) than they are nearly equal to: bool [places]."""
        alike = self.likeness(places, slice(None, None, step))
        near = (alike >= ALIKE).sum(1)
        return (alike >= _LOOSELY).sum(1) - near > CROWD + (_TIMES * near).clamp(max=_ANY_CROWD)

    def likeness(self, rows: Tensor | slice, columns: slice) -> Tensor:
        """Return the correlations of pictures with others or their mirror images, whichever are greater: float32 [rows, columns]."""
        turned = self.odd[rows] @ self.odd[columns].T
        return turned.abs_().addmm_(self.even[rows], self.even[columns].T)


def joined(pairs: Iterable[Sequence[int]]) -> list[list[int]]:
    """Return the groups that pairs of places join, each in order, by their first place."""
    parent: dict[int, int] = {}

    def root(place: int) -> int:
        while (above := parent.setdefault(place, place)) != place:
            parent[place] = place = parent[above]
        return place

    for one, two in pairs:
        first, second = sorted((root(one), root(two)))
        parent[second] = first
    groups: dict[int, list[int]] = {}
    for place in sorted(parent):
        groups.setdefault(root(place), []).append(place)
    return list(groups.values())


def row_keys(rows: Tensor) -> NDArray[np.uint64]:
    """Return a key of 64 bits for each row [n, ...]: equal rows have equal keys, others hardly ever.

    A dot product with odd random numbers modulo 2^64 (multilinear hashing: Lemire and Kaser, 2014, "Strongly universal string
    hashing is fast"), of words whose high bits were mixed into the low ones: numbers such as 1.0 and 2.0 differ in nothing else.
    """
    content = rows.reshape(len(rows), -1).contiguous().numpy()
    content = content.view(np.uint8).reshape(len(rows), -1)
    words = -(-content.shape[1] // 8)
    factors = np.random.default_rng(0).integers(0, 2**63, words, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    keys = np.zeros(len(rows), np.uint64)
    step = max(1, 1_000_000 // (8 * words))
    for begin in range(0, len(rows), step):
        some = content[begin : begin + step]
        if content.shape[1] % 8:
            some = np.pad(some, ((0, 0), (0, -content.shape[1] % 8)))
        values = some.view(np.uint64) * _ODD
        values ^= values >> np.uint64(32)
        keys[begin : begin + step] = np.einsum("ij,j->i", values, factors)
    return keys


def hash_keys(hashes: NDArray[Any]) -> NDArray[np.uint64]:
    """Return a key of 64 bits for each hash of 16 bytes."""
    return np.ascontiguousarray(np.ascontiguousarray(hashes).view(np.uint64).reshape(-1, 2)[:, 0])


def _frequencies(thumbs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weighted cosine coefficients of even and of odd horizontal frequency, together of length 1, and how strong they were."""
    side = thumbs.shape[-1]
    frequency = torch.arange(_FREQUENCIES)
    waves = (2 / side) ** 0.5 * torch.cos(torch.pi / side * (torch.arange(side) + 0.5) * frequency[:, None])  # [frequency, pixel]
    weight = (frequency[:, None] ** 2 + frequency**2).sqrt()  # The mean brightness counts for nothing.
    waved = (waves @ thumbs.float() @ waves.T).mul_(weight)
    whole = waved.flatten(1).norm(dim=1)
    waved /= whole.clamp(min=1e-9)[:, None, None]
    return waved[:, :, ::2].flatten(1), waved[:, :, 1::2].flatten(1), whole / side
