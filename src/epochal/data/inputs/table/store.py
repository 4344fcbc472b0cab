"""The columns of a file that is being read, in memory or in a temporary file, so that memory does not grow with the table."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from tempfile import SpooledTemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Columns of more than this many bytes are in a file.
_IN_MEMORY = 1 << 25


class Store:
    """Arrays of one dtype each, which are added one by one, and read again by the places where they begin."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  closed with the store
        self._end = 0
        weakref.finalize(self, self._file.close)

    def add(self, array: NDArray[Any]) -> int:
        """Keep an array, and return its place."""
        place = self._end
        self._file.seek(place)
        self._file.write(array.data)
        self._end += array.nbytes
        return place

    def read(self, places: Sequence[int], sizes: Sequence[int], dtype: type[np.generic]) -> NDArray[Any]:
        """Return the arrays at `places`, with so many values each, as one."""
        width = np.dtype(dtype).itemsize
        whole, begin = np.empty(sum(sizes), dtype), 0
        for place, size in zip(places, sizes, strict=True):
            self._file.seek(place)
            whole[begin : begin + size] = np.frombuffer(self._file.read(size * width), dtype)
            begin += size
        return whole
