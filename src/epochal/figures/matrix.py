"""The confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from rich.cells import cell_len
from torch import Tensor

from epochal.evaluation.evaluate import Evaluation
from epochal.figures.fonts import short
from epochal.figures.style import readable, styled

_CELLS_WITH_TEXT = 20


@styled
def confusion(evaluation: Evaluation, names: Sequence[str]) -> Figure:
    """Return the confusion matrix: a row for each true class, a column for each predicted one.

    The colour is the share of the row, stretched at the low end so that rare mistakes are visible; the numbers are counts, omitted
    beyond twenty classes.
    """
    counts = evaluation.confusion
    assert counts is not None
    shares = (counts / counts.sum(1, keepdim=True).clamp(min=1)).numpy()
    shown = [short(name, 20) for name in readable(names)]
    number = len(shown)
    side = max(2.4, 0.46 * number) if number <= _CELLS_WITH_TEXT else min(13.0, 5 + 0.09 * number)
    # Of many classes only some are named: a thousand names are slow to draw and too small to read.
    every = -(-number // 100)
    size = min(9.0, 0.75 * 72 * side * every / number)
    # Inches for the names at the side and, if they do not fit side by side, below.
    room = size / 72 * 0.65 * max(map(cell_len, shown))
    turned = room > 0.9 * side * every / number
    figure = Figure(figsize=(side + room + 1.5, side + (room if turned else 0.15) + 0.7), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    percent = PercentFormatter(xmax=1, decimals=0, symbol=" %")
    bar = figure.colorbar(picture, ax=axes, shrink=0.8, ticks=[0, 0.01, 0.05, 0.1, 0.25, 0.5, 1], format=percent)
    bar.set_label("share of the true class")
    axes.set_xticks(range(0, number, every), shown[::every], rotation=90 if turned else 0, fontsize=size)
    axes.set_yticks(range(0, number, every), shown[::every], fontsize=size)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    right = int(counts.diagonal().sum())
    axes.set(xlabel="predicted", ylabel="true", title=f"{right:,} of {evaluation.count:,} right ({100 * right / evaluation.count:.1f} %)")
    if number <= _CELLS_WITH_TEXT:
        _write_counts(axes, counts, shares)
    return figure


def _write_counts(axes: Axes, counts: Tensor, shares: Any) -> None:
    """Write each count into its cell; zeros are left empty, so that the mistakes stand out."""
    widest = len(f"{int(counts.max()):,}")
    for row, column in counts.nonzero().tolist():
        colour = "white" if shares[row, column] > 0.35 else "black"
        axes.text(column, row, f"{int(counts[row, column]):,}", ha="center", va="center", color=colour, fontsize=9 if widest <= 4 else 7)
