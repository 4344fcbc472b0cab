"""The trials of a search, and what its best settings reach on test data beside the default."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from epochal.evaluation.compared import Comparison
from epochal.figures.style import BLUE, GREY, VERMILLION, WIDTH, styled

# Scores further from the median than so many times the best one is are drawn at the edge.
_FAR = 3.0


@styled
def trials_figure(
    scores: Sequence[float | None], complete: Sequence[bool], best: int, name: str, comparison: Comparison | None, *, higher: bool = False
) -> Figure:
    """Return the score of each trial by its number (`None` if it failed), those trained to the end apart; beside it, with a `comparison`,
    the test score of each seed. Trial 0 is the default."""
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    panels = figure.subplots(1, 1 if comparison is None else 2, width_ratios=None if comparison is None else (2.2, 1), squeeze=False)[0]
    _draw_trials(panels[0], scores, complete, best, name, higher=higher)
    if comparison is not None:
        _draw_tests(panels[1], comparison)
    return figure


def _draw_trials(axes: Axes, scores: Sequence[float | None], complete: Sequence[bool], best: int, name: str, *, higher: bool) -> None:
    known = [score for score in scores if score is not None]
    top = max(known) if higher else min(known)
    middle = statistics.median(known)
    edge = middle - _FAR * (top - middle)
    is_far = [score is None or (score < edge if higher else score > edge) for score in scores]
    near = [edge if far or score is None else score for score, far in zip(scores, is_far, strict=True)]
    groups = (
        ("stopped early", "o", "white", [not whole and not far for whole, far in zip(complete, is_far, strict=True)]),
        ("trained to the end", "o", BLUE, [whole and not far for whole, far in zip(complete, is_far, strict=True)]),
        ("failed, or far worse", "^" if not higher else "v", "white", is_far),
    )
    for words, marker, colour, chosen in groups:
        places = [place for place, is_in in enumerate(chosen) if is_in]
        if places:
            axes.plot(places, [near[place] for place in places], marker, color=BLUE, markerfacecolor=colour, label=words)
    axes.axhline(near[0], color=GREY, linestyle="--", linewidth=1, label="default")
    axes.plot([best], [near[best]], "o", color=VERMILLION, markersize=9, label="best")
    axes.set(xlabel="trial", ylabel=name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8)


def _draw_tests(axes: Axes, comparison: Comparison) -> None:
    by_name = {run.name: run.score for run in comparison.runs}
    for place, (setting, colour) in enumerate(zip(comparison.settings, (GREY, VERMILLION), strict=False)):
        points = [by_name[run] for run in setting.runs]
        axes.plot([place] * len(points), points, "o", color=colour, alpha=0.5, markersize=5)
        if setting.interval is not None:
            reach = [[setting.score - setting.interval[0]], [setting.interval[1] - setting.score]]
            axes.errorbar([place + 0.15], [setting.score], reach, fmt="s", color=colour, capsize=4)
    axes.set_xticks([0, 1], labels=["default", "best"])
    axes.set(xlim=(-0.5, 1.5), ylabel=f"test {comparison.score}", title="fresh seeds, mean and 95 % interval")
    axes.grid(axis="y", alpha=0.3)
