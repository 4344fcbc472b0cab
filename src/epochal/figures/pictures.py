"""Pictures with what the model says about them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy
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
from epochal.errors import DataError
from epochal.evaluation.shown_examples import Block, blocks
from epochal.figures.fonts import printable, short
from epochal.figures.style import GREY, WIDTH, colour_of, styled, with_fonts_for
from epochal.tasks.base import Judged

# uint8 [height, width] or [height, width, 3].
Pixels: TypeAlias = NDArray[numpy.uint8]

_COLUMNS, _ROWS = 6, 2
_HEADING = 0.4


def draw_pictures(examples: Examples, rule: InputRule, judged: Judged) -> Figure:
    """Return pictures, as `rule` draws examples, under what is said of them; sounds also have their names, and fill their place."""
    shown = blocks(judged, _COLUMNS * _ROWS, _COLUMNS * _ROWS)
    first = rule.draw(examples.input(0))
    assert first is not None
    has_names = rule.noun == "sound"
    high = _cell(first, has_names=has_names)[1]
    heights = [_HEADING + high * -(-len(block.places) // _COLUMNS) for block in shown]
    top = sum(heights)
    figure = Figure(figsize=(WIDTH, top))
    for block, height in zip(shown, heights, strict=True):
        place_in_inches: Any = {"transform": figure.dpi_scale_trans, "ha": "center", "va": "top"}
        figure.text(WIDTH / 2, top - 0.1, block.title, color=colour_of(block), fontsize=11, fontweight="bold", **place_in_inches)
        drawn = [pixels for place in block.places if (pixels := rule.draw(examples.input(place))) is not None]
        names = [short(printable("/".join(Path(examples.where(place)).parts[-2:])), 22) if has_names else "" for place in block.places]
        _draw_block(figure, top - _HEADING, block, drawn, names, judged)
        top -= height
    return figure


def _cell(picture: Pixels, *, has_names: bool) -> tuple[float, float]:
    """Return the width of a picture in a block, and the height of it with what is written above and below, in inches."""
    wide = WIDTH / _COLUMNS - 0.3
    return wide, wide * _aspect(picture) + (0.84 if has_names else 0.7)


def _draw_block(figure: Figure, top: float, block: Block, drawn: Sequence[Pixels], names: Sequence[str], judged: Judged) -> None:
    """Draw the pictures of a block, with their `names`, in rows, from `top` inches above the lower edge downwards.

    They are laid out by hand: a set of axes for each, and a layout engine to place them, would take ten times as long.
    """
    inches = figure.dpi_scale_trans
    around: Any = {"transform": inches, "ha": "center", "va": "top", "fontsize": 8}
    for number, (place, picture, name) in enumerate(zip(block.places, drawn, names, strict=True)):
        wide, high = _cell(picture, has_names=bool(name))
        row, column = divmod(number, _COLUMNS)
        middle, above = WIDTH / _COLUMNS * (column + 0.5), top - row * high
        title = f"{block.mark}{short(judged.predicted(place), 18)}\ntrue: {short(judged.true(place), 16)}"
        figure.text(middle, above, title, linespacing=1.2, **around)
        height, width = (share * wide for share in ((_aspect(picture), 1.0) if name else _fitted(picture)))
        bounds = (middle - width / 2, above - 0.34 - height, width, height)
        image = BboxImage(TransformedBbox(Bbox.from_bounds(*bounds), inches), cmap="gray", norm=Normalize(0, 255), interpolation="nearest")
        image.set_data(picture)
        figure.add_artist(image)
        figure.add_artist(Rectangle(bounds[:2], width, height, transform=inches, fill=False, edgecolor=colour_of(block), linewidth=2))
        below = f"{judged.note(place)}\n{name}".strip()
        figure.text(middle, bounds[1] - 0.05, below, color=GREY, linespacing=1.2, **around)


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
