"""Cross-validation: what each fold measured, what all of them say together, and of what that is an interval."""

from __future__ import annotations

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
    title = f"Trained without a fold, models reach {first.words(low)} to {first.words(high)} on it"
    label = f"{first.name} by fold"
    bars: list[tuple[str, float, str, tuple[float, float] | None]] = []
    bars += [(translated(f"fold {place}"), value, first.words(value), None) for place, value in enumerate(first.by_fold, 1)]
    bars.append((translated("all"), first.value, first.words(first.value), first.interval))
    described = charts.Words("folds", translated(label), ", ".join(f"{name}: {value}" for name, _, value, _ in bars))
    rows = ((said(name), *map(safe, map(translated, cells))) for name, *cells in found.table())
    return section(
        "folds",
        title,
        words(*found.meaning),
        words(found.final, "Intervals in other sections are of these models, for other examples.", kind="soft"),
        "" if found.is_complete else words(f"Only {len(found.tested)} of {found.folds} folds are finished.", kind="warning"),
        figure(label, charts.rows(described, bars)),
        table(found.heading, rows, "Scores by fold"),
    )
