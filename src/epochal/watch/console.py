"""Training progress on the screen: a table with a row per epoch, and a live line below it."""

from __future__ import annotations

import time
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

from epochal.device import describe
from epochal.language import columns, translated
from epochal.recipe import Recipe
from epochal.tasks.scores import Scores
from epochal.terminal import harmless, readable
from epochal.training.best import is_loose
from epochal.training.records import EpochDone, Finished, Progress, Record, Rewound, Started
from epochal.training.sharing import ThreadChange

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
            self._rewound(record)
        elif isinstance(record, ThreadChange):
            self._threads_changed(record)
        else:
            self._end(record)

    def say(self, line: str) -> None:
        """Print any other line."""
        self._print(line)

    def _begin(self, started: Started) -> None:
        self._stop_live()
        self._started = started
        self._epoch_width = max(len("epoch"), len(f"{started.epochs}/{started.epochs}"))
        for note in started.notes:
            self._print(note)
        if started.step:
            self._print(f"continuing after step {started.step:,} of {started.steps:,}")
        steps = _count(started.steps, "step")
        said = f"{steps}, not traced: {started.untraced}" if started.untraced else f"{steps}, traced"
        self._print(f"{describe(started.device)}: {started.parameters:,} parameters, {said}")
        self._widths = [*_WIDTHS.values(), *(max(8, len(name)) for name in started.metrics)]
        score = started.spec.task.score_name
        head = [translated(name) for name in ("epoch", "train loss", "valid loss", score, "lr", "time", "examples/s", *started.metrics)]
        self._print(self._cells(head[0], head[1:]), style="bold")
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
            self._print(f"  epoch {progress.epoch}/{progress.epochs}: {share:.0%}, {', '.join(_words(progress))}")

    def _row(self, done: EpochDone) -> None:
        assert self._started is not None
        recipe, task, valid = self._started.recipe, self._started.spec.task, done.valid
        loss, score = ("", "") if valid is None else (_number(valid.loss), task.score_words(task.score_value(valid)))
        values = [_number(done.train_loss), loss, score, f"{done.lr:.3g}", _duration(done.seconds), f"{done.examples_per_second:,.0f}"]
        if valid is not None:
            values += map(_number, valid.metrics.values())
        is_best = done.is_best and valid is not None and _chooses(recipe, valid)
        if self._live is not None:
            self._live.update("")
        self._print(
            self._cells(f"{done.epoch}/{done.epochs}", values) + (f"  {translated('best')}" if is_best else ""),
            style="green" if is_best else "",
        )
        self._logged = time.monotonic()

    def _rewound(self, record: Rewound) -> None:
        if self._live is not None:
            self._live.update("")
        self._print(
            f"{record.reason} Continuing after step {record.step:,} with the learning rate times {record.factor:g}.", style="yellow"
        )
        self._logged = time.monotonic()

    def _threads_changed(self, change: ThreadChange) -> None:
        if self._live is not None:
            self._live.update("")
        why = "other programs keep the cores busy" if change.threads < change.before else "there are cores to spare again"
        self._print(f"{why}: {_count(change.threads, 'thread')} after step {change.step:,}")
        self._logged = time.monotonic()

    def _end(self, finished: Finished) -> None:
        self._stop_live()
        epochs = _count(finished.epochs, "epoch")
        why = {
            "epochs": f"Trained {epochs}",
            "steps": f"Stopped by max_steps after {_count(finished.steps, 'step')}",
            "seconds": f"Stopped by max_seconds in epoch {finished.epochs}",
            "patience": f"Stopped by patience after {epochs}",
        }.get(finished.reason, f"Stopped after {epochs} ({finished.reason})")
        rewound = f"; rewound {_count(len(finished.rewinds), 'time')}" * bool(finished.rewinds)
        self._print(f"{why} in {_duration(finished.seconds)}{rewound}; {finished.kept_weights()}.")
        if self._started is not None and finished.untraced != self._started.untraced:
            self._print(f"note: steps could not be traced after all: {finished.untraced}.")

    def _cells(self, epoch: str, values: list[str]) -> str:
        wide = zip((epoch, *values), (self._epoch_width, *self._widths), strict=False)
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


def _chooses(recipe: Recipe, valid: Scores) -> bool:
    """Whether the epoch is picked by its score alone, rather than as the last, or the latest that is as good as the best."""
    return recipe.keep == "best" and not is_loose(recipe.monitor, valid)


def _live_line(progress: Progress, width: int) -> Table:
    """Return a line as wide as the screen; if that is narrow, with fewer numbers."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    line = Table.grid(padding=(0, 2), expand=True)
    line.add_column(no_wrap=True)
    # The bar takes the remaining width.
    line.add_column(ratio=1)
    words, epoch = _words(progress), f"epoch {progress.epoch}/{progress.epochs}"
    while len(words) > 1 and len("  ".join([epoch, *words])) + _BAR > width:
        del words[-2]
    for _ in words:
        line.add_column(no_wrap=True, justify="right")
    bar = ProgressBar(total=progress.epoch_examples, completed=progress.examples)
    line.add_row(translated(epoch), bar, *map(translated, words))
    return line


def _words(progress: Progress) -> list[str]:
    slowest = [] if progress.slowest is None else [f"process {progress.slowest[0]} slowest, +{progress.slowest[1]:.0%}"]
    return [
        f"loss {_number(progress.loss)}",
        f"{progress.examples_per_second:,.0f}/s",
        *slowest,
        f"data wait {progress.waiting:.0%}",
        f"{_duration(progress.remaining)} left",
    ]


def _number(value: float) -> str:
    """Format a loss in at most ten characters."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.3e}"


def _duration(seconds: float) -> str:
    """Format a time in at most seven characters."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{int(seconds) // 60}m {int(seconds) % 60:02d}s"
    return f"{minutes // 60}h {minutes % 60:02d}m"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
