"""Handwritten digits that are part of scikit-learn: 1,797 pictures of 8×8 pixels, without a download."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from epochal.data.examples import Found, Part
from epochal.errors import DataError

_COUNT = 1797


def read() -> Found:
    """Return the digits: uint8 inputs [1797, 1, 8, 8], int64 targets.

    The values 0 to 16 of the file become 0 to 255. The file is read directly, because importing scikit-learn
    takes longer than training on these pictures.
    """
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError("scikit-learn, which contains the digits, is not installed.", "Install it: pip install scikit-learn.")
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    try:
        with gzip.open(file, "rt", encoding="ascii") as lines:
            table = np.loadtxt(lines, np.uint8, delimiter=",")
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}.", "Reinstall scikit-learn.") from error
    if table.shape != (_COUNT, 65):
        raise DataError(f"{file} has shape {table.shape}, not {(_COUNT, 65)}.", "Reinstall scikit-learn.")
    pixels = np.rint(table[:, :64] * (255 / 16)).astype(np.uint8)
    part = Part(torch.from_numpy(pixels.reshape(-1, 1, 8, 8)), torch.from_numpy(table[:, 64].astype(np.int64)))
    return Found("digits", {"train": part}, classes=tuple("0123456789"))
