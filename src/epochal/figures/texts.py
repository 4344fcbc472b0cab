"""Texts with what the model says about them."""

from __future__ import annotations

import unicodedata
from typing import Any

from matplotlib.figure import Figure

from epochal.data.examples import Examples
from epochal.evaluation.shown_examples import Block, blocks
from epochal.figures.fonts import printable
from epochal.figures.style import GREY, WIDTH, colour_of, with_fonts_for
from epochal.tasks.base import Judged

_WRONG, _RIGHT = 10, 4

# Of longer texts, the beginning is shown: so many lines, of so many average letters, and what is read to fill them.
_LINES, _WIDE = 3, 118
_MOST = 1000

# Heights in inches: of a block's heading, of what is said of a text, and of a line of it.
_HEADING, _TITLE, _LINE, _GAP = 0.4, 0.19, 0.165, 0.12
_LEFT = 0.3


def draw_texts(examples: Examples, judged: Judged) -> Figure:
    """Return texts, each under what is said of it and its name; of long ones the beginning."""
    shown = blocks(judged, _WRONG, _RIGHT)
    texts = {place: examples.text(place) for block in shown for place in block.places}
    lines = {place: wrapped(printable(text[:_MOST]), is_whole=len(text) <= _MOST) for place, text in texts.items()}
    with_fonts_for([line for some in lines.values() for line in some])
    heights = [_HEADING + sum(_TITLE + _LINE * len(lines[place]) + _GAP for place in block.places) for block in shown]
    top = sum(heights) + 0.1
    figure = Figure(figsize=(WIDTH, top))
    for block, height in zip(shown, heights, strict=True):
        _draw_block(figure, top, block, lines, texts, examples, judged)
        top -= height
    return figure


def _draw_block(
    figure: Figure, top: float, block: Block, lines: dict[int, list[str]], texts: dict[int, str], examples: Examples, judged: Judged
) -> None:
    """Draw the texts of a block, from `top` inches above the lower edge downwards."""
    at: Any = {"transform": figure.dpi_scale_trans, "va": "top"}
    figure.text(WIDTH / 2, top - 0.1, block.title, color=colour_of(block), fontsize=11, fontweight="bold", ha="center", **at)
    top -= _HEADING
    for place in block.places:
        said = f"{block.mark}predicted: {judged.predicted(place)}   true: {judged.true(place)}   {judged.note(place)}"
        figure.text(_LEFT, top, wrapped(said, most=1, wide=80)[0], fontsize=9, fontweight="bold", color=colour_of(block), **at)
        name = printable(examples.where(place)) + f", {len(texts[place]):,} characters" * (len(texts[place]) > _WIDE)
        figure.text(WIDTH - _LEFT, top, wrapped(name, most=1, wide=44)[0], fontsize=7, color=GREY, ha="right", **at)
        top -= _TITLE
        for line in lines[place]:
            figure.text(_LEFT, top, line, fontsize=9, **at)
            top -= _LINE
        top -= _GAP


def wrapped(text: str, most: int = _LINES, wide: float = _WIDE, *, is_whole: bool = True) -> list[str]:
    """Return a text in up to `most` lines as wide as `wide` average letters, broken at blanks, or between signs that have none between.

    The last line ends in "…" if there is more.
    """
    lines: list[str] = []
    rest = text.strip() or "(empty)"
    while rest and len(lines) < most:
        end = _fitting(rest, wide)
        if end < len(rest):
            # At a blank, unless that leaves half of the line empty.
            blank = rest.rfind(" ", end // 2, end + 1)
            end = blank if blank > 0 else end
        lines.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    if rest or not is_whole:
        last = lines[-1]
        lines[-1] = last[: _fitting(last, wide - 2)].rstrip() + "…"
    return lines


def _fitting(text: str, wide: float) -> int:
    """Return how many signs fit in so many average letters."""
    for place, letter in enumerate(text):
        wide -= _width(letter)
        if wide < 0:
            return max(1, place)
    return len(text)


def _width(letter: str) -> float:
    if unicodedata.east_asian_width(letter) in "WF":
        return 1.75
    if letter in " .,;:'!|()[]iljtfrI":
        return 0.65
    return 1.35 if letter.isupper() or letter in "mw@%" else 1.08
