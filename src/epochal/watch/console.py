"""Training progress on the screen: a table with a row per epoch, and a live line below it."""

from __future__ import annotations

import time
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

from epochal.language import columns, translated
from epochal.terminal import harmless, readable
from epochal.training.records import EpochDone, Finished, Progress, Record, Rewound, Started
from epochal.training.sharing import ThreadChange
from epochal.watch import words

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

# If the output is not a terminal, progress within a long epoch is logged this many seconds apart.
_LOG_SECONDS = 10.0
# The smallest width of the bar in columns.
_BAR = 8
_WIDTHS = {"train loss": 10, "valid loss": 10, "accuracy": 8, "lr": 8, "time": 7, "examples/s": 10}


class Console:
    """Prints a row per epoch to standard output (or to `file`), and during an epoch a live line with a bar and the time left.

    Use it as a context manager, so that the live line also disappears if training fails or is interrupted. If the output is not a
    terminal, there is no live line; instead, progress within a long epoch is printed every ten seconds.
    """

    def __init__(self, file: IO[str] | None = None) -> None:
        from rich.console import Console as Screen

        self._screen = Screen(file=file, highlight=False)
        self._live: Live | None = None
        self._started: Started | None = None
        self._epoch_width = 0
        self._widths = list(_WIDTHS.values())
        self._logged = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop_live()

    def __call__(self, record: Record) -> None:
        """Print `record`."""
        if isinstance(record, Started):
            self._begin(record)
        elif isinstance(record, Progress):
            self._progress(record)
        elif isinstance(record, EpochDone):
            self._row(record)
        elif isinstance(record, Rewound):
            self._between(words.rewound(record), "yellow")
        elif isinstance(record, ThreadChange):
            self._between(words.threads_changed(record))
        else:
            self._end(record)

    def say(self, line: str) -> None:
        """Print any other line."""
        self._print(line)

    def _begin(self, started: Started) -> None:
        self._stop_live()
        self._started = started
        self._epoch_width = max(len("epoch"), len(f"{started.epochs}/{started.epochs}"))
        for line in words.begun(started):
            self._print(line)
        self._widths = [*_WIDTHS.values(), *(max(8, len(name)) for name in started.metrics)]
        self._print(self._cells(words.heading(started)), style="bold")
        self._logged = time.monotonic()
        # With FORCE_COLOR, Rich treats any output as a terminal: colours may go into a log, a live line must not.
        if self._screen.is_interactive and self._screen.file.isatty():
            from rich.live import Live

            # Training reports progress a few times a second; a thread that refreshes in between would only slow it down.
            self._live = Live(console=self._screen, transient=True, auto_refresh=False)
            self._live.start()

    def _progress(self, progress: Progress) -> None:
        if self._live is not None:
            self._live.update(_live_line(progress, self._screen.width), refresh=True)
        elif time.monotonic() - self._logged >= _LOG_SECONDS:
            self._logged = time.monotonic()
            share = progress.examples / progress.epoch_examples
            self._print(f"  epoch {progress.epoch}/{progress.epochs}: {share:.0%}, {', '.join(words.progressed(progress))}")

    def _row(self, done: EpochDone) -> None:
        assert self._started is not None
        is_best = words.is_best(done, self._started)
        if self._live is not None:
            self._live.update("")
        self._print(
            self._cells(words.row(done, self._started)) + (f"  {translated('best')}" if is_best else ""),
            style="green" if is_best else "",
        )
        self._logged = time.monotonic()

    def _between(self, line: str, style: str = "") -> None:
        if self._live is not None:
            self._live.update("")
        self._print(line, style)
        self._logged = time.monotonic()

    def _end(self, finished: Finished) -> None:
        self._stop_live()
        for line in words.ended(finished, self._started):
            self._print(line)

    def _cells(self, values: list[str]) -> str:
        wide = zip(values, (self._epoch_width, *self._widths), strict=False)
        return "  ".join(" " * (width - columns(value)) + value for value, width in wide)

    def _print(self, line: str, style: str = "") -> None:
        # The terminal wraps long lines; names of devices are not markup. A name that cannot be encoded must not end training.
        self._screen.print(
            readable(harmless(translated(line)), self._screen.encoding), style=style or None, markup=False, emoji=False, soft_wrap=True
        )

    def _stop_live(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _live_line(progress: Progress, width: int) -> Table:
    """Return a line as wide as the screen; if that is narrow, with fewer numbers."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    line = Table.grid(padding=(0, 2), expand=True)
    line.add_column(no_wrap=True)
    # The bar takes the remaining width.
    line.add_column(ratio=1)
    said, epoch = words.progressed(progress), f"epoch {progress.epoch}/{progress.epochs}"
    while len(said) > 1 and len("  ".join([epoch, *said])) + _BAR > width:
        del said[-2]
    for _ in said:
        line.add_column(no_wrap=True, justify="right")
    bar = ProgressBar(total=progress.epoch_examples, completed=progress.examples)
    line.add_row(translated(epoch), bar, *map(translated, said))
    return line
