"""Repeats: what each seed reached, and how much of what is not known comes from seeds, and how much from test examples."""

from __future__ import annotations

from epochal.language import translated
from epochal.page import safe, said
from epochal.report import charts
from epochal.report.facts import Facts
from epochal.report.parts import figure, section, table, words


def repeats(facts: Facts) -> str:
    """Return the scores of each seed, and their mean."""
    found = facts.repeats
    if found is None:
        return ""
    first = found.scores[0]
    low, high = min(first.by_seed), max(first.by_seed)
    title = f"With {len(found.seeds)} seeds, {first.name} is {first.words(low)} to {first.words(high)}"
    label = f"{first.name} by seed"
    bars: list[tuple[str, float, str, tuple[float, float] | None]] = []
    bars += [(translated(f"seed {seed}"), value, first.words(value), None) for seed, value in zip(found.seeds, first.by_seed, strict=True)]
    bars.append((translated("mean"), first.value, first.words(first.value), first.interval))
    described = charts.Words("repeats", translated(label), ", ".join(f"{name}: {value}" for name, _, value, _ in bars))
    rows = ((said(name), *map(safe, map(translated, cells))) for name, *cells in found.table())
    return section(
        "repeats",
        title,
        words(*found.meaning),
        words("Other sections are of the first seed's model alone.", kind="soft"),
        "" if found.is_complete else words(f"Only {len(found.seeds)} of {found.repeats} repeats are finished.", kind="warning"),
        figure(label, charts.rows(described, bars)),
        table(found.heading, rows, "Scores by seed"),
    )
