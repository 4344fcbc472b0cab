"""Predicted against true values."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from epochal.evaluation.evaluate import Evaluation
from epochal.figures.fonts import short
from epochal.figures.style import BLUE, GREY, readable, styled
from epochal.tasks.scores import plain, r2_words

_MOST_PANELS = 4


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
    # Many points overlap: transparency shows how many, and rasterizing keeps the SVG small.
    many = len(true) > 500
    axes.scatter(true, predicted, s=8 if many else 16, alpha=0.3 if many else 0.6, color=BLUE, linewidths=0, rasterized=many)
    axes.set(xlim=limits, ylim=limits, aspect="equal", xlabel="true", ylabel="predicted")
    axes.legend(loc="upper left")
