"""Pictures of digits as strokes that a person could draw, for the proof that drawing loses nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt

Stroke = list[tuple[float, float]]

_LARGER = 4
_PEN = 2.1  # pixels of the picture
_AROUND = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))


def redrawn(picture: NDArray[np.uint8], generator: torch.Generator) -> list[Stroke]:
    """Return strokes (x, y in shares of the paper) that show what a picture [height, width] does, at a random size and place.

    Lines are drawn along their middle; what is wider than the pen is filled with short strokes. On the page the pen has one width: the
    smaller a drawing is, the wider its strokes are in comparison.
    """
    size = tuple(_LARGER * side for side in reversed(picture.shape))
    ink = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)) > 110
    paths = [_smooth(path) for path in _paths(_thin(ink))]
    core = distance_transform_edt(ink) > _PEN / 2 * _LARGER + 1
    for y in range(0, len(core), 2):
        ends = np.flatnonzero(np.diff(core[y].astype(int), prepend=0, append=0))
        paths += [np.array([[y, begin], [y, end - 1]], float) for begin, end in zip(ends[::2], ends[1::2], strict=True)]
    points = np.concatenate(paths)
    low, high = points.min(0), points.max(0)
    scale = (0.25 + 0.6 * _random(generator)) / max(float((high - low).max()), 1)
    x, y = ((1 - (high - low) * scale) * np.array([_random(generator), _random(generator)]))[::-1]
    return [[(x + (at[1] - low[1]) * scale, y + (at[0] - low[0]) * scale) for at in path.tolist()] for path in paths]


def _random(generator: torch.Generator) -> float:
    return float(torch.rand(1, generator=generator))


def _thin(ink: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the middle lines of ink, one pixel wide (Zhang and Suen, 1984)."""
    left = np.pad(ink, 1)
    while True:
        before = int(left.sum())
        for first, second in (((0, 2, 4), (2, 4, 6)), ((0, 2, 6), (0, 4, 6))):
            near: Any = [np.roll(left, (-y, -x), (0, 1)) for y, x in _AROUND]
            count = sum(one.astype(int) for one in near)
            begins = sum(~one & other for one, other in zip(near, [*near[1:], near[0]], strict=True))
            whole = [near[a] & near[b] & near[c] for a, b, c in (first, second)]
            left = left & ~((count >= 2) & (count <= 6) & (begins == 1) & ~whole[0] & ~whole[1])
        if int(left.sum()) == before:
            return left[1:-1, 1:-1]


def _paths(lines: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Return lines one pixel wide as paths [points, (y, x)] between their ends and crossings."""
    there = {(int(y), int(x)) for y, x in np.argwhere(lines)}

    def near(y: int, x: int) -> list[tuple[int, int]]:
        straight = [at for at in ((y + dy, x + dx) for dy, dx in _AROUND[::2]) if at in there]
        # Of two ways to a pixel, the one over a corner counts.
        slanted = [(y + dy, x + dx) for dy, dx in _AROUND[1::2] if not {(y + dy, x), (y, x + dx)} & there]
        return straight + [at for at in slanted if at in there]

    ways = {at: near(*at) for at in there}
    used, paths = set[frozenset[tuple[int, int]]](), []
    for begin in sorted(there, key=lambda at: (len(ways[at]) != 1, len(ways[at]) == 2, at)):
        for after in ways[begin]:
            path = [begin]
            step = after
            while frozenset((path[-1], step)) not in used:
                used.add(frozenset((path[-1], step)))
                path.append(step)
                if len(ways[step]) == 2:
                    step = next((at for at in ways[step] if frozenset((path[-1], at)) not in used), step)
            if len(path) > 1:
                paths.append(np.array(path, float))
    # Thinning leaves short spurs at corners.
    return [path for path in paths if len(path) >= 6] or paths or [np.argwhere(lines)[:1].repeat(2, 0).astype(float)]


def _smooth(path: NDArray[np.float64]) -> NDArray[np.float64]:
    path = path.copy()
    for _ in range(3 if len(path) > 4 else 0):
        path[1:-1] = (path[:-2] + 2 * path[1:-1] + path[2:]) / 4
    # A person's hand gives no more points than that.
    kept = np.unique(np.linspace(0, len(path) - 1, max(2, math.ceil(len(path) / 2))).round().astype(int))
    found: NDArray[np.float64] = path[kept]
    return found
