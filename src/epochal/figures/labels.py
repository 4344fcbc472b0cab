"""The score by the number of labels, and what more of them would bring."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator, PercentFormatter

from epochal.evaluation.labels import LearningCurve
from epochal.figures.style import BLUE, GREY, VERMILLION, styled


@styled
def score_by_labels(curve: LearningCurve) -> Figure:
    """Return the measured scores with their intervals and, apart from them, what twice as many labels are expected to bring."""
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axes = figure.subplots()
    labels, scores = [one.labels for one in curve.points], [one.score for one in curve.points]
    errors = [[one.score - one.interval[0] for one in curve.points], [one.interval[1] - one.score for one in curve.points]]
    axes.errorbar(labels, scores, errors, fmt="o-", color=BLUE, capsize=4, label="measured, with 95 % interval")
    if (twice := curve.twice) is not None:
        axes.plot([labels[-1], twice.labels], [scores[-1], twice.score], ":", color=GREY)
        reach = [[twice.score - twice.interval[0]], [twice.interval[1] - twice.score]]
        axes.errorbar([twice.labels], [twice.score], reach, fmt="s", color=VERMILLION, markerfacecolor="white", capsize=4, label="expected")
        labels = [*labels, twice.labels]
    score = curve.task.score_name
    title = f"{score[0].upper()}{score[1:]} by the number of labels ({curve.count:,} {curve.measured_on} examples)"
    axes.set(title=title, xlabel="labels", xscale="log")
    axes.set_xticks(labels, labels=[f"{number:,}" for number in labels])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    if curve.task.has_accuracy:
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    return figure
