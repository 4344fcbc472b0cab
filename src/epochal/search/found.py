"""What a search found, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epochal.evaluation.compared import Comparison
from epochal.evaluation.named import monitored
from epochal.recipe import DEFAULT, Recipe
from epochal.search.space import Space, label
from epochal.search.store import Result
from epochal.search.worth import Influence, Validation
from epochal.shown import Rows, Shown, table

BEST = "best.toml"
FIGURE = "trials"

# So many trials are shown in a notebook, the best ones.
_TRIALS = 10


@dataclass(frozen=True, repr=False)
class Search(Shown):
    """A finished search.

    `trials` are what each reached at its last rung, by number, and `best` is the number of the best; 0 is the default. `judge` names the
    validation score that judged them, and `recipe` has the best settings. `comparison` is between the default and these, each with fresh
    seeds, on test data; `None` if the default was best. `validations` say what became of validation scores, `influences` which settings
    mattered.
    """

    space: Space
    trials: tuple[Result, ...]
    best: int
    judge: str
    recipe: Recipe
    comparison: Comparison | None
    validations: tuple[Validation, ...]
    influences: tuple[Influence, ...]
    folder: Path
    result: Mapping[str, Any]

    @property
    def is_better(self) -> bool:
        """Whether the best settings are shown to be better than the default on test data."""
        if self.comparison is None:
            return False
        (pair,) = self.comparison.pairs
        return pair.is_shown and (pair.difference.value > 0) == self.comparison.higher_is_better

    @property
    def recipe_file(self) -> Path:
        """The recipe with the best settings, for `epochal train --recipe`."""
        return self.folder / BEST

    @property
    def picture(self) -> Path:
        """The figure of all trials."""
        return self.folder / "figures" / f"{FIGURE}.png"

    @property
    def verdict(self) -> tuple[str, ...]:
        """What the search is worth, in sentences."""
        if self.comparison is None:
            return (f"The default is the best of {len(self.trials)} trials: there is nothing to gain.",)
        (pair,) = self.comparison.pairs
        lines = [self.comparison.verdict(pair)]
        if not self.is_better:
            lines.append("The default is as good: there is no reason to prefer what was found.")
        chosen = self.validations[1]
        before, after = self.number(chosen.selected), self.number(chosen.fresh)
        lines.append(f"Validation {self.judge} of the best: {before} when it was chosen, {after} with fresh seeds.")
        return tuple(lines)

    def number(self, cost: float) -> str:
        """Return a score that judges in words."""
        _, sign = monitored(self.judge)
        return f"{-sign * cost:.4g}"

    @property
    def heading(self) -> tuple[str, ...]:
        """The names of the columns of `table`."""
        return ("trial", f"validation {self.judge}", "epochs", *(name.rpartition(".")[2] for name in self.space))

    def table(self) -> list[tuple[str, ...]]:
        """Return the trials in words, those that came furthest first, the best of them first."""
        order = sorted(range(len(self.trials)), key=lambda trial: (-self.trials[trial].epochs, self.trials[trial].cost, trial))
        rows = []
        for trial in order:
            found = self.trials[trial]
            score = "failed" if found.score is None else self.number(found.score)
            values = (_in_words(found.values[name]) if name in found.values else DEFAULT for name in self.space)
            rows.append((f"{trial}", score, str(found.epochs), *values))
        return rows

    def influence_lines(self) -> tuple[str, ...]:
        """Return in sentences which settings mattered."""
        shown = [f"{one.setting} ({100 * one.share:.0f} %)" for one in self.influences if one.is_shown]
        others = [one.setting for one in self.influences if not one.is_shown]
        lines = []
        if shown:
            lines.append(f"Settings that alone explain the ranks of trials after a quarter of training: {', '.join(shown)}.")
        if others:
            lines.append(f"Not shown to matter by {len(self.trials)} trials: {', '.join(others)}.")
        return tuple(lines)

    def _title(self) -> str:
        return f"{len(self.trials)} trials"

    def _below(self) -> str:
        return table(self.heading, self.table()[:_TRIALS])

    def _rows(self) -> Rows:
        return [*(("", line) for line in self.verdict), ("recipe", str(self.recipe_file)), ("folder", str(self.folder))]


def _in_words(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else value if isinstance(value, str) else label(value)
