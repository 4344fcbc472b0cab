"""The page of a comparison: its verdict, scores and differences with their intervals, and examples on which runs disagree."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from epochal.evaluation.compared import Comparison, Pair, RunScore, Setting
from epochal.io.files import check_output
from epochal.language import translated
from epochal.page import document, opening, safe, said
from epochal.shown import Rows

_KIND = "Epochal comparison"

_STYLE = """
:root { --mark: #1f5fa8; --band: #8883; }
@media screen and (prefers-color-scheme: dark) { :root { --mark: #7db3f0; } }
body { max-width: 64rem; padding: 2.5rem 1.25rem 5rem; }
h1 { font-size: clamp(1.6rem, 1.1rem + 2vw, 2.4rem); font-weight: 650; letter-spacing: -.02em; line-height: 1.15; text-wrap: balance; }
h2 { font-size: 1.25rem; margin-bottom: .6rem; }
section { border-radius: .9rem; margin-top: 1.25rem; padding: 1.3rem clamp(1rem, 3vw, 1.8rem) 1.4rem; }
.verdicts { font-size: 1.25rem; line-height: 1.4; list-style: none; margin: 0; padding: 0; overflow-wrap: anywhere; }
.verdicts li + li { border-top: 1px solid var(--line); margin-top: .5rem; padding-top: .5rem; }
.notes, .soft { color: var(--soft); font-size: .9rem; }
.notes { margin: .8rem 0 0; padding: 0; list-style: none; }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { border-top: 1px solid var(--line); padding: .35rem .4rem; text-align: right; white-space: nowrap; }
thead th, thead td { border-top: 0; color: var(--soft); font-size: .85rem; font-weight: 500; }
th:first-child, td:first-child { padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
tbody th { font-weight: 500; min-width: 9rem; overflow-wrap: anywhere; text-align: left; white-space: normal; }
th:first-child { text-align: left; }
td { font-variant-numeric: tabular-nums; }
td.plot { min-width: 7rem; padding: 0 .6rem; width: 26%; }
svg { display: block; height: 1.8rem; overflow: visible; width: 100%; }
svg line { stroke: var(--mark); stroke-width: 2.5; }
svg circle { fill: var(--mark); stroke: var(--card); stroke-width: 1.5; }
svg .zero { stroke: var(--soft); stroke-dasharray: 3 3; stroke-width: 1; }
svg .band { fill: var(--band); }
svg text { fill: var(--soft); font-size: .75rem; text-anchor: middle; }
svg .tick { stroke: var(--line); stroke-width: 1; }
.examples { margin: .3rem 0 0; overflow-wrap: anywhere; }
td.words { overflow-wrap: anywhere; text-align: left; white-space: normal; }
thead th.words { text-align: left; }
table + table, .table + .table { margin-top: 1rem; }
p.soft { margin: .6rem 0 0; }
/* On a phone, a row of a table becomes a few lines, in which values have the headings of their columns before them. */
@media screen and (max-width: 42rem) {
  .verdicts { font-size: 1.1rem; }
  .stack :is(table, tbody) { display: block; } .stack thead { display: none; }
  .stack tr { border-top: 1px solid var(--line); display: flex; flex-wrap: wrap; gap: 0 1rem; padding: .5rem 0; }
  .stack :is(th, td) { border: 0; padding: 0; } .stack :is(th, td.plot) { width: 100%; } .stack td:empty { display: none; }
  .stack td[data-name]::before { color: var(--soft); content: attr(data-name) " "; font-size: .85rem; }
}
@media print { section { break-inside: avoid; } td.plot { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""

# A scale has about so many numbers.
_TICKS = 3


def check_page_output(path: Path) -> None:
    """Raise `OutputError` if a page could not be written to `path`, or would replace something else."""
    check_output(path, opening(_KIND).encode())


def render(found: Comparison) -> str:
    """Return the page."""
    verdicts = "".join(f"<li>{_whole(said(found.verdict(pair)))}</li>" for pair in found.pairs)
    notes = "".join(f"<li>{said(note)}</li>" for note in (*found.notes, found.method))
    sections = [
        f'<section><ul class="verdicts">{verdicts}</ul></section>',
        _section(f"{found.score} with 95 % intervals", _scores(found)),
        _section(found.pair_title, _differences(found)),
        *([_section("examples that only one has right", _examples(found))] if found.counts else []),
        *([_section("settings that differ", _settings(found))] if found.settings[0].differs else []),
    ]
    title = translated(f"comparison of {len(found.runs)} runs on {found.data}")
    header = f"<header><h1>{safe(_capital(title))}</h1><p>{said(found.title)}</p></header>"
    body = f'{header}\n<main>{"".join(sections)}</main>\n<footer><ul class="notes">{notes}</ul></footer>'
    return document(_KIND, _capital(title), body, _STYLE)


def _whole(text: str) -> str:
    """Keep units with their numbers."""
    return text.replace(" %", "&nbsp;%")


def _section(title: str, inner: str) -> str:
    return f"<section><h2>{safe(_capital(translated(title)))}</h2>{inner}</section>"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _scores(found: Comparison) -> str:
    """Return the scores of runs, and of settings, with a drawing of each."""
    tables = [_table(found.run_table, found, found.runs)]
    if found.setting_table:
        tables.append(_table(found.setting_table, found, found.settings))
    return "".join(tables)


def _table(rows: Rows, found: Comparison, scores: Sequence[RunScore | Setting]) -> str:
    everything: list[RunScore | Setting] = [*found.runs, *found.settings]
    ends = [end for one in everything for end in (one.score, *(one.interval or ()))]
    scale = _Scale(min(ends), max(ends), 100 if found.in_percent else 1)
    plots = [scale.draw(one.score, one.interval, f"{found.words(one)} ({found.between(one)})") for one in scores]
    return _plotted(rows, plots, scale)


def _differences(found: Comparison) -> str:
    finite = [end for pair in found.pairs for end in pair.difference.interval if math.isfinite(end)]
    scale = _Scale(min([0.0, *finite]), max([0.0, *finite]), 100 if found.in_percent else 1)
    plots = [scale.draw(pair.difference.value, pair.difference.interval, found.verdict(pair), _band(pair)) for pair in found.pairs]
    explained = "A true difference within the grey band would have been missed more often than once in five times."
    return _plotted(found.pair_table, plots, scale) + f'<p class="soft">{said(explained)}</p>'


def _band(pair: Pair) -> float:
    return pair.difference.detectable if math.isfinite(pair.difference.detectable) else 0.0


def _plotted(rows: Rows, plots: Sequence[str], scale: _Scale) -> str:
    """Return a table whose second column is a drawing of each row, with its scale below."""
    (first, *heads), *body = rows
    head = f'<th scope="col">{said(first)}</th><td></td>' + "".join(f'<th scope="col">{said(name)}</th>' for name in heads)
    lines = "".join(
        f'<tr><th scope="row">{_name(name)}</th><td class="plot">{plot}</td>{_values(heads, values)}</tr>'
        for (name, *values), plot in zip(body, plots, strict=True)
    )
    below = f'<tr><td></td><td class="plot">{scale.axis()}</td>{"<td></td>" * len(heads)}</tr>'
    return f'<div class="table stack"><table><thead><tr>{head}</tr></thead><tbody>{lines}{below}</tbody></table></div>'


def _values(heads: Sequence[str], values: Sequence[str]) -> str:
    return "".join(f'<td data-name="{said(head)}">{said(value)}</td>' for head, value in zip(heads, values, strict=True))


def _examples(found: Comparison) -> str:
    return "".join(_alone(pair, found.count) for pair in found.pairs)


def _alone(pair: Pair, count: int) -> str:
    difference = pair.difference
    return "".join(
        _named(f"only {name} is right on {number or 0:,} of {count:,} examples", number or 0, names)
        for name, number, names in (
            (pair.second, difference.second_only, pair.second_only),
            (pair.first, difference.first_only, pair.first_only),
        )
    )


def _named(title: str, number: int, names: Sequence[str]) -> str:
    listed = ", ".join(map(_name, names)) + ", …" * (len(names) < number)
    shown = f'<br><span class="soft">{listed}</span>' if names else ""
    return f'<p class="examples">{safe(_capital(translated(title)))}{shown}</p>'


def _settings(found: Comparison) -> str:
    names = [*found.settings[0].differs]
    head = f'<th scope="col">{said("setting")}</th>' + "".join(f'<th scope="col" class="words">{safe(name)}</th>' for name in names)
    lines = "".join(
        f'<tr><th scope="row">{_name(setting.name)}</th>'
        + "".join(f'<td class="words" data-name="{safe(name)}">{safe(value)}</td>' for name, value in setting.differs.items())
        + "</tr>"
        for setting in found.settings
    )
    return f'<div class="table stack"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


def _name(name: str) -> str:
    return safe(name).replace("/", "/<wbr>")


class _Scale:
    """Numbers from `low` to `high` as places on a line, written as multiples of 1 / `unit`."""

    def __init__(self, low: float, high: float, unit: float) -> None:
        room = 0.06 * (high - low) or 0.5 / unit
        self.low, self.high, self.unit = low - room, high + room, unit

    def draw(self, value: float, interval: tuple[float, float] | None, words: str, band: float = 0.0) -> str:
        """Return a drawing of a value with its interval; the `band` is as wide to both sides of 0."""
        low, high = interval or (value, value)
        parts = []
        if band:
            left, right = self._place(-band), self._place(band)
            parts.append(f'<rect class="band" x="{left:.2f}%" y="0" width="{right - left:.2f}%" height="100%"/>')
        if self.low < 0 < self.high:
            parts.append(f'<line class="zero" x1="{self._place(0):.2f}%" x2="{self._place(0):.2f}%" y1="0" y2="100%"/>')
        parts.append(f'<line x1="{self._place(low):.2f}%" x2="{self._place(high):.2f}%" y1="50%" y2="50%"/>')
        parts.append(f'<circle cx="{self._place(value):.2f}%" cy="50%" r="5"/>')
        return f'<svg role="img" aria-label="{said(words)}">{"".join(parts)}</svg>'

    def axis(self) -> str:
        """Return numbers below the line."""
        marks = "".join(
            f'<line class="tick" x1="{self._place(tick):.2f}%" x2="{self._place(tick):.2f}%" y1="0" y2="6"/>'
            f'<text x="{self._place(tick):.2f}%" y="20">{self.unit * tick:g}</text>'
            for tick in self._ticks()
        )
        return f'<svg aria-hidden="true">{marks}</svg>'

    def _ticks(self) -> Iterator[float]:
        low, high = self.unit * self.low, self.unit * self.high
        rough = (high - low) / _TICKS
        power = 10 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
        for number in range(math.ceil(low / step), math.floor(high / step) + 1):
            yield round(number * step, 12) / self.unit

    def _place(self, value: float) -> float:
        return 100 * (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
