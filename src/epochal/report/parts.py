"""What sections are put together of: headings, figures, tables, and numbers in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from epochal.language import language, translated
from epochal.page import safe, said


def section(name: str, title: str, *parts: str) -> str:
    """Return a section under a `title`, a sentence of ours; "" without parts."""
    inner = "\n".join(filter(None, parts))
    return f'<section id="{name}" aria-labelledby="{name}-h"><h2 id="{name}-h">{said(title)}</h2>\n{inner}\n</section>' if inner else ""


def words(*sentences: str, kind: str = "") -> str:
    """Return a paragraph of our sentences."""
    mark = f' class="{kind}"' if kind else ""
    # Chinese has no blank between sentences.
    return f"<p{mark}>{('' if language() == 'zh' else ' ').join(map(said, sentences))}</p>"


def figure(title: str, drawn: str, *more: str, names: Sequence[tuple[str, str]] = ()) -> str:
    """Return a chart under its title, with the `names` (class, name) of its lines, and `more` below: its numbers as a table."""
    key = "".join(f'<span class="{kind}">{said(name)}</span>' for kind, name in names)
    shown = f'<p class="key">{key}</p>' if key else ""
    return f"<figure><figcaption>{said(title)}</figcaption>{shown}{drawn}{''.join(more)}</figure>"


def beside(*figures: str) -> str:
    """Return figures side by side where there is room."""
    return f'<div class="beside">{"".join(figures)}</div>'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], name: str) -> str:
    """Return a table called `name`, whose first column names the rows. Heads are ours; cells are HTML.

    It scrolls sideways where it is too wide, also by the keyboard.
    """
    head = "".join(f'<th scope="col">{said(one)}' if one else "<td>" for one in heads)
    head = f"<thead><tr>{head}</thead>" if any(heads) else ""
    body = "".join(f'<tr><th scope="row">{first}{"".join(f"<td>{cell}" for cell in rest)}' for first, *rest in rows)
    return f'<div class="scroll" role="region" aria-label="{said(name)}" tabindex="0"><table>{head}<tbody>{body}</tbody></table></div>'


def folded(summary: str, inner: str) -> str:
    """Return what is shown only if somebody asks for it."""
    return f"<details><summary>{said(summary)}</summary>{inner}</details>"


def numbers(heads: Sequence[str], rows: Iterable[Sequence[str]], name: str) -> str:
    """Return the numbers of a chart as a table that is folded away."""
    return folded("The numbers", table(heads, rows, name))


def percent(share: float, digits: int = 1) -> str:
    """Return a share in percent."""
    return f"{100 * share:.{digits}f} %"


def between(interval: tuple[float, float]) -> str:
    """Return an interval of a share in percent."""
    return translated(f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f} %")


def quoted(name: str) -> str:
    """Return a name for a sentence, in one line and not too long."""
    line = " ".join(name.split())
    return f"'{line[:60]}{'…' * (len(line) > 60)}'"


def long_time(seconds: float) -> str:
    """Return a time of a minute or more in words."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"


def cell(text: str) -> str:
    """Return text of strangers for a cell."""
    return safe(text)
