"""Training progress in a notebook: one display that changes in place, with the last epochs and the curves of losses."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from html import escape
from types import TracebackType
from typing import Self

from epochal.language import translated
from epochal.notebook import Display, in_notebook
from epochal.shown import bar, curves, table
from epochal.training.records import EpochDone, Finished, Progress, Record, Rewound, Started
from epochal.training.sharing import ThreadChange
from epochal.watch import words
from epochal.watch.console import Console

# So many epochs are shown, the last ones; and so many lines before and after them.
_EPOCHS, _LINES = 8, 20


class Notebook:
    """Shows training in a notebook; what is said before and after it is below the same cell.

    Use it as a context manager, so that all is shown in the end, also if training fails or is interrupted.
    """

    def __init__(self) -> None:
        self._display = Display()
        self._started: Started | None = None
        self._epochs: list[EpochDone] = []
        self._before: list[str] = []
        self._after: list[str] = []
        self._now = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._now = ""
        self._display.show(self._html())

    def __call__(self, record: Record) -> None:
        """Show `record`."""
        if isinstance(record, Started):
            self._started, self._epochs = record, [*record.history]
            self._before += words.begun(record)
        elif isinstance(record, Progress):
            self._progress(record)
        elif isinstance(record, EpochDone):
            self._epochs.append(record)
        elif isinstance(record, Rewound):
            del self._epochs[record.epoch - 1 :]
            self._after.append(words.rewound(record))
        elif isinstance(record, ThreadChange):
            self._after.append(words.threads_changed(record))
        else:
            self._end(record)
        self._show()

    def say(self, line: str) -> None:
        """Show any other line."""
        (self._before if self._started is None else self._after).append(line)
        self._show()

    def _progress(self, progress: Progress) -> None:
        said = [f"epoch {progress.epoch}/{progress.epochs}", *words.progressed(progress)]
        self._now = f"{bar(progress.step / max(progress.steps, 1))} {escape(' · '.join(map(translated, said)))}"

    def _end(self, finished: Finished) -> None:
        self._now = ""
        self._after += words.ended(finished, self._started)

    def _show(self) -> None:
        if self._display.is_due():
            self._display.show(self._html())

    def _html(self) -> str:
        return f"<div>{_said(self._before)}{self._training()}<div>{self._now}</div>{_said(self._after)}</div>"

    def _training(self) -> str:
        if self._started is None or not self._epochs:
            return ""
        started = self._started
        rows: Sequence[Sequence[str]] = [
            (*words.row(done, started), translated("best") if words.is_best(done, started) else "") for done in self._epochs[-_EPOCHS:]
        ]
        losses = {"train loss": [done.train_loss for done in self._epochs]}
        if any(done.valid is not None for done in self._epochs):
            losses["valid loss"] = [float("nan") if done.valid is None else done.valid.loss for done in self._epochs]
        drawn = curves({translated(name): values for name, values in losses.items()})
        return (
            '<div style="display:flex;flex-wrap:wrap;gap:1.5em;align-items:center">'
            f"{table((*words.heading(started), ''), rows)}<div>{drawn}</div></div>"
        )


def _said(lines: Sequence[str]) -> str:
    return "".join(f'<div style="opacity:.65">{escape(translated(line))}</div>' for line in lines[-_LINES:])


def screen() -> AbstractContextManager[Console | Notebook]:
    """Return what shows training where the program runs: a notebook, or a terminal or log."""
    return Notebook() if in_notebook() else Console()
