"""The random numbers of the examples of a batch."""

from __future__ import annotations

from torch import Tensor

from epochal.random import key, uniform


class Draws:
    """Random numbers [batch], each a function of the seed, the epoch, a name for its purpose, and the example's place (int64 [batch]).

    What is computed from them must not depend on the batch either, down to the last bit: only elementwise operations
    may follow, or sums of integers. Sums of fractions and matrix products round differently by layout.
    """

    def __init__(self, seed: int, epoch: int, places: Tensor) -> None:
        self.seed = seed
        self.epoch = epoch
        self.places = places

    def uniform(self, name: str) -> Tensor:
        """Return a float32 in [0, 1) for each example."""
        return uniform(key(self.seed, self.epoch, name), self.places)

    def between(self, name: str, low: float, high: float) -> Tensor:
        """Return a float32 from `low` to `high` for each example."""
        return self.uniform(name) * (high - low) + low

    def whole(self, name: str, values: int) -> Tensor:
        """Return an integer (int64) from 0 to `values` - 1 for each example."""
        return (self.uniform(name) * values).long()

    def alternating(self, name: str) -> Tensor:
        """Return 0 or 1 (int64) for each example: random in the first epoch, alternating from then on."""
        first = (uniform(key(self.seed, name), self.places) * 2).long()
        return (first + self.epoch) % 2
