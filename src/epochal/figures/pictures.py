"""Pictures with what the model says about them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy
import torch
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import BboxImage
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox, TransformedBbox
from numpy.typing import NDArray
from torch import Tensor

from epochal.data.examples import Examples
from epochal.data.inputs.base import InputRule
from epochal.data.inputs.picture.rule import pixels_of
from epochal.data.spec import DataSpec
from epochal.errors import DataError
from epochal.evaluation.evaluate import Evaluation
from epochal.figures.fonts import printable, short
from epochal.figures.style import BLUE, GREY, VERMILLION, WIDTH, readable, styled, with_fonts_for
from epochal.tasks.base import Judged

# uint8 [height, width] or [height, width, 3].
Pixels: TypeAlias = NDArray[numpy.uint8]

_COLUMNS, _ROWS = 6, 2
_HEADING = 0.4


@styled
def predictions(examples: Examples, evaluation: Evaluation, spec: DataSpec) -> Figure | None:
    """Return a few pictures with what the model says: its most confident mistakes, and some that it gets right.

    `None` where such inputs are not drawn, or where right and wrong do not apply (quantities).
    """
    first = spec.input.draw(examples.input(0))
    if first is None:
        return None
    judged = evaluation.task.judge(evaluation.predictions, evaluation.targets, readable(spec.outputs))
    if judged is None:
        return None
    wrong = (~judged.right).nonzero()[:, 0]
    wrong = wrong[judged.sure[wrong].argsort(descending=True, stable=True)]
    right = judged.right.nonzero()[:, 0]
    most = _COLUMNS * _ROWS
    evenly = torch.linspace(0, len(right) - 1, min(most, len(right))).round().long()
    blocks = [
        (f"✗ Wrong: {len(wrong):,} of {evaluation.count:,}, the most confident first", wrong[:most], VERMILLION, "✗"),
        (f"✓ Right: {len(right):,} of {evaluation.count:,}, evenly chosen", right[evenly], BLUE, "✓"),
    ]
    blocks = [block for block in blocks if len(block[1])]
    high = _cell(first)[1]
    heights = [_HEADING + high * -(-len(places) // _COLUMNS) for _, places, _, _ in blocks]
    top = sum(heights)
    figure = Figure(figsize=(WIDTH, top))
    for (title, places, colour, mark), height in zip(blocks, heights, strict=True):
        place_in_inches: Any = {"transform": figure.dpi_scale_trans, "ha": "center", "va": "top"}
        figure.text(WIDTH / 2, top - 0.1, title, color=colour, fontsize=11, fontweight="bold", **place_in_inches)
        drawn = [(place, spec.input.draw(examples.input(place))) for place in places.tolist()]
        _draw_block(figure, top - _HEADING, [(place, pixels) for place, pixels in drawn if pixels is not None], colour, mark, judged)
        top -= height
    return figure


def _cell(picture: Pixels) -> tuple[float, float]:
    """Return the width of a picture in a block, and the height of it with what is written above and below, in inches."""
    wide = WIDTH / _COLUMNS - 0.3
    return wide, wide * _aspect(picture) + 0.7


def _draw_block(figure: Figure, top: float, drawn: Sequence[tuple[int, Pixels]], colour: str, mark: str, judged: Judged) -> None:
    """Draw pictures, each with its place among the examples, in rows, from `top` inches above the lower edge downwards.

    They are laid out by hand: a set of axes for each, and a layout engine to place them, would take ten times as long.
    """
    inches = figure.dpi_scale_trans
    around: Any = {"transform": inches, "ha": "center", "va": "top", "fontsize": 8}
    for number, (place, picture) in enumerate(drawn):
        wide, high = _cell(picture)
        row, column = divmod(number, _COLUMNS)
        middle, above = WIDTH / _COLUMNS * (column + 0.5), top - row * high
        figure.text(
            middle, above, f"{mark} {short(judged.predicted[place], 18)}\ntrue: {short(judged.true[place], 16)}", linespacing=1.2, **around
        )
        height, width = (share * wide for share in _fitted(picture))
        bounds = (middle - width / 2, above - 0.34 - height, width, height)
        image = BboxImage(TransformedBbox(Bbox.from_bounds(*bounds), inches), cmap="gray", norm=Normalize(0, 255), interpolation="nearest")
        image.set_data(picture)
        figure.add_artist(image)
        figure.add_artist(Rectangle(bounds[:2], width, height, transform=inches, fill=False, edgecolor=colour, linewidth=2))
        figure.text(middle, bounds[1] - 0.05, _percent(float(judged.sure[place])), color=GREY, **around)


def _fitted(picture: Pixels) -> tuple[float, float]:
    """Return height and width of a picture that is to fit a cell of width 1."""
    high = _aspect(picture)
    aspect = picture.shape[0] / picture.shape[1]
    return (high, high / aspect) if aspect > high else (aspect, 1.0)


@styled
def single(example: Tensor, title: str, rule: InputRule | None = None) -> Figure:
    """Return one input as its `rule` draws it, or as a picture [1 or 3, height, width], under `title`.

    Raises `DataError` for what cannot be drawn.
    """
    picture = pixels_of(example) if rule is None else rule.draw(example)
    if picture is None:
        raise DataError(f"Inputs of shape {tuple(example.shape)} are not pictures.", "Only pictures can be drawn.")
    with_fonts_for([title])
    words = textwrap.fill(printable(title), 38)
    figure = Figure(figsize=(4, 4 * _aspect(picture) + 0.4 + 0.2 * words.count("\n")), layout="constrained")
    axes = figure.subplots()
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(words, fontsize=12)
    return figure


def _aspect(picture: Pixels) -> float:
    """Height by width, within reason: a strip of a picture would leave no room for words."""
    height, width = picture.shape[:2]
    return min(2.0, max(0.3, float(height / width)))


def _percent(share: float) -> str:
    """Write a probability; one that is not 1 never reads as 100 %."""
    return f"{100 * share:.1f} %" if share < 0.9995 else "> 99.9 %"
