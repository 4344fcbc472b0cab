"""How values are displayed by print, at Python's prompt and in notebooks: in a few lines, without their tensors.

The HTML has its style in its elements, since notebooks share one page, and takes colours that can be read on light and on dark ground.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

Rows = Sequence[Sequence[str]]

_SOFT = "opacity:.65"
_LINE = "1px solid rgba(128,128,128,.3)"
_CELL = f"text-align:left;padding:.15em 1em .15em 0;border:0;border-top:{_LINE};background:none;vertical-align:top"

# Colours for lines, in order: at least 3 : 1 against white and against black.
_COLOURS = ("#3b8fd4", "#d97706")

# A curve in pixels.
_WIDTH, _HEIGHT, _EDGE = 240, 90, 4

# The height of a page in a notebook.
_PAGE = "32em"


class Shown:
    """Base of values with a `_title` of one line, and `_rows` of a name and values below it."""

    def _title(self) -> str:
        raise NotImplementedError

    def _rows(self) -> Rows:
        return ()

    def _table(self) -> tuple[Sequence[str], Rows]:
        """Return the head and the rows of the table in a notebook."""
        return (), self._rows()

    def _below(self) -> str:
        """Return HTML that a notebook shows below the table."""
        return ""

    def __repr__(self) -> str:
        rows = self._rows()
        width = max((len(name) for name, *_ in rows), default=0)
        lines = (f"  {name:<{width}}  {'  '.join(values)}".rstrip() for name, *values in rows)
        return "\n".join((f"{type(self).__name__}: {self._title()}", *lines))

    def _repr_html_(self) -> str:
        title = f"<b>{type(self).__name__}</b>: {escape(self._title())}"
        return f"<div>{title}{table(*self._table())}{self._below()}</div>"


@dataclass(frozen=True, repr=False)
class Page(Shown):
    """A page that is a file, `path`; a notebook shows it in a frame."""

    path: Path

    def _title(self) -> str:
        return str(self.path)

    def _below(self) -> str:
        # Its own document: neither styles nor links of the notebook and of the page meet.
        page = escape(self.path.read_text("utf-8"))
        style = f"display:block;width:100%;height:{_PAGE};margin-top:.5em;border:{_LINE};border-radius:6px"
        return f'<iframe title="{escape(str(self.path))}" sandbox="" srcdoc="{page}" style="{style}"></iframe>'


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: "1 picture", "2,000 pictures"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def are(number: int) -> str:
    """Return "is" for 1, and "are" for other numbers."""
    return "is" if number == 1 else "are"


def few(words: Sequence[str], most: int = 10) -> str:
    """Return words in one line; of many, only the first."""
    return ", ".join(words[:most]) + (f", ... ({len(words):,} in all)" if len(words) > most else "")


def table(head: Sequence[str], rows: Rows) -> str:
    """Return an HTML table of plain text; nothing without rows."""
    if not rows:
        return ""
    above = f'<thead><tr style="background:none">{_cells("th", head, _SOFT)}</tr></thead>' if head else ""
    body = "".join(f'<tr style="background:none">{_cells("td", row)}</tr>' for row in rows)
    return f'<table style="border-collapse:collapse;margin:.4em 0">{above}<tbody>{body}</tbody></table>'


def curves(series: Mapping[str, Sequence[float]]) -> str:
    """Return up to two lines of numbers, by name, as a small chart with their last values; nothing for fewer than two numbers each."""
    values = [value for line in series.values() for value in line if math.isfinite(value)]
    if not values or max(map(len, series.values())) < 2:
        return ""
    low, high = min(values), max(values)
    span = high - low or 1.0
    drawn, said = [], []
    for (name, line), colour in zip(series.items(), _COLOURS, strict=False):
        across = (_WIDTH - 2 * _EDGE) / max(len(line) - 1, 1)
        places = [
            f"{_EDGE + across * place:.1f},{_EDGE + (high - value) / span * (_HEIGHT - 2 * _EDGE):.1f}"
            for place, value in enumerate(line)
            if math.isfinite(value)
        ]
        drawn.append(f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        said.append(f'<span style="color:{colour}">■</span> {escape(name)} {line[-1]:.4g}')
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(", ".join(series))}" '
        f'style="display:block;border-bottom:{_LINE}">{"".join(drawn)}</svg>'
        f'<small style="display:block">{"&emsp;".join(said)}</small>'
    )


def bar(share: float) -> str:
    """Return a bar that is full to a share from 0 to 1."""
    inner = f'<span style="display:block;height:100%;width:{100 * min(max(share, 0.0), 1.0):.1f}%;background:{_COLOURS[0]}"></span>'
    style = "display:inline-block;width:12em;height:.5em;vertical-align:middle;border-radius:3px;overflow:hidden"
    return f'<span style="{style};background:rgba(128,128,128,.3)">{inner}</span>'


def _cells(kind: str, values: Sequence[str], style: str = "") -> str:
    return "".join(f'<{kind} style="{_CELL};{style}">{escape(value)}</{kind}>' for value in values)
