"""Speed by device and batch size."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

from epochal.figures.style import BLUE, GREEN, GREY, ORANGE, SKY, VERMILLION, WIDTH, styled
from epochal.tuning.profile import Profile

_VERY_DIFFERENT = 30


@styled
def speeds(profiles: Sequence[Profile]) -> Figure:
    """Return examples per second by batch size, a line for each device, and the shares of the phases of a step."""
    figure = Figure(figsize=(WIDTH, max(3.4, 1.6 + 0.3 * len(profiles))), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
    devices = list(dict.fromkeys(one.device for one in profiles))
    for device, colour, marker in zip(devices, itertools.cycle((BLUE, VERMILLION, GREEN, GREY)), itertools.cycle("os^D"), strict=False):
        shown = sorted((one for one in profiles if one.device == device), key=lambda one: one.batch_size)
        sizes = [one.batch_size for one in shown]
        left.plot(sizes, [one.examples_per_second for one in shown], "-", marker=marker, color=colour, label=device, clip_on=False)
        floors = [one.floor or numpy.nan for one in shown]
        if not numpy.isnan(floors).all():
            left.plot(sizes, floors, ":", marker=marker, markerfacecolor="white", color=colour, label=f"{device}, arithmetic only")
    left.set(title="Examples per second", xlabel="batch size", xscale="log")
    # On one scale from zero, the slower of two very different devices would be on the axis.
    all_speeds = [speed for one in profiles for speed in (one.examples_per_second, one.floor) if speed is not None]
    if max(all_speeds) > _VERY_DIFFERENT * min(all_speeds):
        left.set_yscale("log")
    else:
        left.set_ylim(0, None)
    left.set_xticks(
        sorted({one.batch_size for one in profiles}), labels=[str(size) for size in sorted({one.batch_size for one in profiles})]
    )
    left.minorticks_off()
    left.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    left.grid(axis="y", alpha=0.3)
    # Below, where no line can cross it.
    figure.legend(*left.get_legend_handles_labels(), ncols=4, loc="outside lower center")
    _draw_shares(right, profiles)
    return figure


def _draw_shares(axes: Axes, profiles: Sequence[Profile]) -> None:
    places = range(len(profiles))
    begins = numpy.zeros(len(profiles))
    for phase, colour, ink in zip(profiles[0].shares, (GREY, SKY, BLUE, ORANGE), ("white", "black", "white", "black"), strict=True):
        shares = numpy.array([one.shares[phase] for one in profiles])
        bars = axes.barh(places, shares, left=begins, color=colour, edgecolor="white", label=phase)
        axes.bar_label(
            bars, [f"{100 * share:.0f}" if share >= 0.05 else "" for share in shares], label_type="center", color=ink, fontsize=8
        )
        begins += shares
    axes.set_yticks(places, labels=[f"{one.device}, {one.batch_size}" for one in profiles])
    axes.invert_yaxis()
    axes.set_title("Share of the time of a step", pad=24)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    axes.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1), handlelength=1, columnspacing=1)
