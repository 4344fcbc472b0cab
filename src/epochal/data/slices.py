"""What of each batch one of several processes trains on: a slice, so that all together make the same step as one process alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Slice(NamedTuple):
    """Rows `begin` to `end` of a batch of a whole step; `first` and `last` are the bounds of the part of the batch that they are from.

    If the part has fewer rows than there are processes, some have none: they take its first one, which `counts` for nothing, since every
    process has to take part in every step.
    """

    begin: int
    end: int
    first: int
    last: int
    counts: bool

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.end - self.begin

    @property
    def place(self) -> tuple[int, int, int]:
        """Where its rows begin and end in their part of the batch, and how many rows that has."""
        return self.begin - self.first, self.end - self.first, self.last - self.first


@dataclass(frozen=True)
class Slices:
    """What of each batch the process number `rank` of `size` takes: of each of the `parts` of a batch (gradient accumulation) a slice."""

    rank: int = 0
    size: int = 1
    parts: int = 1

    def of(self, count: int) -> tuple[Slice, ...]:
        """Return the slices of a batch of `count` rows, cut as `Tensor.chunk` does."""
        step = -(-count // self.parts)
        return tuple(self._slice(first, min(first + step, count)) for first in range(0, count, step))

    def _slice(self, first: int, last: int) -> Slice:
        begin, end = (first + (last - first) * rank // self.size for rank in (self.rank, self.rank + 1))
        return Slice(begin, end, first, last, True) if begin < end else Slice(first, first + 1, first, last, False)
