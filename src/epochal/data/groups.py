"""The values of a column in a few groups, so that they can be counted and compared."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Quantities with more distinct values are put in so many groups of about equal size.
INTERVALS = 20


class Groups(NamedTuple):
    """`edges` are the largest values of intervals, or the values themselves; missing values are a group of their own, the last but one,
    and values that are not among `edges` the last."""

    edges: NDArray[np.float32]
    is_interval: bool

    @property
    def number(self) -> int:
        """The number of groups."""
        return len(self.edges) + 2

    def of(self, values: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the group of each value (float32 [n], NaN where missing): int64 [n]."""
        is_missing = np.isnan(values)
        places = np.searchsorted(self.edges, values)
        if not self.is_interval and len(self.edges):
            is_known = self.edges[np.minimum(places, len(self.edges) - 1)] == values
            places = np.where(is_known, places, len(self.edges) + 1)
        elif self.is_interval:
            places = np.minimum(places, len(self.edges) - 1)
        return np.where(is_missing, len(self.edges), places).astype(np.int64)


def grouped(values: NDArray[np.float32], intervals: int = INTERVALS, *, is_quantity: bool = True) -> Groups:
    """Return groups for values (float32 [n], NaN where missing): each value of its own, or intervals of many different quantities.

    Intervals have as many values each as equal values allow; a value that is common enough is an interval of its own.
    """
    there = np.sort(values[~np.isnan(values)])
    distinct = np.unique(there)
    if not is_quantity or len(distinct) <= intervals:
        return Groups(distinct, is_interval=is_quantity and len(distinct) > 1)
    places = np.linspace(0, len(there) - 1, intervals + 1).round().astype(np.int64)[1:]
    return Groups(np.unique(there[places]), is_interval=True)
