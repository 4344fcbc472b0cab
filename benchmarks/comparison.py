"""From the results of the contestants to a table and a figure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.report import Mean, Spread, bars, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REFERENCE = "epochal"
# Test accuracies so far from the middle one (0.7 percentage points) mean that somebody did other work.
TOLERANCE = 0.007


@dataclass(frozen=True)
class Row:
    """One contestant at one batch size, over the rounds.

    Its seconds per epoch, their ratio to Epochal's of the same round, the seconds of the first epoch, its test accuracy (fractions of
    1; `None` for what does not learn), and the 95 % interval of the difference between its mean accuracy and Epochal's.
    """

    contestant: str
    batch_size: int
    seconds: Spread | None = None
    ratio: Spread | None = None
    first: float | None = None
    accuracy: Mean | None = None
    difference: tuple[float, float] | None = None
    peak_mib: float | None = None
    differs: bool = False
    error: str = ""


def summarize(records: Sequence[dict[str, Any]]) -> list[Row]:
    """Return a row for each contestant and batch size, the fastest first and those that failed last.

    A record holds `contestant`, `batch_size`, `round`, and what the contestant printed, or `error`. The time of a run is the median
    of its epochs; the first, which is warm-up for everybody and compilation for some, is reported beside it.
    """
    rows: list[Row] = []
    for batch_size in dict.fromkeys(record["batch_size"] for record in records):
        runs: dict[str, list[dict[str, Any]]] = {}
        for record in records:
            if record["batch_size"] == batch_size:
                runs.setdefault(record["contestant"], []).append(record)
        rows += _rows(batch_size, runs)
    return rows


def _rows(batch_size: int, runs: dict[str, list[dict[str, Any]]]) -> list[Row]:
    """Return the rows of one batch size from the runs of each contestant."""
    reference = {run["round"]: _seconds(run) for run in runs.get(REFERENCE, []) if "error" not in run}
    accuracies = {
        name: [run["accuracy"] for run in own] for name, own in runs.items() if not _error(own) and own[0]["accuracy"] is not None
    }
    middle = statistics.median(statistics.fmean(own) for own in accuracies.values()) if accuracies else 0.0
    rows = []
    for name, own in runs.items():
        if _error(own):
            rows.append(Row(name, batch_size, error=_error(own)))
            continue
        ratios = [_seconds(run) / reference[run["round"]] for run in own if run["round"] in reference]
        reached = accuracies.get(name)
        rows.append(
            Row(
                name,
                batch_size,
                seconds=Spread.of([_seconds(run) for run in own]),
                ratio=Spread.of(ratios) if ratios else None,
                first=statistics.median(run["seconds"][0] for run in own),
                accuracy=Mean.of(reached) if reached else None,
                difference=interval(reached, accuracies.get(REFERENCE, [])) if reached and name != REFERENCE else None,
                peak_mib=max(run["peak_mib"] for run in own),
                differs=bool(reached) and abs(statistics.fmean(reached or ()) - middle) > TOLERANCE,
            )
        )
    return sorted(rows, key=lambda row: row.seconds.median if row.seconds else float("inf"))


def interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % confidence interval of mean(first) - mean(second) by Welch's t test; `None` for fewer than two of either."""
    if min(len(first), len(second)) < 2:
        return None
    from scipy.stats import ttest_ind

    low, high = ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    return float(low), float(high)


def tables(rows: Sequence[Row], titles: dict[str, str]) -> str:
    """Return the rows as Markdown, a table for each batch size."""
    header = ("contestant", "seconds per epoch", "× Epochal's", "first epoch", "test accuracy", "less Epochal's, 95 %", "peak memory")
    text = ""
    for batch_size in dict.fromkeys(row.batch_size for row in rows):
        lines = [_cells(row, titles) for row in rows if row.batch_size == batch_size]
        text += f"\nBatch size {batch_size}; median (least–most) over the rounds; accuracy mean ± standard deviation\n\n"
        text += table(header, lines)
    return text


def _cells(row: Row, titles: dict[str, str]) -> list[str]:
    title = titles.get(row.contestant, row.contestant)
    if row.seconds is None:
        return [title, f"did not run: {row.error}", *[""] * 5]
    accuracy = "–" if row.accuracy is None else f"{_percent(row.accuracy):.2f} %" + (" **differs**" if row.differs else "")
    difference = "–" if row.difference is None else " to ".join(f"{100 * end:+.2f}" for end in row.difference)
    ratio = "–" if row.ratio is None else f"{row.ratio:.2f}"
    return [title, f"{row.seconds:.2f}", ratio, f"{row.first:.2f}", accuracy, difference, f"{row.peak_mib:,.0f} MiB"]


def figure(rows: Sequence[Row], titles: dict[str, str]) -> Figure:
    """Return bars of the seconds per epoch, a panel for each batch size."""
    from matplotlib.figure import Figure

    sizes = list(dict.fromkeys(row.batch_size for row in rows))
    lengths = [sum(row.batch_size == size for row in rows) for size in sizes]
    figure = Figure(figsize=(9, 0.6 + sum(0.9 + 0.28 * length for length in lengths)), layout="constrained")
    panels = figure.subplots(len(sizes), 1, squeeze=False, height_ratios=[2 + length for length in lengths])[:, 0]
    for axes, size in zip(panels, sizes, strict=True):
        shown = [row for row in rows if row.batch_size == size]
        timed = [(row, row.seconds) for row in shown if row.seconds is not None]
        words = [f"{seconds.median:.2f} s" + (f", × {row.ratio.median:.2f}" if row.ratio else "") for row, seconds in timed]
        names = [titles.get(row.contestant, row.contestant) for row, _ in timed]
        ours = [row.contestant == REFERENCE for row, _ in timed]
        bars(axes, f"Seconds per epoch, batch size {size}", names, [seconds for _, seconds in timed], words, ours)
    return figure


def _percent(accuracy: Mean) -> Mean:
    return Mean(100 * accuracy.mean, None if accuracy.std is None else 100 * accuracy.std)


def _seconds(run: dict[str, Any]) -> float:
    return float(statistics.median(run["seconds"]))


def _error(runs: Sequence[dict[str, Any]]) -> str:
    return next((str(run["error"]) for run in runs if "error" in run), "")
