"""How small grey pictures of lines are drawn, so that what people draw by hand can become such pictures."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, PositiveFloat
from torch import Tensor

# Larger pictures are not drawn by hand.
LARGEST = 64

# What is fainter than this is paper.
_FAINT = 0.1


class Ink(BaseModel):
    """How pictures are drawn, in pixels: the larger side of what they show, the width of lines, and where its middle lies (y, x).

    `centred` says by which middle the pictures are aligned: by the centre of `mass`, as in MNIST, or by the `box` around the ink.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    size: PositiveFloat
    pen: PositiveFloat
    centred: Literal["mass", "box"]
    centre: tuple[float, float]


def measure_ink(pictures: Tensor, paper: int) -> Ink | None:
    """Return how grey pictures, uint8 [n, height, width], are drawn on `paper` of that level; `None` if none shows anything."""
    ink = (pictures.double() - paper).abs() / max(paper, 255 - paper)
    ink = ink[(ink > _FAINT).flatten(1).any(1)]
    if not len(ink):
        return None
    sides, boxes, masses = [], [], []
    for axis in (1, 2):
        place = torch.arange(ink.shape[axis]) + 0.5
        seen = (ink > _FAINT).any(3 - axis)
        low, high = torch.where(seen, place, torch.inf).amin(1) - 0.5, torch.where(seen, place, -torch.inf).amax(1) + 0.5
        mass = ink.sum(3 - axis)
        sides.append(high - low)
        boxes.append((low + high) / 2)
        masses.append((mass * place).sum(1) / mass.sum(1))
    # The edge of a line is two of its lengths: its width is its area by that.
    around = torch.nn.functional.pad(ink, (1, 1, 1, 1))
    slopes = torch.hypot(around[:, 1:, :-1] - around[:, :-1, :-1], around[:, :-1, 1:] - around[:, :-1, :-1])
    pen = (2 * ink.sum((1, 2)) / slopes.sum((1, 2))).median()
    box, mass = torch.stack(boxes, 1), torch.stack(masses, 1)
    by_mass = bool(mass.var(0, correction=0).sum() < box.var(0, correction=0).sum())
    y, x = (mass if by_mass else box).mean(0).tolist()
    size = torch.maximum(*sides).median()
    return Ink(
        size=round(float(size), 2), pen=round(float(pen), 2), centred="mass" if by_mass else "box", centre=(round(y, 2), round(x, 2))
    )
