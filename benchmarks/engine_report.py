"""The tables and the picture of `engine.py`, from the records of its measurements."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.networks import WAYS
from benchmarks.report import BLUE, GREY, Spread, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Records = Sequence[dict[str, Any]]

# In the order of a step; colours that also those tell apart who do not see red or green.
COLOURS = {
    "gather": "#E69F00",
    "preprocess": "#F0E442",
    "forward, backward": BLUE,
    "update": "#CC79A7",
    "bookkeeping": "#666666",
}

# The ticks of the lower panel.
SPEEDS = (0.5, 1, 1.5, 2, 3, 5, 10, 20, 50)


def of(records: Records, **case: Any) -> list[dict[str, Any]]:
    """Return the records of a case."""
    return [record for record in records if all(record[name] == value for name, value in case.items())]


def values(records: Records, name: str) -> list[Any]:
    """Return what the records have under a name, each value once, in their order."""
    return list(dict.fromkeys(record[name] for record in records))


def measured(records: Records, **case: Any) -> list[dict[str, Any]]:
    """Return the records of a case that have a measurement."""
    return [record for record in of(records, **case) if "whole" in record]


def phases(records: Records) -> dict[str, float]:
    """Return the median of each phase over the rounds, in microseconds per step."""
    return {phase: statistics.median(record["phases"][phase] for record in records) for phase in COLOURS}


def floor(records: Records) -> float | None:
    """Return the microseconds of the arithmetic alone: the median over the rounds."""
    found = [record["floor"] for record in records if record.get("floor")]
    return statistics.median(found) if found else None


def ratio(records: Records, case: dict[str, Any], other: str) -> Spread | None:
    """Return how many times as long as another way, or as "floor", a way takes, within each round."""
    key = "floor" if other == "floor" else "whole"
    beside = {record["round"]: record.get(key) for record in measured(records, **{**case, "way": "plain" if other == "floor" else other})}
    own = [(record["whole"], beside.get(record["round"])) for record in measured(records, **case)]
    ratios = [whole / base for whole, base in own if base]
    return Spread.of(ratios) if ratios else None


def report_text(parts: Records, compared: Records, bad: Sequence[str]) -> str:
    """Return the page of results in Markdown."""
    text = "".join(f"**Failed: {reason}**\n\n" for reason in bad)
    text += "## epochal.fit and the best loop by hand\n\n" + _compared(compared)
    text += "\n## Where the time goes\n\nMicroseconds per step; parts are medians over the rounds.\n"
    for threads in values(parts, "threads"):
        for network in values(parts, "network"):
            text += f"\n### {network}, {_threads(threads)}\n\n{_parts(of(parts, threads=threads, network=network))}"
    return text


def _threads(threads: int) -> str:
    return f"{threads} thread{'s' * (threads != 1)}"


def _compared(compared: Records) -> str:
    rows = []
    for record in compared:
        case = [record["network"], str(record["threads"]), record["load"]]
        if "error" in record:
            rows.append([*case, f"did not run: {record['error']}", "", "", ""])
            continue
        fit, hand = (Spread.of([1e6 * taken / record["steps"] for taken in record[name]]) for name in ("fit", "hand"))
        rows.append([*case, f"{fit:,.0f}", f"{hand:,.0f}", f"{Spread.of(speedups(record)):.2f}", "yes" if record["equal"] else "**no**"])
    header = ["network", "threads", "machine", "epochal.fit, µs per step", "by hand", "times as fast", "same bits"]
    return "Batch size 64, in turns; median (least–most), and how many times as fast `epochal.fit` is within a pair.\n\n" + table(
        header, rows
    )


def speedups(record: dict[str, Any]) -> list[float]:
    """Return how many times as fast as by hand `epochal.fit` is, in each pair."""
    return [hand / fit for fit, hand in zip(record["fit"], record["hand"], strict=True)]


def _parts(records: Records) -> str:
    rows = []
    for size in values(records, "batch_size"):
        here = of(records, batch_size=size)
        plain = {record["weights"] for record in measured(here, way="plain")}
        for way in WAYS:
            if not (found := measured(here, way=way)):
                continue
            cells = [f"{value:,.1f}" for value in phases(found).values()]
            ratios = [ratio(here, {"way": way}, other) for other in ("floor", "plain")]
            rows.append(
                [
                    *(f"{size}, {way}", *cells, f"{Spread.of([record['whole'] for record in found]):,.0f}"),
                    *("–" if spread is None else f"{spread.median:.2f}" for spread in ratios),
                    *(f"{found[0]['start']:.2g} s", "yes" if {record["weights"] for record in found} == plain else "no"),
                ]
            )
        if (arithmetic := floor(here)) is not None:
            rows.append([f"{size}, the arithmetic alone", *[""] * len(COLOURS), f"{arithmetic:,.0f}", "", "", "", ""])
    header = ["batch size, way", *COLOURS, "whole step", "× arithmetic", "× plain", "start", "same bits"]
    return table(header, rows) + _notes(records)


def _notes(records: Records) -> str:
    """Return what did not run as its row says, and why, each reason once."""
    sizes: dict[str, list[str]] = {}
    for record in records:
        if words := f"did not run: {record['error']}" if "error" in record else record["note"]:
            sizes.setdefault(f"{record['way']} {words}", []).append(str(record["batch_size"]))
    return "".join(f"\nBatch size {', '.join(dict.fromkeys(own))}: {words}\n" for words, own in sizes.items())


def figure(parts: Records, compared: Records) -> Figure:
    """Return the parts of each way's step as bars, a panel for each network and batch size; below, `epochal.fit` and the loop by hand."""
    from matplotlib.figure import Figure

    networks, sizes = values(parts, "network"), values(parts, "batch_size")
    made = Figure(figsize=(12, 2.3 * len(networks) + 2.6), layout="constrained")
    upper, lower = made.subfigures(2, 1, squeeze=False, height_ratios=[2.3 * len(networks), 2.6])[:, 0]
    grid = upper.subplots(len(networks), len(sizes), squeeze=False)
    for row, network in zip(grid, networks, strict=True):
        for axes, size in zip(row, sizes, strict=True):
            _panel(axes, f"{network}, batch size {size}", of(parts, network=network, batch_size=size))
    handles, names = grid[0][0].get_legend_handles_labels()
    unique = dict(zip(names, handles, strict=True))
    upper.legend(unique.values(), unique.keys(), loc="outside upper center", ncols=len(unique), fontsize=8, frameon=False)
    upper.supxlabel("microseconds per step", fontsize=9)
    _speedups(lower.subplots(), compared)
    return made


