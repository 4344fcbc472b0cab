"""Randomness: every random number follows from the seed and its purpose, so that a run can be repeated to the last bit."""

import zlib

import numpy as np
import torch
from torch import Tensor


def scrambled(numbers: np.ndarray) -> np.ndarray:
    """Return 64 random bits for each number (SplitMix64: Steele, Lea and Flood, 2014)."""
    numbers = (numbers ^ (numbers >> 30)) * 0xBF58476D1CE4E5B9
    numbers = (numbers ^ (numbers >> 27)) * 0x94D049BB133111EB
    return numbers ^ (numbers >> 31)


def key(*parts: int | str) -> int:
    """Return one number for a purpose, such as key(SEED, epoch, "order")."""
    total = np.zeros(1, np.uint64)
    for part in parts:
        total = scrambled(total + GOLDEN + (zlib.crc32(part.encode()) if isinstance(part, str) else part))
    return int(total[0])


def shuffled(count: int, *parts: int | str) -> Tensor:
    """Return the numbers from 0 to `count` - 1 in random order."""
    bits = scrambled(np.arange(count, dtype=np.uint64) * GOLDEN + key(SEED, *parts))
    return torch.from_numpy(bits.view(np.int64).argsort(kind="stable"))


def uniform(index: Tensor, *parts: int | str) -> Tensor:
    """Return a random number from 0 to 1 for each index."""
    bits = scrambled(index.numpy().astype(np.uint64) * GOLDEN + key(SEED, *parts))
    return torch.from_numpy((bits >> 40).astype(np.float32) * 2.0**-24)
