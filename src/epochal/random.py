"""Randomness as a function of position, without any state.

Every random choice is computed from a key such as (seed, epoch, example): there is nothing to save for resuming, and neither
the number of workers nor the layout of batches can change a result. The mixing function is the finalizer of SplitMix64
(Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

from __future__ import annotations

import random as python_random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy
import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1

# Of more numbers than this, less is in memory at once.
_AT_ONCE = 1 << 18


def key(*parts: int | str) -> int:
    """Mix integers and names into one 64-bit number: the same parts in the same order give the same key, anywhere."""
    mixed = 0
    for part in parts:
        number = zlib.crc32(part.encode()) if isinstance(part, str) else part
        mixed = _mix_int((mixed + _GOLDEN + (number & _MASK)) & _MASK)
    return mixed


def bits(stream: int, index: Tensor) -> Tensor:
    """Return 64 random bits for every position in `index` (int64, any shape, any device) of the stream with this `key`."""
    x = index * _signed(_GOLDEN) + _signed(stream)
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift(x, 31)


def uniform(stream: int, index: Tensor) -> Tensor:
    """Return a float32 in [0, 1) for every position in `index` (int64) of the stream with this `key`."""
    return _shift(bits(stream, index), 40).to(torch.float32) * 2.0**-24


def permutation(stream: int, count: int) -> Tensor:
    """Return the numbers 0 to `count` - 1 in the random order (int64) of the stream with this `key`."""
    drawn = torch.arange(count)
    for some in drawn.split(_AT_ONCE):
        some.copy_(bits(stream, some))
    # NumPy takes a third of the memory to sort, and three times as long.
    return drawn.argsort(stable=True) if count <= _AT_ONCE else torch.from_numpy(numpy.argsort(drawn.numpy(), kind="stable"))


@contextmanager
def fork_rng(device: torch.device) -> Iterator[None]:
    """Restore PyTorch's global generators after the block, whatever it draws from them."""
    index = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=index):
        yield


@contextmanager
def seeded(stream: int) -> Iterator[None]:
    """Seed the generators of Python, NumPy and PyTorch's CPU with `stream` for the block, and restore them afterwards."""
    state = python_random.getstate(), numpy.random.get_state(), torch.random.get_rng_state()
    python_random.seed(stream)
    numpy.random.seed(stream % 2**32)
    torch.default_generator.manual_seed(stream)
    try:
        yield
    finally:
        python_random.setstate(state[0])
        numpy.random.set_state(state[1])
        torch.random.set_rng_state(state[2])


def seed_generators(device: torch.device, seed: int) -> None:
    """Seed the generators that layers such as dropout use on `device` (cheaper than `torch.manual_seed`, which seeds all devices)."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def _mix_int(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def _signed(x: int) -> int:
    """Return the same 64 bits as a signed number, as in an int64 tensor; tensor arithmetic wraps around."""
    return x - (1 << 64) if x >> 63 else x


def _shift(x: Tensor, by: int) -> Tensor:
    """Shift right without copying the sign bit (int64 tensors only have the arithmetic shift)."""
    return (x >> by) & ((1 << (64 - by)) - 1)
