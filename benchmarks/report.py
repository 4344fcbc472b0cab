"""From what the contestants told to a table and a figure."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REFERENCE = "epochal"
# Test accuracies so far from the middle one (0.7 percentage points) mean that somebody did other work.
TOLERANCE = 0.007
_PACKAGES = ("epochal", "torch", "torchvision", "lightning", "skorch", "keras", "fastai", "transformers", "accelerate", "numpy")


@dataclass(frozen=True)
class Spread:
    """The middle, the least and the most of some numbers."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of `values`."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}–{self.high:.2f})"


@dataclass(frozen=True)
class Row:
    """One contestant at one batch size: over the rounds, its seconds per epoch and their ratio to Epochal's of the same round."""

    contestant: str
    batch_size: int
    seconds: Spread | None = None
    ratio: Spread | None = None
    first: float | None = None
    accuracy: float | None = None
    peak_mib: float | None = None
    differs: bool = False
    error: str = ""


def summarize(records: Sequence[dict[str, Any]]) -> list[Row]:
    """Return a row for each contestant and batch size, the fastest first and those that failed last.

    A record holds `contestant`, `batch_size`, `round`, and what the contestant printed, or `error`. The time of a run is the median
    of its epochs; the first, which is warm-up for everybody and compilation for some, is told beside it.
    """
    rows: list[Row] = []
    for batch_size in dict.fromkeys(record["batch_size"] for record in records):
        runs: dict[str, list[dict[str, Any]]] = {}
        for record in records:
            if record["batch_size"] == batch_size:
                runs.setdefault(record["contestant"], []).append(record)
        reference = {run["round"]: _seconds(run) for run in runs.get(REFERENCE, []) if "error" not in run}
        good = {name: statistics.fmean(run["accuracy"] for run in own) for name, own in runs.items() if not _error(own)}
        middle = statistics.median(good.values()) if good else 0.0
        found = []
        for name, own in runs.items():
            if _error(own):
                found.append(Row(name, batch_size, error=_error(own)))
                continue
            ratios = [_seconds(run) / reference[run["round"]] for run in own if run["round"] in reference]
            found.append(
                Row(
                    name,
                    batch_size,
                    seconds=Spread.of([_seconds(run) for run in own]),
                    ratio=Spread.of(ratios) if ratios else None,
                    first=statistics.median(run["seconds"][0] for run in own),
                    accuracy=good[name],
                    peak_mib=max(run["peak_mib"] for run in own),
                    differs=abs(good[name] - middle) > TOLERANCE,
                )
            )
        rows += sorted(found, key=lambda row: row.seconds.median if row.seconds else float("inf"))
    return rows


def table(rows: Sequence[Row], titles: dict[str, str]) -> str:
    """Return the rows as Markdown, a table for each batch size."""
    lines = []
    for batch_size in dict.fromkeys(row.batch_size for row in rows):
        lines += [
            f"\nBatch size {batch_size}; median (least–most) over the rounds\n",
            "| contestant | seconds per epoch | × Epochal's | first epoch | test accuracy | peak memory |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        for row in rows:
            title = titles.get(row.contestant, row.contestant)
            if row.batch_size != batch_size:
                continue
            if row.seconds is None or row.accuracy is None or row.first is None:
                lines.append(f"| {title} | did not run: {row.error} | | | | |")
                continue
            told = f"{100 * row.accuracy:.2f} %" + (" **differs**" if row.differs else "")
            lines.append(f"| {title} | {row.seconds} | {row.ratio or '–'} | {row.first:.2f} | {told} | {row.peak_mib:,.0f} MiB |")
    return "\n".join(lines) + "\n"


def figure(rows: Sequence[Row], titles: dict[str, str]) -> Figure:
    """Return bars of the seconds per epoch, a panel for each batch size; lines show the least and the most."""
    from matplotlib.figure import Figure

    sizes = list(dict.fromkeys(row.batch_size for row in rows))
    figure = Figure(
        figsize=(9, 0.6 + sum(0.9 + 0.28 * sum(row.batch_size == size for row in rows) for size in sizes)), layout="constrained"
    )
    heights = [2 + sum(row.batch_size == size for row in rows) for size in sizes]
    for axes, size in zip(figure.subplots(len(sizes), 1, squeeze=False, height_ratios=heights)[:, 0], sizes, strict=True):
        shown = [(row, row.seconds) for row in rows if row.batch_size == size and row.seconds is not None]
        middles = [seconds.median for _, seconds in shown]
        spread = [[seconds.median - seconds.low for _, seconds in shown], [seconds.high - seconds.median for _, seconds in shown]]
        colours = ["#0072B2" if row.contestant == REFERENCE else "#B0B0B0" for row, _ in shown]
        axes.barh(range(len(shown)), middles, xerr=spread, color=colours, ecolor="black", capsize=2)
        for place, (row, seconds) in enumerate(shown):
            words = f"  {seconds.median:.2f} s" + (f", × {row.ratio.median:.2f}" if row.ratio else "")
            axes.annotate(words, (seconds.high, place), va="center", fontsize=8)
        axes.set_yticks(range(len(shown)), [titles.get(row.contestant, row.contestant) for row, _ in shown], fontsize=8)
        axes.invert_yaxis()
        axes.set_title(f"Seconds per epoch, batch size {size}", fontsize=10)
        axes.set_xlim(0, 1.25 * max((seconds.high for _, seconds in shown), default=1.0))
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def write(folder: Path, name: str, settings: dict[str, Any], records: Sequence[dict[str, Any]], titles: dict[str, str]) -> list[Path]:
    """Write NAME.json (everything), NAME.md, NAME.png and NAME.svg into `folder`, and return the files."""
    from epochal.figures import save

    folder.mkdir(parents=True, exist_ok=True)
    rows = summarize(records)
    data, text = folder / f"{name}.json", folder / f"{name}.md"
    where = machine()
    write_json(data, {"settings": settings, "machine": where, "records": list(records)})
    told = [f"{key}: {value}" for key, value in {**settings, **where, "packages": _listed(where["packages"])}.items()]
    text.write_text("# Training speed\n" + table(rows, titles) + "\n" + "  \n".join(told) + "\n", "utf-8")
    return [data, text, *save(figure(rows, titles), folder / name)]


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write `content` for people and programs to read."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def machine() -> dict[str, Any]:
    """Return what the numbers depend on besides the programs: processor, system, versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor() or platform.machine())
    return {
        "processor": f"{model}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _listed(packages: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in packages.items())


def _seconds(run: dict[str, Any]) -> float:
    return float(statistics.median(run["seconds"]))


def _error(runs: Sequence[dict[str, Any]]) -> str:
    return next((str(run["error"]) for run in runs if "error" in run), "")
