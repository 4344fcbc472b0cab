"""The page of a check: one self-contained HTML file with thumbnails."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import TypeAlias

from PIL import Image

from epochal.checks.findings import SEVERITIES, Case, Finding
from epochal.data.inputs.base import Cell
from epochal.errors import DataError
from epochal.language import translated
from epochal.page import document, opening, safe, said

# The number of cases shown per finding and of examples per case (the rest is counted), and the side of pictures in pixels.
_CASES, _EXAMPLES, _SIDE = 24, 6, 112

# Of texts, so many letters; of rows, so many values.
_LETTERS, _VALUES = 240, 16

_STYLE = """
.fix, .more, figcaption { color: var(--soft); margin: .2rem 0 0; }
section { border-left: .35rem solid var(--tone); }
.error { --tone: var(--error); } .warning { --tone: var(--warning); } .note { --tone: var(--note); }
h2 span { color: var(--tone); font-size: .75rem; letter-spacing: .06em; margin-right: .5rem; text-transform: uppercase; }
.cases { display: flex; flex-wrap: wrap; gap: .8rem; list-style: none; margin: .9rem 0 0; padding: 0; }
.case { border: 1px solid var(--line); border-radius: .4rem; max-width: 100%; padding: .5rem; }
.pictures { display: flex; flex-wrap: wrap; gap: .5rem; }
.pictures:has(.text) { gap: 1rem 1.5rem; }
figure { margin: 0; width: 7rem; }
img { border-radius: .25rem; display: block; height: auto; image-rendering: pixelated; max-height: 7rem; object-fit: contain; width: 7rem;
  background: repeating-conic-gradient(#8883 0 25%, #0000 0 50%) 0 0 / .8rem .8rem; }
figure.text { max-width: 20rem; width: auto; }
blockquote { font-size: .85rem; line-height: 1.4; margin: 0 0 .2rem; overflow-wrap: anywhere; white-space: pre-line; }
blockquote span { display: inline-block; margin-right: .8em; }
blockquote i { color: var(--soft); font-style: normal; }
.fix code { font: inherit; white-space: nowrap; }
figcaption, .words { font-size: .78rem; line-height: 1.3; overflow-wrap: anywhere; }
.words { margin: 0; max-width: 22rem; }
.pictures + .words { margin-top: .4rem; }
@media print { section { break-inside: auto; } .case { break-inside: avoid; } }
"""


# An option of the command: it is not broken after its hyphens.
_OPTION = re.compile(r"(?<!\S)(--[\w-]+)")

_KIND = "Epochal check"

# The beginning of the page, by which it is recognized as ours.
MARK = opening(_KIND)


# Returns what an example looks like, by its name: its picture, its text, or its values; "" if there is none of them.
Show: TypeAlias = Callable[[str], Image.Image | str | Sequence[Cell]]


def render(name: str, summary: str, findings: Sequence[Finding], show: Show) -> str:
    """Return the page, on which `show` says what examples look like."""
    inner = (
        "\n".join(_section(finding, show) for finding in findings)
        or f'<section class="note"><h2>{said("Nothing was found.")}</h2></section>'
    )
    found = " · ".join(
        translated(f"{number} {severity}{'s' * (number > 1)}")
        for severity in SEVERITIES
        if (number := sum(finding.severity == severity for finding in findings))
    )
    title = f"{name}: {found or translated('nothing found')}"
    header = f"<header><h1>{said(f'Check of {name}')}</h1><p>{said(summary)}</p></header>"
    return document(_KIND, title, f"{header}\n{inner}", _STYLE)


def _section(finding: Finding, show: Show) -> str:
    cases = "".join(_case(case, show) for case in finding.cases[:_CASES])
    more = len(finding.cases) - _CASES
    rest = f'<p class="more">{said(f"and {more:,} more: --json lists them all")}</p>' if more > 0 else ""
    fix = _OPTION.sub(r"<code>\1</code>", said(finding.fix))
    shown = f'<ul class="cases">{cases}</ul>' if cases else ""
    return (
        f'<section class="{finding.severity}"><h2><span>{said(finding.severity)}</span> {said(finding.words)}</h2>'
        f'<p class="fix">{fix}</p>{shown}{rest}</section>'
    )


def _case(case: Case, show: Show) -> str:
    pictures = "".join(_figures(case.examples[:_EXAMPLES], show))
    more = len(case.examples) - _EXAMPLES
    words = "; ".join(map(said, [*([case.words] if case.words else []), *([f"{more:,} more like it"] if more > 0 else [])]))
    caption = f'<p class="words">{words}</p>' if words else ""
    shown = f'<div class="pictures">{pictures}</div>' if pictures else ""
    return f'<li class="case">{shown}{caption}</li>'


def _figures(examples: Sequence[str], show: Show) -> Iterator[str]:
    for example in examples:
        shown = _shown(example, show)
        kind = "" if shown.startswith("<img") else ' class="text"'
        yield f"<figure{kind}>{shown}<figcaption>{safe(example).replace('/', '/<wbr>')}</figcaption></figure>"


def _shown(example: str, show: Show) -> str:
    """Return a small picture, or the beginning of words; "" if the example cannot be read."""
    try:
        found = show(example)
    except DataError:
        return ""
    if isinstance(found, str):
        return f"<blockquote>{safe(found[:_LETTERS])}{'…' * (len(found) > _LETTERS)}</blockquote>" if found.strip() else ""
    if not isinstance(found, Image.Image):
        values = " ".join(f"<span><i>{safe(cell.name)}</i> {safe(cell.words[:_LETTERS])}</span>" for cell in found[:_VALUES])
        return f"<blockquote>{values}{' …' * (len(found) > _VALUES)}</blockquote>" if found else ""
    found.thumbnail((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    content = BytesIO()
    found.save(content, "PNG" if max(found.size) <= 48 else "JPEG", quality=80)
    kind = "png" if max(found.size) <= 48 else "jpeg"
    return f'<img alt="" src="data:image/{kind};base64,{b64encode(content.getvalue()).decode()}">'
