"""How much a model relies on each column."""

from __future__ import annotations

from matplotlib.figure import Figure

from epochal.evaluation.importance import REPEATS, Importance
from epochal.figures.fonts import short
from epochal.figures.style import BLUE, GREY, readable, styled

_MOST = 25


@styled
def column_importance(found: Importance) -> Figure:
    """Return bars for the most important columns, with intervals over the repeats."""
    shown = found.columns[:_MOST]
    figure = Figure(figsize=(7.2, 1.3 + 0.24 * len(shown)), layout="constrained")
    axes = figure.subplots()
    places = range(len(shown))
    axes.barh(places, [one.loss for one in shown], color=BLUE, height=0.6)
    around = [one.interval[1] - one.loss for one in shown]
    axes.errorbar([one.loss for one in shown], places, xerr=around, fmt="none", ecolor="black", elinewidth=1, capsize=2)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_yticks(places, [short(name, 32) for name in readable([one.column for one in shown])])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel(f"the loss rises by ({found.rows:,} rows of {found.split}; mean of {REPEATS} shuffles with its 95 % interval)")
    of = f" (the first {len(shown)} of {len(found.columns)})" if len(shown) < len(found.columns) else ""
    axes.set_title(f"How much worse predictions become where a column is shuffled{of}", loc="left")
    return figure
