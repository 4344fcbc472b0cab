"""Several models that were trained alike: what each fold or seed measured, what all say together, and of what that is an interval."""

from __future__ import annotations

from collections.abc import Sequence

from epochal.evaluation.several import Several, SeveralScores
from epochal.language import translated
from epochal.page import safe, said
from epochal.report import charts
from epochal.report.facts import Facts
from epochal.report.parts import figure, section, table, words


def cross_validation(facts: Facts) -> str:
    """Return the scores of each fold, and of all of them."""
    found = facts.folds
    if found is None:
        return ""
    first = found.scores[0]
    low, high = min(first.by_fold), max(first.by_fold)
    return section(
        "folds",
        f"Trained without a fold, models reach {first.words(low)} to {first.words(high)} on it",
        words(*found.meaning),
        words(found.final, "Intervals in other sections are of these models, for other examples.", kind="soft"),
        "" if found.is_complete else words(f"Only {len(found.tested)} of {found.folds} folds are finished.", kind="warning"),
        _drawn("folds", f"{first.name} by fold", first, [(f"fold {place}", value) for place, value in enumerate(first.by_fold, 1)], "all"),
        _listed(found, "Scores by fold"),
    )


def repeats(facts: Facts) -> str:
    """Return the scores of each seed, and their mean."""
    found = facts.repeats
    if found is None:
        return ""
    first = found.scores[0]
    low, high = min(first.by_seed), max(first.by_seed)
    by_seed = [(f"seed {seed}", value) for seed, value in zip(found.seeds, first.by_seed, strict=True)]
    return section(
        "repeats",
        f"With {len(found.seeds)} seeds, {first.name} is {first.words(low)} to {first.words(high)}",
        words(*found.meaning),
        words("Other sections are of the first seed's model alone.", kind="soft"),
        "" if found.is_complete else words(f"Only {len(found.seeds)} of {found.repeats} repeats are finished.", kind="warning"),
        _drawn("repeats", f"{first.name} by seed", first, by_seed, "mean"),
        _listed(found, "Scores by seed"),
    )


def _drawn(name: str, label: str, score: SeveralScores, each: Sequence[tuple[str, float]], whole: str) -> str:
    """Return the score of each model as a bar, and that of all, called `whole`, with its interval."""
    bars: list[tuple[str, float, str, tuple[float, float] | None]] = []
    bars += [(translated(model), value, score.words(value), None) for model, value in each]
    bars.append((translated(whole), score.value, score.words(score.value), score.interval))
    described = charts.Words(name, translated(label), ", ".join(f"{model}: {value}" for model, _, value, _ in bars))
    return figure(label, charts.rows(described, bars))


def _listed(found: Several, name: str) -> str:
    rows = ((said(first), *map(safe, map(translated, cells))) for first, *cells in found.table())
    return table(found.heading, rows, name)
