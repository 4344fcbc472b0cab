"""The page of a check: one self-contained HTML file with thumbnails.

Names cannot be trusted: everything that is not written here is escaped, and the page forbids scripts and connections. It speaks the
language of the command that writes it.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from html import escape
from io import BytesIO
from typing import TypeAlias

from PIL import Image

from epochal.checks.findings import SEVERITIES, Case, Finding
from epochal.data.inputs.base import Cell
from epochal.errors import DataError
from epochal.language import language, translated

# The number of cases shown per finding and of examples per case (the rest is counted), and the side of pictures in pixels.
_CASES, _EXAMPLES, _SIDE = 24, 6, 112

# Of texts, so many letters; of rows, so many values.
_LETTERS, _VALUES = 240, 16

_STYLE = """
:root { color-scheme: light dark; --text: #1c1e21; --soft: #5f6670; --ground: #f5f6f8; --card: #fff; --line: #dfe2e7;
  --error: #b3261e; --warning: #8a5300; --note: #2a5c9a; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e8eb; --soft: #a0a7b0; --ground: #15171a; --card: #1e2125; --line: #34393f;
  --error: #ff8a80; --warning: #ffb74d; --note: #8ab8f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1.5rem 1rem 4rem; background: var(--ground); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; overflow-wrap: anywhere; }
header p, .fix, .more, figcaption { color: var(--soft); margin: .2rem 0 0; }
section { background: var(--card); border: 1px solid var(--line); border-left: .35rem solid var(--tone); border-radius: .5rem;
  margin-top: 1rem; padding: .8rem 1rem 1rem; }
.error { --tone: var(--error); } .warning { --tone: var(--warning); } .note { --tone: var(--note); }
h2 { font-size: 1.1rem; margin: 0; overflow-wrap: anywhere; }
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
@media print { body { background: none; max-width: none; } section { break-inside: auto; } .case { break-inside: avoid; } }
"""


# An option of the command: it is not broken after its hyphens.
_OPTION = re.compile(r"(?<!\S)(--[\w-]+)")

# The beginning of the page, by which it is recognized as ours.
MARK = """<!doctype html>
<!-- Epochal check -->
"""


# Returns what an example looks like, by its name: its picture, its text, or its values; "" if there is none of them.
Show: TypeAlias = Callable[[str], Image.Image | str | Sequence[Cell]]


def render(name: str, summary: str, findings: Sequence[Finding], show: Show) -> str:
    """Return the page, on which `show` says what examples look like."""
    inner = (
        "\n".join(_section(finding, show) for finding in findings)
        or f'<section class="note"><h2>{_said("Nothing was found.")}</h2></section>'
    )
    found = " · ".join(
        translated(f"{number} {severity}{'s' * (number > 1)}")
        for severity in SEVERITIES
        if (number := sum(finding.severity == severity for finding in findings))
    )
    return f"""{MARK}<html lang="{language()}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{_safe(name)}: {found or translated("nothing found")}</title>
<style>{_STYLE}</style>
</head>
<body>
<header><h1>{_said(f"Check of {name}")}</h1><p>{_said(summary)}</p></header>
{inner}
</body>
</html>
"""


def _section(finding: Finding, show: Show) -> str:
    cases = "".join(_case(case, show) for case in finding.cases[:_CASES])
    more = len(finding.cases) - _CASES
    rest = f'<p class="more">{_said(f"and {more:,} more: --json lists them all")}</p>' if more > 0 else ""
    fix = _OPTION.sub(r"<code>\1</code>", _said(finding.fix))
    shown = f'<ul class="cases">{cases}</ul>' if cases else ""
    return (
        f'<section class="{finding.severity}"><h2><span>{_said(finding.severity)}</span> {_said(finding.words)}</h2>'
        f'<p class="fix">{fix}</p>{shown}{rest}</section>'
    )


def _case(case: Case, show: Show) -> str:
    pictures = "".join(_figures(case.examples[:_EXAMPLES], show))
    more = len(case.examples) - _EXAMPLES
    words = "; ".join(map(_said, [*([case.words] if case.words else []), *([f"{more:,} more like it"] if more > 0 else [])]))
    caption = f'<p class="words">{words}</p>' if words else ""
    shown = f'<div class="pictures">{pictures}</div>' if pictures else ""
    return f'<li class="case">{shown}{caption}</li>'


def _figures(examples: Sequence[str], show: Show) -> Iterator[str]:
    for example in examples:
        shown = _shown(example, show)
        kind = "" if shown.startswith("<img") else ' class="text"'
        yield f"<figure{kind}>{shown}<figcaption>{_safe(example).replace('/', '/<wbr>')}</figcaption></figure>"


def _shown(example: str, show: Show) -> str:
    """Return a small picture, or the beginning of words; "" if the example cannot be read."""
    try:
        found = show(example)
    except DataError:
        return ""
    if isinstance(found, str):
        return f"<blockquote>{_safe(found[:_LETTERS])}{'…' * (len(found) > _LETTERS)}</blockquote>" if found.strip() else ""
    if not isinstance(found, Image.Image):
        values = " ".join(f"<span><i>{_safe(cell.name)}</i> {_safe(cell.words[:_LETTERS])}</span>" for cell in found[:_VALUES])
        return f"<blockquote>{values}{' …' * (len(found) > _VALUES)}</blockquote>" if found else ""
    found.thumbnail((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    content = BytesIO()
    found.save(content, "PNG" if max(found.size) <= 48 else "JPEG", quality=80)
    kind = "png" if max(found.size) <= 48 else "jpeg"
    return f'<img alt="" src="data:image/{kind};base64,{b64encode(content.getvalue()).decode()}">'


def _said(text: str) -> str:
    """Return our own words in the chosen language, escaped."""
    return _safe(translated(text))


def _safe(text: str) -> str:
    """Escape text for any place in the page; file names that are not Unicode are written out."""
    return escape(text.encode("utf-8", "backslashreplace").decode("utf-8"))
