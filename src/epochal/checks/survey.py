"""Reading every picture file of a folder once, on all cores; errors are collected."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from epochal.data.inputs.picture.decoding import in_blocks
from epochal.data.inputs.picture.read import survey_picture
from epochal.data.inputs.picture.rule import PictureRule
from epochal.data.storage.cache import content_hash
from epochal.errors import DataError

# Pictures are compared at this size first; those that differ at it are different.
SMALL = PictureRule(shape=(3, 32, 32), fit="squash")

# The side of the grey thumbnails in which near duplicates are searched.
SIDE = 16

_BLOCK = 128

# The record of each file: the hash of its content, its header, its kind (see `read.Kind`), the hash of its pixels at the small
# size, whether these are all equal, and its thumbnail with its mean colour.
SURVEYED = np.dtype(
    [
        *(("hash", "V16"), ("height", "<i4"), ("width", "<i4"), ("grey", "?"), ("deep", "?")),
        *(("format", "S8"), ("mode", "S8"), ("orientation", "u1"), ("animated", "?"), ("transparent", "?")),
        *(("small", "V16"), ("blank", "?"), ("thumb", "u1", (SIDE, SIDE)), ("colour", "<f4", (3,))),
    ]
)


class Survey(NamedTuple):
    """Records of picture files (`SURVEYED` [n]), and the errors of those that cannot be read, by index."""

    known: NDArray[Any]
    wrong: dict[int, DataError]


def survey(paths: Sequence[str]) -> Survey:
    """Read picture files, and return records of them and errors."""
    known, wrong = np.zeros(len(paths), SURVEYED), dict[int, DataError]()
    for places, (some, errors) in in_blocks(partial(_survey_block, paths=paths), len(paths), _BLOCK, "Checking pictures"):
        known[places.start : places.stop] = some
        wrong.update(errors)
    return Survey(known, dict(sorted(wrong.items())))


def _survey_block(places: range, paths: Sequence[str]) -> tuple[NDArray[Any], dict[int, DataError]]:
    known, pixels = np.zeros(len(places), SURVEYED), np.zeros((len(places), *SMALL.shape), np.uint8)
    wrong = {}
    for number, place in enumerate(places):
        try:
            file, kind = survey_picture(paths[place], SMALL)
        except DataError as error:
            wrong[place] = error
            continue
        pixels[number] = file.pixels
        small = content_hash(file.pixels.tobytes())
        # The last three are computed for all at once.
        known[number] = (file.hash, *file.measured, *kind, small, False, 0, 0)
    quarters = pixels[:, :, ::2].astype(np.uint16) + pixels[:, :, 1::2]
    quarters = quarters[..., ::2] + quarters[..., 1::2]
    known["thumb"] = (quarters.sum(1, dtype=np.uint16) + 6) // 12
    known["colour"] = quarters.mean((2, 3), dtype=np.float32) / 4
    known["blank"] = (pixels == pixels[:, :, :1, :1]).all((1, 2, 3))
    return known, wrong