def _panel(axes: Axes, title: str, records: Records) -> None:
    """Draw the parts of a step as stacked bars, one for each way, in a group for each number of threads."""
    place, ticks = 0.0, {}
    for threads in values(records, "threads"):
        first = place
        for way in WAYS:
            ticks[place] = f"{way}, {_threads(threads)}"
            left, found = 0.0, measured(records, threads=threads, way=way)
            for phase, taken in phases(found).items() if found else ():
                axes.barh(place, taken, left=left, color=COLOURS[phase], label=phase)
                left += taken
            axes.annotate(f" {left:,.0f}" if found else " not measured", (left, place), va="center", fontsize=7)
            place += 1
        if (arithmetic := floor(measured(records, threads=threads))) is not None:
            axes.vlines(arithmetic, first - 0.5, place - 0.5, color="black", linewidth=1, label="the arithmetic alone")
        place += 0.6
    axes.set_yticks(list(ticks), ticks.values(), fontsize=7)
    axes.tick_params("x", labelsize=7)
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def _speedups(axes: Axes, compared: Records) -> None:
    """Draw how many times as fast as the loop by hand `epochal.fit` is: a dot for each pair."""
    for load, colour in zip(values(compared, "load"), (BLUE, GREY), strict=False):
        there = of(compared, load=load)
        names = [f"{record['network']}\n{_threads(record['threads'])}" for record in there]
        for place, record in enumerate(there):
            own = [] if "error" in record else speedups(record)
            shift = 0.1 if load == "quiet" else -0.1
            axes.plot([place - shift] * len(own), own, "o", color=colour, markersize=4, alpha=0.6, label=load if not place else None)
        axes.set_xticks(range(len(names)), names, fontsize=7)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_yscale("log")
    axes.set_yticks(SPEEDS, [f"{speed:g}" for speed in SPEEDS], fontsize=7)
    axes.set_yticks([], minor=True)
    axes.set_title("epochal.fit: times as fast as the best loop by hand, pair by pair (batch size 64)", fontsize=9)
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
