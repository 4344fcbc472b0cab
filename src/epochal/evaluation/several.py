"""What several models score that were trained alike, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from epochal.evaluation.uncertainty import Interval
from epochal.shown import Rows, Shown
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


class Several(Shown):
    """Base of what was measured of several models: a `title` of one line, a table, and what its numbers mean, in sentences."""

    @property
    def title(self) -> str:
        """What was measured, in one line."""
        raise NotImplementedError

    @property
    def meaning(self) -> tuple[str, ...]:
        """What the scores and their intervals are of, in sentences."""
        raise NotImplementedError

    @property
    def heading(self) -> tuple[str, ...]:
        """The names of the columns of `table`."""
        raise NotImplementedError

    def table(self) -> list[tuple[str, ...]]:
        """Return the rows in words: each model, all of them together, and the interval."""
        raise NotImplementedError

    def _title(self) -> str:
        return self.title

    def _rows(self) -> Rows:
        return [self.heading, *self.table()]

    def _table(self) -> tuple[Sequence[str], Rows]:
        return self.heading, self.table()
