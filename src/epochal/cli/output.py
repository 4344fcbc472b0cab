"""How every verb prints: text, tables, and results as JSON."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from epochal.errors import EpochalError
from epochal.language import columns, translated
from epochal.terminal import harmless

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from epochal.shown import Rows

# In a narrower terminal a table keeps this width, and the terminal wraps its lines: numbers are never cut.
_NARROWEST = 60
# So much of a name is in one line.
_NAME = 16
# Blanks between two columns.
_GAP = 2


def say(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print text on standard output, or on standard error."""
    _echo(harmless(translated(text)), err=err, nl=nl)


def say_error(error: EpochalError) -> None:
    """Print on standard error what is wrong and how to fix it."""
    head = translated("error:")
    # Chinese punctuation includes its own space.
    _echo(f"{click.style(head, fg='red')}{' ' * head.isascii()}{harmless(translated(str(error)))}", err=True)


def _echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    # The stream is passed explicitly: click would write UTF-8 to one that only accepts ASCII.
    click.echo(text, file=sys.stderr if err else sys.stdout, nl=nl)


def say_json(value: Any) -> None:
    """Print `value` as one line of JSON; characters that the output cannot encode are escaped."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value)
    _echo(harmless(text))


def print_table(table: Table, *, narrowest: int = _NARROWEST) -> None:
    """Print a table as wide as the terminal is, or as the `narrowest` that it may be."""
    from rich.console import Console

    console = Console(highlight=False)
    console.width = max(console.width, narrowest)
    console.print(table)


def print_rows(heading: Sequence[str], rows: Rows) -> None:
    """Print a table whose first column are names, which are folded where they are long; nothing else is cut or folded but the heading."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    heads, cells = [*map(translated, heading)], [(name, *map(translated, values)) for name, *values in rows]
    if sum(_widths([heads, *cells])) > Console().width:
        heads[1:] = (head.replace(" ", "\n").replace("\n%", " %") for head in heads[1:])
    names, *values = _widths([heads, *cells])
    table = Table(box=None, pad_edge=False)
    for place, head in enumerate(heads):
        table.add_column(escape(head), justify="right" if place else "left", no_wrap=bool(place), overflow="fold")
    for row in cells:
        table.add_row(*map(escape, row))
    print_table(table, narrowest=max(_NARROWEST, sum(values) + min(names, _NAME + _GAP)))


def _widths(rows: Rows) -> list[int]:
    """Return how wide each column of a table is, with the gap before the next one."""
    return [max(columns(line) for cell in column for line in cell.split("\n")) + _GAP for column in zip(*rows, strict=True)]
