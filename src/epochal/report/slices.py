"""Slices: the examples with one value in a column, against all others."""

from __future__ import annotations

import math

from epochal.evaluation.slices import LEAST, Slice, Slices
from epochal.language import translated
from epochal.page import safe
from epochal.report import charts
from epochal.report.facts import SPLITS, Facts
from epochal.report.parts import between, cell, folded, percent, section, table, words
from epochal.shown import counted

# Tables begin with so many.
_LISTED = 12


def slices(facts: Facts) -> str:
    """Return the slices that are shown to be worse, or how much worse one would have to be for that."""
    found = None if facts.assessment is None else facts.assessment.slices
    if found is None:
        return ""
    about = [f"A slice is all {SPLITS[found.split]} with one value in a column; it has at least {LEAST}, and so have all others."]
    if found.left_out:
        about.append(f"{counted(found.left_out, 'more column')} left out: to look at all would have taken long.")
    if not found.compared:
        return section("slices", found.title, words(*about, kind="soft"))
    about.append(f"p is corrected for looking at {counted(found.compared, 'slice')} (Holm): below 0.05, a slice is shown to be worse.")
    about.append("A slice may be worse because it is harder, or because training had few such examples.")
    heads = (
        "slice",
        "examples",
        found.score,
        *(("",) if found.higher_is_better else ()),
        "95 % interval",
        "difference",
        "95 % interval",
        "p",
    )
    least = min([0.9, *(math.floor(10 * one.interval[0]) / 10 for one in found.found if one.interval is not None)])
    rows = [_row(found, one, least) for one in found.found]
    first = max(found.shown, _LISTED) if found.shown < 2 * _LISTED else _LISTED
    more = folded(f"{len(rows) - first:,} more", table(heads, rows[first:], "Further slices")) if len(rows) > first else ""
    return section("slices", found.title, words(*about, kind="soft"), table(heads, rows[:first], "Slices"), more)


def _digits(found: Slices) -> int:
    """Return how many decimals leave four digits of the largest score."""
    most = max(abs(one.score) for one in found.found)
    return max(0, 3 - math.floor(math.log10(most))) if most > 0 else 1


def _row(found: Slices, one: Slice, least: float) -> tuple[str, ...]:
    low, high = one.difference_interval
    if found.higher_is_better:
        change, ends = f"{100 * one.difference:+.1f}", translated(f"{100 * low:+.1f} to {100 * high:+.1f}")
        score, around = percent(one.score), "–" if one.interval is None else between(one.interval)
    else:
        digits = _digits(found)
        change, ends = f"{one.difference:+,.{digits}f}", translated(f"{low:+,.{digits}f} to {high:+,.{digits}f}")
        score, around = f"{one.score:,.{digits}f}", "–"
        if one.interval is not None:
            around = translated(f"{one.interval[0]:,.{digits}f} to {one.interval[1]:,.{digits}f}")
    drawn = "" if one.interval is None or not found.higher_is_better else charts.between(one.score, one.interval, least)
    p = "< 0.0001" if one.p < 0.0001 else f"{one.p:.2g}"
    cells = (cell(one.name), f"{one.count:,}", score, *((drawn,) if found.higher_is_better else ()), safe(around), safe(change), safe(ends))
    return (*cells, f"<b>{safe(p)}</b>" if one.is_shown else safe(p))
