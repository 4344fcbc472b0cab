"""What watchers that people read say of training: rows of a table, and sentences."""

from __future__ import annotations

from epochal.device import describe
from epochal.language import translated
from epochal.recipe import Recipe
from epochal.shown import counted
from epochal.tasks.scores import Scores
from epochal.training.best import is_loose
from epochal.training.records import EpochDone, Finished, Progress, Rewound, Started
from epochal.training.sharing import ThreadChange


def begun(started: Started) -> list[str]:
    """Return the lines above the table."""
    going_on = [f"continuing after step {started.step:,} of {started.steps:,}"] if started.step else []
    steps = counted(started.steps, "step")
    said = f"{steps}, not traced: {started.untraced}" if started.untraced else f"{steps}, traced"
    return [*started.notes, *going_on, f"{describe(started.device)}: {started.parameters:,} parameters, {said}"]


def heading(started: Started) -> list[str]:
    """Return the names of the columns, in the chosen language."""
    names = ("epoch", "train loss", "valid loss", started.spec.task.score_name, "lr", "time", "examples/s", *started.metrics)
    return [translated(name) for name in names]


def row(done: EpochDone, started: Started) -> list[str]:
    """Return the row of an epoch."""
    task, valid = started.spec.task, done.valid
    loss, score = ("", "") if valid is None else (number(valid.loss), task.score_words(task.score_value(valid)))
    values = [number(done.train_loss), loss, score, f"{done.lr:.3g}", duration(done.seconds), f"{done.examples_per_second:,.0f}"]
    return [f"{done.epoch}/{done.epochs}", *values, *(() if valid is None else map(number, valid.metrics.values()))]


def is_best(done: EpochDone, started: Started) -> bool:
    """Whether an epoch is to be marked as the best so far."""
    return done.is_best and done.valid is not None and _chooses(started.recipe, done.valid)


def progressed(progress: Progress) -> list[str]:
    """Return what is said within an epoch, the least important before the last."""
    slowest = [] if progress.slowest is None else [f"process {progress.slowest[0]} slowest, +{progress.slowest[1]:.0%}"]
    return [
        f"loss {number(progress.loss)}",
        f"{progress.examples_per_second:,.0f}/s",
        *slowest,
        f"data wait {progress.waiting:.0%}",
        f"{duration(progress.remaining)} left",
    ]


def rewound(record: Rewound) -> str:
    """Return why training continues from a checkpoint."""
    return f"{record.reason} Continuing after step {record.step:,} with the learning rate times {record.factor:g}."


def threads_changed(change: ThreadChange) -> str:
    """Return why the number of threads has changed."""
    why = "other programs keep the cores busy" if change.threads < change.before else "there are cores to spare again"
    return f"{why}: {counted(change.threads, 'thread')} after step {change.step:,}"


def ended(finished: Finished, started: Started | None) -> list[str]:
    """Return how training ended."""
    epochs = counted(finished.epochs, "epoch")
    why = {
        "epochs": f"Trained {epochs}",
        "steps": f"Stopped by max_steps after {counted(finished.steps, 'step')}",
        "seconds": f"Stopped by max_seconds in epoch {finished.epochs}",
        "patience": f"Stopped by patience after {epochs}",
    }.get(finished.reason, f"Stopped after {epochs} ({finished.reason})")
    again = f"; rewound {counted(len(finished.rewinds), 'time')}" * bool(finished.rewinds)
    lines = [f"{why} in {duration(finished.seconds)}{again}; {finished.kept_weights()}."]
    if started is not None and finished.untraced != started.untraced:
        lines.append(f"note: steps could not be traced after all: {finished.untraced}.")
    return lines


def number(value: float) -> str:
    """Format a loss in at most ten characters."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.3e}"


def duration(seconds: float) -> str:
    """Format a time in at most seven characters."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{int(seconds) // 60}m {int(seconds) % 60:02d}s"
    return f"{minutes // 60}h {minutes % 60:02d}m"


def _chooses(recipe: Recipe, valid: Scores) -> bool:
    """Whether the epoch is picked by its score alone, rather than as the last, or the latest that is as good as the best."""
    return recipe.keep == "best" and not is_loose(recipe.monitor, valid)
