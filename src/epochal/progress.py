"""A progress bar with an ETA for anything that may take longer than a second.

It goes to standard error, appears only on a terminal or in a notebook, and vanishes when done: it never mixes with results.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Protocol

from epochal.distributed import leads
from epochal.notebook import Display, in_notebook
from epochal.shown import bar


def silent(_: str) -> None:
    """Log nothing."""


class Advance(Protocol):
    """The function that a block calls as its work gets done."""

    def __call__(self, amount: float = 1) -> None:
        """Report that `amount` more has been done."""


@contextmanager
def progress(label: str, total: float | None, *, unit: str = "", done: int = 0) -> Iterator[Advance]:
    """Show a bar named `label` until the block ends; the block calls the yielded function as work gets done.

    Without a `label` nothing is shown; of several processes, the first shows it. `total` is in `unit`s ("bytes" prints sizes and a
    rate), `None` if it is unknown; `done` is the amount that was done before.
    """
    if not label or not leads():
        yield lambda amount=1: None  # noqa: ARG005  it has the signature of Advance
        return
    if in_notebook():
        with _in_notebook(label, total, done) as advance:
            yield advance
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    amount = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task(label, total=total, completed=done)

        def advance(amount: float = 1) -> None:
            shown.advance(task, amount)

        yield advance


@contextmanager
def _in_notebook(label: str, total: float | None, done: float) -> Iterator[Advance]:
    display = Display()

    def advance(amount: float = 1) -> None:
        nonlocal done
        done += amount
        if display.is_due():
            display.show(f"{escape(label)} {bar(done / total)} {done / total:.0%}" if total else f"{escape(label)} {done:,.0f}")

    try:
        yield advance
    finally:
        display.clear()
