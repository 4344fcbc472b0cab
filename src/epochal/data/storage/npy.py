"""Arrays in NumPy's format (NEP 1), read without trusting what they claim."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from epochal.io.safe_read import MAX_AXES, PIECE, open_file

# NumPy's own limit, which makes parsing a header harmless.
_MAX_HEADER = 10_000

# Version 3 is for records with names beyond ASCII.
_HEADERS: dict[bytes, tuple[int, Callable[..., tuple[tuple[int, ...], bool, np.dtype[Any]]]]] = {
    b"\x93NUMPY\x01\x00": (2, np.lib.format.read_array_header_1_0),
    b"\x93NUMPY\x02\x00": (4, np.lib.format.read_array_header_2_0),
}


class ObjectsError(ValueError):
    """An array of Python objects, which are stored as code that creates them."""

    def __init__(self) -> None:
        super().__init__("it contains Python objects, which could run any code")


def read_npy(file: Path) -> NDArray[Any]:
    """Return the array in a .npy file. Raises `ValueError` with the reason if its size is wrong, `ObjectsError`, or `OSError`."""
    with open_file(file) as content:
        return read_array(content, os.fstat(content.fileno()).st_size)


def read_array(content: IO[bytes], size: int) -> NDArray[Any]:
    """Return the array that fills the `size` bytes of `content`; as `read_npy`."""
    magic = content.read(8)
    if magic not in _HEADERS:
        raise ValueError("it is not in NumPy's format")
    width, parse = _HEADERS[magic]
    length = content.read(width)
    header = int.from_bytes(length, "little")
    if header > _MAX_HEADER:
        raise ValueError(f"its header claims {header:,} bytes")
    try:
        shape, is_fortran, dtype = parse(io.BytesIO(length + content.read(header)))
    except (MemoryError, RecursionError, SyntaxError, TypeError) as error:
        raise ValueError("its header cannot be read") from error
    if dtype.hasobject:
        raise ObjectsError
    count, there = math.prod(shape), size - 8 - width - header
    if len(shape) > MAX_AXES or not all(0 <= side < 2**63 for side in shape) or not dtype.itemsize:
        raise ValueError(f"it declares the shape {shape} of {dtype}")
    if count * dtype.itemsize != there:
        raise ValueError(f"it declares {count:,} values of {dtype}, which take {count * dtype.itemsize:,} bytes, and has {there:,}")
    buffer = np.empty(there, np.uint8)
    done = 0
    while done < there and (count := content.readinto(buffer[done : done + PIECE])):  # type: ignore[attr-defined]
        done += count
    if done < there:
        raise ValueError("it is truncated")
    return np.ndarray(shape, dtype, buffer, order="F" if is_fortran else "C")
