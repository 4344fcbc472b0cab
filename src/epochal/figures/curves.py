"""Learning curves."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from epochal.figures.style import BLUE, VERMILLION, styled
from epochal.tasks.base import Task
from epochal.tasks.scores import Scores
from epochal.training.records import EpochDone


@styled
def learning_curves(epochs: Sequence[EpochDone], task: Task) -> Figure:
    """Return training and validation loss over the epochs and, with validation data, the score of the task beside it."""
    validated = [done.valid for done in epochs if done.valid is not None]
    # Laid out by hand, with room for any number at the axes: a layout engine would take as long as drawing does.
    wide = 9.0 if validated else 5.0
    figure = Figure(figsize=(wide, 3.4))
    panels = figure.subplots(1, 2 if validated else 1, squeeze=False)[0]
    figure.subplots_adjust(left=0.8 / wide, right=1 - 0.2 / wide, bottom=0.16, top=0.9, wspace=0.25)
    numbers = [done.epoch for done in epochs]
    _curve(panels[0], numbers, [done.train_loss for done in epochs], "training", BLUE, "o", "-")
    panels[0].set(title="Loss", xlabel="epoch")
    if validated:
        kept = next(index for index in reversed(range(len(epochs))) if epochs[index].is_best)
        losses = [valid.loss for valid in validated]
        _curve(panels[0], numbers, losses, "validation", VERMILLION, "s", "--")
        _mark(panels[0], numbers[kept], losses[kept], f"{losses[kept]:.4g}")
        _draw_scores(panels[1], numbers, validated, kept, task)
    for axes in panels:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
        axes.set_xlim(min(numbers) - 0.5, max(numbers) + 0.5)
        axes.grid(axis="y", alpha=0.3)
        axes.legend()
    return figure


def _draw_scores(axes: Axes, epochs: Sequence[int], validated: Sequence[Scores], kept: int, task: Task) -> None:
    scores = [task.score_value(valid) for valid in validated]
    _curve(axes, epochs, scores, "validation", VERMILLION, "s", "--")
    _mark(axes, epochs[kept], scores[kept], task.score_words(scores[kept]))
    axes.set(title=f"Validation {task.score_name}", xlabel="epoch")
    if task.has_accuracy:
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, 0), min(high, 1))
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))


def _curve(axes: Axes, epochs: Sequence[int], values: Sequence[float], label: str, colour: str, marker: str, line: str) -> None:
    # Markers show the only point of a single epoch; over many epochs they would hide the line.
    marker = marker if len(epochs) <= 30 else ""
    axes.plot(epochs, values, line, color=colour, label=label, marker=marker, markersize=4, clip_on=False)


def _mark(axes: Axes, epoch: int, value: float, words: str) -> None:
    """Circle the epoch whose weights were kept; its number is in the legend, where no line can cross it."""
    circle = {"markersize": 11, "markerfacecolor": "none", "markeredgecolor": "black"}
    axes.plot([epoch], [value], "o", label=f"kept: epoch {epoch}, {words}", clip_on=False, **circle)  # type: ignore[arg-type]
