"""How every verb prints: text, tables, and results as JSON."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from epochal.errors import EpochalError
from epochal.language import translated
from epochal.terminal import harmless

if TYPE_CHECKING:
    from rich.table import Table

# In a narrower terminal a table keeps this width, and the terminal wraps its lines: numbers are never cut.
_NARROWEST = 60


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


def print_table(table: Table) -> None:
    """Print a table as wide as the terminal is."""
    from rich.console import Console

    console = Console(highlight=False)
    console.width = max(console.width, _NARROWEST)
    console.print(table)
