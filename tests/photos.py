"""Folders of pictures that tests share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy
from PIL import Image


def write_photos(folder: Path, lows: Mapping[str, int | tuple[int, int, int]], count: int, height: int, width: int, spread: int) -> Path:
    """Write FOLDER/NAME/NUMBER.png, colour pictures of noise: from the `lows` of each name, for all or each channel, up by `spread`."""
    random = numpy.random.default_rng(0)
    for name, low in lows.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, spread, (height, width, 3), dtype=numpy.uint8) + numpy.array(low, numpy.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder
