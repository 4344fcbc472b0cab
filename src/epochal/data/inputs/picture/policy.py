"""A random few of a fixed list of operations: RandAugment on whole batches."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from epochal.data.draws import Draws
from epochal.data.inputs.picture.colour import blend, grey, mean
from epochal.data.inputs.picture.geometry import move

# Interpolation may leave a value a rounding error below its level: within this share of a step, it counts as on it.
_HAIR = 0.01


class Operation(NamedTuple):
    """One operation as numbers, which by default change nothing; so a batch of different operations is a table of numbers.

    Pixels come from `matrix` @ p + `offset` (see `geometry.move`; the offset is in heights and widths of the picture).
    Values are blended by `factor` with a share of their own grey and of the mean grey, inverted from `solarize` on, and rounded
    down to multiples of `posterize`; black is 0 and white 1.
    """

    matrix: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    factor: float = 1.0
    grey: float = 0.0
    mean: float = 0.0
    solarize: float = math.inf
    posterize: float = 0.0

    def numbers(self) -> list[float]:
        """Return all of them in one row."""
        return [*self.matrix, *self.offset, *self[2:]]


def rand_augment(pictures: Tensor, draws: Draws, magnitude: float, white: float, ground: Tensor | None = None) -> Tensor:
    """Apply two operations to each picture (float32, 0 to `white`), drawn evenly, of `magnitude` 0 (nothing changes) to 10.

    Cubuk et al., "RandAugment: practical automated data augmentation with a reduced search space", NeurIPS 2020. The list is
    theirs without autocontrast, equalize and sharpness, which need more than a pixel or the mean; the ranges are those of
    AutoAugment (Cubuk et al., CVPR 2019). The geometric changes of both operations are made at once, so that pixels are
    interpolated once, and before the changes of colour; uncovered areas become black, or `ground` [channels].
    """
    _, channels, height, width = pictures.shape
    table = _table(magnitude, channels == 3, pictures.device)
    first, second = (
        table[draws.whole(f"policy sign {turn}", 2), draws.whole(f"policy operation {turn}", table.shape[1])] for turn in (1, 2)
    )
    pictures = move(pictures, *_chained(first, second, torch.tensor((width, height), device=pictures.device)), ground)
    for chosen in (first, second):
        factor, to_grey, to_mean, solarize, posterize = chosen[:, 6:, None, None, None].unbind(1)
        own = grey(pictures)
        pictures = blend(pictures, to_grey * own + to_mean * mean(own, white), factor, white)
        pictures = torch.where(pictures >= solarize * white, white - pictures, pictures)
        step = posterize * white
        # Where the step is 0, the result of the division is not used.
        pictures = torch.where(step > 0, (pictures / step + _HAIR).floor() * step, pictures)
    return pictures


def operations(magnitude: float, sign: int, colour: bool) -> Iterator[Operation]:
    """Yield the operations of a `magnitude` from 0 to 10; those with a direction have that of `sign` (1 or -1)."""
    share = magnitude / 10
    angle, slant, way = sign * share * math.radians(30), sign * share * 0.3, sign * share * 150 / 331
    factor = 1 + sign * share * 0.9
    yield Operation()
    yield Operation(matrix=(math.cos(angle), math.sin(angle), -math.sin(angle), math.cos(angle)))
    yield Operation(matrix=(1.0, slant, 0.0, 1.0))
    yield Operation(matrix=(1.0, 0.0, slant, 1.0))
    yield Operation(offset=(way, 0.0))
    yield Operation(offset=(0.0, way))
    yield Operation(factor=factor)
    yield Operation(factor=factor, mean=1.0)
    # From level 256 down to 0; half a level lower, so that no level is on the edge.
    yield Operation(solarize=((1 - share) * 256 - 0.5) / 255)
    # At most 4 of 8 bits are dropped; at 0 nothing changes.
    yield Operation(posterize=2 ** round(4 * share) / 255 if round(4 * share) else 0.0)
    if colour:
        yield Operation(factor=factor, grey=1.0)


@functools.lru_cache(maxsize=8)
def _table(magnitude: float, colour: bool, device: torch.device) -> Tensor:
    """Return all operations as numbers: [signs, operations, numbers]."""
    return torch.tensor([[one.numbers() for one in operations(magnitude, sign, colour)] for sign in (1, -1)], device=device)


def _chained(first: Tensor, second: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Return the matrix [batch, 2, 2] and the offset [batch, 2] in pixels that move pixels by `first`, then by `second`."""
    one, two = first[:, :4].view(-1, 2, 2), second[:, :4].view(-1, 2, 2)
    matrix = one[:, :, :1] * two[:, :1] + one[:, :, 1:] * two[:, 1:]
    shift, then = first[:, 4:6] * size, second[:, 4:6] * size
    return matrix, shift + (one[:, :, 0] * then[:, :1] + one[:, :, 1] * then[:, 1:])
