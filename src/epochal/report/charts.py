"""Charts as inline SVG, made by a few small functions: they take their colours from the page, and need no script and no library.

Each is an image with a title and a description; the page has the numbers as a table beside it. Colours can be told apart by colour-blind
people, and lines by their dashes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from epochal.language import columns as wide_as
from epochal.page import safe

# What charts need in the style of a page, with the palette is that of M. Okabe and K. Ito ("Color universal design", 2008).
STYLE = Path(__file__).with_name("charts.css").read_text("utf-8")

_WIDTH, _HEIGHT = 420, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 24, 40

Point = tuple[float, float]


class Words(NamedTuple):
    """What a chart says: the title and description that screen readers speak, and the names of its axes. `name` is unique on the page."""

    name: str
    title: str
    description: str
    x: str = ""
    y: str = ""


class Scale(NamedTuple):
    """The numbers from `low` to `high` on an axis, written in percent or as they are."""

    low: float
    high: float
    percent: bool = False

    @staticmethod
    def over(values: Iterable[float], *, percent: bool = False, margin: float = 0.05) -> Scale:
        """Return a scale with room for all `values` that are finite; shares stay within 0 to 1."""
        some = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        low, high = min(some), max(some)
        room = (high - low) * margin or abs(high) * margin or 0.5
        low, high = low - room, high + room
        return Scale(max(low, 0.0), min(high, 1.0), percent) if percent else Scale(low, high)

    def share(self, value: float) -> float:
        """Return where a value lies, from 0 to 1."""
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 5) -> list[float]:
        """Return round numbers on the scale."""
        raw = (self.high - self.low) / most
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def words(self, value: float) -> str:
        """Return a number as it is written at the axis."""
        return f"{100 * value:.4g} %" if self.percent else f"{value + 0.0:,.6g}"


class Frame:
    """A plot with axes: it turns values into places."""

    def __init__(self, x: Scale, y: Scale, height: int = _HEIGHT) -> None:
        self.x, self.y, self.height = x, y, height

    def across(self, value: float) -> float:
        """Return the place of a value of x."""
        return _LEFT + self.x.share(value) * (_WIDTH - _LEFT - _RIGHT)

    def down(self, value: float) -> float:
        """Return the place of a value of y."""
        return self.height - _BOTTOM - self.y.share(value) * (self.height - _TOP - _BOTTOM)

    def axes(self, words: Words, ticks: Iterable[tuple[float, str]] | None = None, *, whole: bool = False) -> Iterator[str]:
        """Yield grid, numbers and names of the axes; with `whole`, x has whole numbers only. `ticks` are places on x, and what is there."""
        left, right, below = _LEFT, _WIDTH - _RIGHT, self.height - _BOTTOM
        for tick in self.y.ticks():
            y = _n(self.down(tick))
            yield f'<path class="grid" d="M{left} {y}H{right}"/>'
            yield f'<text x="{left - 7}" y="{y}" dy=".35em" text-anchor="end">{self.y.words(tick)}</text>'
        if ticks is None:
            ticks = ((tick, self.x.words(tick)) for tick in self.x.ticks(6) if not whole or tick == round(tick))
        for tick, said in ticks:
            yield f'<text x="{_n(self.across(tick))}" y="{below + 17}" text-anchor="middle">{said}</text>'
        yield f'<path class="axis" d="M{left} {below}H{right}"/>'
        yield f'<text x="{(left + right) / 2:g}" y="{self.height - 5}" text-anchor="middle">{safe(words.x)}</text>'
        yield f'<text x="0" y="9">{safe(words.y)}</text>'

    def line(self, points: Iterable[Point], kind: str) -> str:
        """Return a line through points; gaps where one is not finite."""
        parts, pen = [], "M"
        for x, y in points:
            if not math.isfinite(y):
                pen = "M"
                continue
            parts.append(f"{pen}{_n(self.across(x))} {_n(self.down(y))}")
            pen = "L"
        return f'<path class="{kind}" d="{"".join(parts)}"/>'

    def dot(self, x: float, y: float, kind: str = "dot", radius: float = 3.5) -> str:
        """Return a dot."""
        return f'<circle class="{kind}" cx="{_n(self.across(x))}" cy="{_n(self.down(y))}" r="{radius:g}"/>'

    def upright(self, x: float, low: float, high: float, kind: str = "c") -> str:
        """Return an interval of y with caps."""
        at, top, bottom = self.across(x), _n(self.down(high)), _n(self.down(low))
        left, right = _n(at - 3), _n(at + 3)
        return f'<path class="{kind}" d="M{_n(at)} {bottom}V{top}M{left} {top}H{right}M{left} {bottom}H{right}"/>'


def chart(words: Words, parts: Iterable[str], height: int = _HEIGHT) -> str:
    """Return an image of `parts`."""
    name = words.name
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {height}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{safe(words.title)}</title><desc id="{name}-d">{safe(words.description)}</desc>{"".join(parts)}</svg>'
    )


def lines(
    words: Words, series: Sequence[Sequence[Point]], marked: Point | None = None, *, percent: bool = False, whole: bool = True
) -> str:
    """Return lines, the second dashed, with a ring around a point. `percent` is about y; with `whole`, x counts."""
    every = [point for one in series for point in one]
    across = [x for x, _ in every]
    frame = Frame(
        Scale(min(across) - 0.5, max(across) + 0.5) if whole else Scale.over(across), Scale.over([y for _, y in every], percent=percent)
    )
    drawn = [*frame.axes(words, whole=whole), *(frame.line(one, kind) for one, kind in zip(series, "abc", strict=False))]
    if max(map(len, series)) == 1:
        drawn += [frame.dot(*one[0], f"dot {kind}") for one, kind in zip(series, "ab", strict=False)]
    if marked is not None and math.isfinite(marked[1]):
        drawn.append(frame.dot(*marked, "ring", 5))
    return chart(words, drawn)


def curve(words: Words, points: Sequence[Point], chosen: tuple[float, float, tuple[float, float]] | None) -> str:
    """Return shares over shares from 0 to 1, with a `chosen` (x, y, interval of y)."""
    heights = [y for _, y in points] + ([] if chosen is None else [*chosen[2]])
    frame = Frame(Scale(0, 1, percent=True), Scale.over(heights, percent=True))
    drawn = [*frame.axes(words), frame.line(points, "a")]
    if chosen is not None:
        drawn += [frame.upright(chosen[0], *chosen[2]), frame.dot(*chosen[:2], "ring", 5)]
    return chart(words, drawn)


def by_size(
    words: Words,
    points: Sequence[tuple[float, float, tuple[float, float]]],
    expected: tuple[float, float, tuple[float, float]] | None,
    *,
    percent: bool,
) -> str:
    """Return points (size, y, interval of y) over the logarithm of their sizes, and one that is `expected`."""
    every = [*points, *([] if expected is None else [expected])]
    places = {size: math.log2(size) for size, _, _ in every}
    frame = Frame(Scale.over(places.values()), Scale.over([end for _, _, ends in every for end in ends], percent=percent))
    ticks = [(place, f"{size:,.0f}") for size, place in places.items()]
    drawn = [*frame.axes(words, ticks), frame.line([(places[size], y) for size, y, _ in points], "a")]
    if expected is not None:
        drawn.append(frame.line([(places[size], y) for size, y, _ in (points[-1], expected)], "plain"))
    drawn += [frame.upright(places[size], *ends) for size, _, ends in every]
    drawn += [frame.dot(places[size], y) for size, y, _ in points]
    drawn += [] if expected is None else [frame.dot(places[expected[0]], expected[1], "ring", 5)]
    return chart(words, drawn)


def reliability(words: Words, bins: Sequence[tuple[float, float, tuple[float, float]]]) -> str:
    """Return a reliability diagram: of each bin its confidence, the share that is right, and its interval."""
    low = min([0.9, *(sure for sure, _, _ in bins), *(ends[0] for _, _, ends in bins)])
    scale = Scale(math.floor(low * 10) / 10, 1.0, percent=True)
    frame = Frame(scale, scale, 300)
    drawn = [*frame.axes(words), frame.line([(scale.low, scale.low), (1, 1)], "plain")]
    drawn += [frame.upright(sure, *ends) for sure, _, ends in bins] + [frame.dot(sure, right) for sure, right, _ in bins]
    return chart(words, drawn, 300)


def scatter(words: Words, points: Sequence[Point], *, diagonal: bool, level: bool = False) -> str:
    """Return dots; with the `diagonal`, on one scale for both axes; with `level`, there is a line at 0."""
    across, up = Scale.over(x for x, _ in points), Scale.over(y for _, y in points)
    if diagonal:
        across = up = Scale(min(across.low, up.low), max(across.high, up.high))
    frame = Frame(across, up, 300)
    drawn = [*frame.axes(words)]
    drawn += [frame.line([(up.low, up.low), (up.high, up.high)], "plain")] * diagonal
    drawn += [frame.line([(across.low, 0), (across.high, 0)], "plain")] * (level and up.low < 0 < up.high)
    return chart(words, [*drawn, *(frame.dot(x, y, "faint", 3) for x, y in points)], 300)


def columns(words: Words, bars: Sequence[tuple[float, float, float]]) -> str:
    """Return upright bars (from x, to x, height)."""
    frame = Frame(Scale(bars[0][0], bars[-1][1]), Scale(0, max(bar[2] for bar in bars) * 1.05))
    base = frame.down(0)
    drawn = []
    for left, right, height in bars:
        at, wide = frame.across(left), max(frame.across(right) - frame.across(left) - 1, 0.5)
        top = frame.down(height)
        drawn.append(f'<rect class="bar" x="{_n(at + 0.5)}" y="{_n(top)}" width="{_n(wide)}" height="{_n(base - top)}"/>')
    return chart(words, [*frame.axes(words), *drawn])


def rows(words: Words, named: Sequence[tuple[str, float, str, tuple[float, float] | None]]) -> str:
    """Return lying bars, each with its name, length, length in words, and perhaps an interval."""
    left, right, high = min(160, 16 + 8 * max(wide_as(shortened(name)) for name, *_ in named)), 90, 26
    ends = [value for _, length, _, interval in named for value in (length, *(interval or ()))]
    low, most = min(0.0, *ends), max(*ends, 0.0) or 1.0
    unit = (_WIDTH - left - right) / (most - low)
    drawn = []
    for place, (name, length, said, interval) in enumerate(named):
        y, start, end = place * high + 4, left + (min(0.0, length) - low) * unit, left + (max(0.0, length) - low) * unit
        drawn.append(f'<text class="strong" x="{left - 9}" y="{y + 9}" dy=".35em" text-anchor="end">{safe(shortened(name))}</text>')
        drawn.append(f'<rect class="bar" x="{_n(start)}" y="{y}" width="{_n(max(end - start, 1))}" height="17" rx="2"/>')
        if interval is not None:
            first, last = (_n(left + (value - low) * unit) for value in interval)
            drawn.append(f'<path class="c" d="M{first} {y + 8.5}H{last}M{first} {y + 5}V{y + 12}M{last} {y + 5}V{y + 12}"/>')
            end = max(end, left + (interval[1] - low) * unit)
        drawn.append(f'<text x="{_n(end + 7)}" y="{y + 9}" dy=".35em">{safe(said)}</text>')
    return chart(words, drawn, len(named) * high + 6)


def standing(words: Words, value: float, interval: tuple[float, float], always: tuple[float, str] | None = None) -> str:
    """Return a share and its interval on a line from 0 to 100 %, and the share that is `always` had, with its name."""
    left, wide, line = 4, _WIDTH - 8, 24

    def at(share: float) -> str:
        return _n(left + share * wide)

    low, high = map(at, interval)
    drawn = [f'<path class="grid thick" d="M{left} {line}H{left + wide}"/><path class="a thick" d="M{low} {line}H{high}"/>']
    drawn.append(f'<circle class="ring" cx="{at(value)}" cy="{line}" r="5.5"/>')
    drawn.append(f'<text x="{left}" y="{line + 22}">0 %</text><text x="{left + wide}" y="{line + 22}" text-anchor="end">100 %</text>')
    if always is not None:
        share, name = always
        side = "start" if share < 0.6 else "end"
        drawn.append(f'<path class="mark" d="M{at(share)} {line - 7}V{line + 7}"/>')
        drawn.append(f'<text x="{at(share)}" y="{line - 13}" text-anchor="{side}">{safe(name)}</text>')
    return chart(words, drawn, 50)


def between(value: float, interval: tuple[float, float], least: float = 0.0) -> str:
    """Return a small interval of a share on the line from `least` to 1, for a cell of a table: its numbers stand beside it."""
    mark, low, high = (_n(100 * (end - least) / (1 - least)) for end in (value, *interval))
    return (
        '<svg class="chart small" viewBox="-2 0 104 10" preserveAspectRatio="none" aria-hidden="true"><path class="grid" d="M0 5H100"/>'
        f'<path class="a" d="M{low} 5H{high}"/><path class="mark" d="M{mark} 1V9"/></svg>'
    )


def shortened(name: str, most: int = 18) -> str:
    """Cut a name to so many letters, in which a Chinese sign counts as two."""
    short = name[:most]
    while wide_as(short) > most:
        short = short[:-1]
    return name if short == name else f"{short[:-1]}…"


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
