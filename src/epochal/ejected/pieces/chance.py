"""Randomness: every random number follows from the seed and its purpose, so that a run can be repeated to the last bit."""

import zlib

import numpy as np
import torch
from torch import Tensor


def random_bits(*parts: int | str | np.ndarray) -> np.ndarray:
    """Return 64 random bits for the seed and these parts, such as "step", 7 (SplitMix64: Steele, Lea and Flood, 2014)."""
    bits = np.zeros(1, np.uint64)
    for part in (SEED, *parts):
        bits = bits + GOLDEN + (zlib.crc32(part.encode()) if isinstance(part, str) else part)
        bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9
        bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB
        bits = bits ^ (bits >> 31)
    return bits


def shuffled(count: int, *purpose: int | str) -> Tensor:
    """Return the numbers from 0 to `count` - 1 in random order."""
    bits = random_bits(*purpose, (np.arange(count, dtype=np.uint64) - 1) * GOLDEN)
    return torch.from_numpy(bits.view(np.int64).argsort(kind="stable"))


def uniform(index: Tensor, *purpose: int | str) -> Tensor:
    """Return a random number from 0 to 1 for each example, by its index."""
    bits = random_bits(*purpose, (index.numpy().astype(np.uint64) - 1) * GOLDEN)
    return torch.from_numpy((bits >> 40).astype(np.float32) * 2.0**-24)
