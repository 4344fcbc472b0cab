"""The loss by the learning rate, of a range test."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from epochal.figures.style import BLUE, GREY, VERMILLION, styled


@styled
def loss_by_rate(
    rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], suggested: float | None, current: float
) -> Figure:
    """Return the loss of each step over its rate, smoothed, with the rate that is suggested and the one of the recipe."""
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, ".", color=GREY, alpha=0.3, markersize=4, label="steps")
    axes.plot(rates, smoothed, color=BLUE, label="smoothed")
    if suggested is not None:
        axes.axvline(suggested, color=VERMILLION, label=f"suggested: {suggested:g}")
    axes.axvline(current, color=GREY, linestyle="--", label=f"recipe: {current:g}")
    low, high = min(smoothed), smoothed[0]
    room = (high - low) or 0.1
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss", ylim=(low - 0.2 * room, high + 0.6 * room))
    # The default writes powers as formulas, which figures here have none of.
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_title("Learning-rate range test")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8)
    return figure
