"""Predicted against true values, and what is left between them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from epochal.evaluation.evaluate import Evaluation
from epochal.figures.fonts import short
from epochal.figures.style import BLUE, GREY, VERMILLION, WIDTH, readable, styled
from epochal.tasks.scores import plain, r2_words

_MOST_PANELS = 4

# So many points overlap: transparency then shows how many, and rasterizing keeps the SVG small.
_MANY = 500

# More points are evenly thinned out.
_MOST_DRAWN = 20_000

# PyTorch ranks so many numbers at most.
_MOST_RANKED = 10_000_000


@styled
def scatter(evaluation: Evaluation, names: Sequence[str]) -> Figure:
    """Return predicted against true values, a panel for each of the first four outputs; on the diagonal they are the same."""
    panels = min(len(names), _MOST_PANELS)
    columns = min(panels, 2)
    figure = Figure(figsize=(4.4 * columns, 4.2 * -(-panels // columns) + 0.3), layout="constrained")
    grid = figure.subplots(-(-panels // columns), columns, squeeze=False).reshape(-1)
    targets = evaluation.targets.reshape(len(evaluation.predictions), -1)
    for axes in grid[panels:]:
        axes.set_visible(False)
    for index, (axes, name) in enumerate(zip(grid, readable(names)[:panels], strict=False)):
        _draw_points(axes, targets[:, index], evaluation.predictions[:, index])
        axes.set_title(short(name, 40))
    assert evaluation.r2 is not None
    assert evaluation.mae is not None
    of = f" (the first {panels} of {len(names)} outputs)" if panels < len(names) else ""
    figure.suptitle(f"R² {r2_words(evaluation.r2)}, mean absolute error {plain(evaluation.mae, 4)}{of}")
    return figure


def _draw_points(axes: Axes, true: Tensor, predicted: Tensor) -> None:
    low = min(float(true.min()), float(predicted.min()))
    high = max(float(true.max()), float(predicted.max()))
    margin = (high - low) * 0.05 or 0.5
    limits = (low - margin, high + margin)
    axes.plot(limits, limits, "--", color=GREY, linewidth=1, label="predicted = true")
    _dots(axes, true, predicted)
    axes.set(xlim=limits, ylim=limits, aspect="equal", xlabel="true", ylabel="predicted")
    axes.legend(loc="upper left")


def _dots(axes: Axes, x: Tensor, y: Tensor) -> None:
    many, every = len(x) > _MANY, -(-len(x) // _MOST_DRAWN)
    axes.scatter(x[::every], y[::every], s=8 if many else 16, alpha=0.3 if many else 0.6, color=BLUE, linewidths=0, rasterized=many)


@styled
def residuals(evaluation: Evaluation, names: Sequence[str]) -> Figure:
    """Return the residuals (true less predicted) over the predicted values, and how they are distributed, for each of the first four
    outputs: where they widen, bend or lean to one side, the model misses something."""
    panels = min(len(names), _MOST_PANELS)
    figure = Figure(figsize=(WIDTH, 2.9 * panels), layout="constrained")
    grid = figure.subplots(panels, 2, squeeze=False, width_ratios=(2.2, 1), sharey="row")
    targets = evaluation.targets.double().reshape(len(evaluation.predictions), -1)
    for (left, right), name, true, predicted in zip(grid, readable(names), targets.T, evaluation.predictions.double().T, strict=False):
        off = true - predicted
        left.axhline(0, color=GREY, linestyle="--", linewidth=1)
        _dots(left, predicted, off)
        left.set(title=short(name, 40), xlabel="predicted", ylabel="true less predicted")
        low, middle, high = torch.quantile(off[:: -(-len(off) // _MOST_RANKED)], torch.tensor((0.05, 0.5, 0.95), dtype=off.dtype)).tolist()
        right.hist(off.numpy(), bins=min(60, max(10, len(off) // 20)), orientation="horizontal", color=BLUE, alpha=0.6)
        for place, line in ((high, ":"), (middle, "-"), (low, ":")):
            right.axhline(place, color=VERMILLION, linestyle=line, linewidth=1.2)
        right.set_xlabel("examples")
        right.set_title(f"5 %: {plain(low, 3)}   median: {plain(middle, 3)}   95 %: {plain(high, 3)}", fontsize=9)
    return figure
