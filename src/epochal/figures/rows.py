"""Rows of values with what the model says about them: in what mistakes are unlike their class, and like the predicted one."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from epochal.data.examples import Examples
from epochal.data.spec import DataSpec
from epochal.evaluation.evaluate import Evaluation
from epochal.evaluation.shown_examples import blocks
from epochal.evaluation.telling import Telling, percent, telling_values
from epochal.figures.fonts import printable, short
from epochal.figures.style import BLUE, GREY, VERMILLION, WIDTH, with_fonts_for
from epochal.tasks.base import Judged, Task

# So many mistakes, in so many columns.
_MISTAKES, _COLUMNS = 8, 2

# Heights in inches: of the heading, of what is said of a mistake, of a value, and between mistakes.
_HEADING, _TITLE, _VALUE, _GAP = 0.95, 0.42, 0.2, 0.2
_LEFT, _BAR = 0.3, 0.55


def draw_rows(examples: Examples, evaluation: Evaluation, spec: DataSpec, train: Examples, judged: Judged) -> Figure | None:
    """Return the worst mistakes, each with the values in which it is least like its class and most like the predicted one."""
    shown = blocks(judged, _MISTAKES, 0)
    if not shown:
        return None
    block = shown[0]
    cells = {place: spec.input.cells(examples.input(place)) for place in block.places}
    with_fonts_for([words for some in cells.values() for cell in some for words in (cell.name, cell.words)])
    find = telling_values(examples, evaluation, spec, train)
    telling = {place: find(place) for place in block.places}
    high = _TITLE + _VALUE * max(map(len, telling.values())) + _GAP
    top = _HEADING + high * -(-len(block.places) // _COLUMNS)
    figure = Figure(figsize=(WIDTH, top))
    at: Any = {"transform": figure.dpi_scale_trans, "va": "top"}
    figure.text(WIDTH / 2, top - 0.1, block.title, color=VERMILLION, fontsize=11, fontweight="bold", ha="center", **at)
    figure.text(WIDTH / 2, top - 0.36, _legend(spec.task), color=GREY, fontsize=8, ha="center", **at)
    largest = max((max(one.of_true, one.of_predicted) for some in telling.values() for one in some), default=1.0)
    for number, place in enumerate(block.places):
        row, column = divmod(number, _COLUMNS)
        left, above = _LEFT + column * WIDTH / _COLUMNS, top - _HEADING - row * high
        said = f"{block.mark}{judged.predicted(place)}   {judged.note(place)}"
        figure.text(left, above, short(said, 44), fontsize=9, fontweight="bold", color=VERMILLION, **at)
        name = short(printable(examples.where(place)), 30)
        figure.text(left + WIDTH / _COLUMNS - 2 * _LEFT, above, name, fontsize=7, color=GREY, ha="right", **at)
        figure.text(left, above - 0.18, short(f"true: {judged.true(place)}", 48), fontsize=8, color=BLUE, **at)
        if not telling[place]:
            figure.text(left, above - _TITLE, "no value speaks for the prediction by itself", fontsize=7.5, color=GREY, **at)
        for line, one in enumerate(telling[place]):
            _draw_value(figure, left, above - _TITLE - line * _VALUE, one, _BAR / largest)
    return figure


def _legend(task: Task) -> str:
    if task.has_accuracy:
        what = "class" if task.has_classes else "labels"
        true, predicted = f"of the true {what}", f"of the predicted {what}"
    else:
        true, predicted = "with about the true target", "with about the predicted one"
    return (
        f"bars: share of training rows {true} (blue) and {predicted} (red) that have such a value\n"
        f"above, below: share of training rows {true} that the value is above or below"
    )


def _draw_value(figure: Figure, left: float, above: float, one: Telling, unit: float) -> None:
    """Draw a value with both of its shares, as bars of `unit` inches for the whole."""
    inches = figure.dpi_scale_trans
    at: Any = {"transform": inches, "va": "top", "fontsize": 7.5}
    figure.text(left, above, short(printable(one.cell.name), 18), color=GREY, **at)
    figure.text(left + 1.15, above, short(printable(one.cell.words), 17), **at)
    figure.text(left + 2.25, above, one.words(), color=GREY, **at)
    for number, (share, colour) in enumerate(((one.of_true, BLUE), (one.of_predicted, VERMILLION))):
        corner = left + 3.1, above - 0.07 - number * 0.06
        figure.add_artist(Rectangle(corner, max(0.01, unit * share), 0.05, color=colour, linewidth=0, transform=inches))
    right = left + 3.14 + unit * max(one.of_true, one.of_predicted)
    figure.text(right, above, f"{percent(one.of_true)}, {percent(one.of_predicted)}", color=GREY, **at)
