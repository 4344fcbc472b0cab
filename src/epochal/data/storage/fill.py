"""Where examples are put when they are read: in memory, or where they do not fit, in a pack in the cache."""

from __future__ import annotations

import secrets
from array import array
from collections.abc import Iterable, Iterator, Sequence
from math import inf, prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from epochal.data.inputs.values import Access, Inputs
from epochal.data.storage.cache import Pack, checksums, open_cache
from epochal.device import free_memory
from epochal.errors import DataError


class NoRoomError(DataError):
    """Examples fit neither in memory nor in the cache."""


class PackedInputs:
    """Examples in the cache; any number can be read at once."""

    access: Access = "file"

    def __init__(self, pack: Pack) -> None:
        self.pack = pack

    def __len__(self) -> int:
        return len(self.pack)

    def __getitem__(self, index: Tensor) -> Tensor:
        """Read the examples at `index` (int64 [n]): [n, *shape]."""
        return torch.from_numpy(self.pack.read(index.tolist()))


def fits(size: int, memory: float | None) -> bool:
    """Whether so many bytes may be kept in memory: at most `memory`, or by default half of what is free."""
    free = free_memory()
    return size <= (memory if memory is not None else inf if free is None else free / 2)


def fill(blocks: Iterable[tuple[int, NDArray[Any]]], shape: Sequence[int], dtype: torch.dtype, memory: float | None, name: str) -> Inputs:
    """Return examples [n, *shape], from blocks of them with the place of each block's first, in any order.

    Those of more than `memory` bytes are in a new pack with this `name`. Raises `NoRoomError` if the cache has no room for it.
    """
    if fits(prod(shape) * dtype.itemsize, memory):
        whole, filled = torch.empty(tuple(shape), dtype=dtype), 0
        for begin, block in blocks:
            whole[begin : begin + len(block)] = torch.from_numpy(block)
            filled += len(block)
        assert filled == len(whole), f"{filled} of {len(whole)} examples of {name} were read"
        return whole
    try:
        return PackedInputs(write_pack(blocks, shape, dtype, name))
    except OSError as error:
        raise NoRoomError(
            f"{name} would take {prod(shape) * dtype.itemsize / 1e9:,.1f} GB of memory, and cannot be cached: {error.strerror}.",
            "Allow more memory (data.memory), or a larger cache (EPOCHAL_CACHE, EPOCHAL_CACHE_SIZE).",
        ) from error


def write_pack(
    blocks: Iterable[tuple[int, NDArray[Any]]], shape: Sequence[int], dtype: torch.dtype, name: str, key: str | None = None
) -> Pack:
    """Return a new pack of examples; see `fill`. Without a `key`, it is only for this process."""
    size, sums, filled = prod(shape[1:]) * dtype.itemsize, array("I", bytes(4 * shape[0])), 0
    with open_cache().draft(shape[0] * size) as draft:
        with draft.path.open("r+b") as file:
            for begin, block in blocks:
                content = np.ascontiguousarray(block).data.cast("B")
                file.seek(begin * size)
                file.write(content)
                sums[begin : begin + len(block)] = checksums(content, size)
                filled += len(block)
        assert filled == shape[0], f"{filled} of {shape[0]} examples of {name} were read"
        return draft.seal(key or secrets.token_hex(16), name, shape, sums, str(dtype).removeprefix("torch."))


def numbered(blocks: Iterable[NDArray[Any]]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield blocks that come in order with the place of each block's first."""
    begin = 0
    for block in blocks:
        yield begin, block
        begin += len(block)


def read_pack(pack: Pack, memory: float | None) -> Inputs:
    """Return the examples of a pack: in memory, if they fit. Raises `DamagedError`."""
    if not fits(pack.size, memory):
        return PackedInputs(pack)
    whole = torch.empty(pack.shape, dtype=getattr(torch, pack.dtype.name))
    pack.read_all(whole.numpy())
    return whole
