"""A score of several models that were trained alike, in words."""

from __future__ import annotations

from dataclasses import dataclass

from epochal.evaluation.uncertainty import Interval
from epochal.tasks.scores import plain


@dataclass(frozen=True)
class SeveralScores:
    """A score of several models together, with its 95 % interval.

    `spread` is the standard deviation between models, `None` for a single one. `in_percent` says how the score is worded.
    """

    name: str
    value: float
    interval: Interval | None
    spread: float | None
    in_percent: bool

    def words(self, value: float) -> str:
        """Return a value of the score in words."""
        return f"{100 * value:.1f} %" if self.in_percent else plain(value, 4)

    def between(self) -> str:
        """Return the interval in words."""
        if self.interval is None:
            return "–"
        low, high = self.interval
        return f"{100 * low:.1f} to {100 * high:.1f} %" if self.in_percent else f"{plain(low, 4)} to {plain(high, 4)}"
