"""Measure how fast packed data come over a network, beside the local cache, WebDataset and LitData on the same pictures.

    python3 benchmarks/remote.py             writes benchmarks/results/remote.*
    python3 benchmarks/remote.py --quick     few pictures, to see that all runs; writes nothing

The network is a web server on this machine that sends 100 MB/s in all, and answers 20 ms late.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import RESULTS, enter, variables
from benchmarks.program import parser, run_json
from benchmarks.report import bars, publish, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATE, LATENCY = 100, 20

# Bytes of a block of Epochal's: see `epochal.data.packing`.
BLOCK = 1 << 16

# Name: the way, and which folder of the data it reads; none: it is not read over the network.
WAYS = {
    "Epochal, local": ("epochal_local", None),
    "Epochal, remote": ("epochal", "/epochal"),
    "WebDataset, remote": ("webdataset", "/tars"),
    "LitData, remote": ("litdata", ""),
}

# The pictures (side, number), and what a step takes of them in a second (MB): all there is, and what a network that is trained does.
SIZES = {"224×224 (150 kB)": (224, 1344), "64×64 (12 kB)": (64, 16000)}
PACES = (0, 50)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder, and yield its URL."""
    command = [sys.executable, "-m", "benchmarks.remote_server", str(folder), str(RATE), str(LATENCY)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables()) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        assert server.stdin is not None
        server.stdin.close()


def measure(way: str, place: str, folder: Path, pace: int, epochs: int, first: int) -> dict[str, Any]:
    """Read by a way, with an empty cache."""
    # LitData goes on only in a cache at the same place.
    cache = folder.parent / "cache"
    try:
        command = [sys.executable, "-m", "benchmarks.remote_run", way, place, str(pace), str(epochs), str(first)]
        return run_json(
            command, ("begun", "rates", "mib"), EPOCHAL_CACHE=str(cache), REMOTE_CACHE=f"{cache}/chunks", REMOTE_FOLDER=str(folder)
        )
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def measured(folder: Path, side: int, number: int) -> dict[str, Any]:
    """Measure all ways at all paces on pictures of one size; "resume" begins in the middle of an epoch."""
    subprocess.run([sys.executable, "-m", "benchmarks.remote_run", "write", folder, str(side), str(number)], check=True, env=variables())
    found: dict[str, Any] = {}
    with served(folder) as url:
        for name, (way, below) in WAYS.items():
            place = str(folder) if below is None else url + below
            found[name] = {str(pace): measure(way, place, folder, pace, 2, 0) for pace in PACES}
            found[name]["resume"] = measure(way, place, folder, 0, 1, number // 128)
            print(name, {key: {**one, "mib": len(one.get("mib", ()))} for key, one in found[name].items()}, flush=True)
    return found


def tables(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table for each size."""
    header = ["", *(f"{'no step' if not pace else f'{pace} MB/s'}: epoch {epoch}" for pace in PACES for epoch in (1, 2))]
    header += ["first batch, s", "first batch in the middle, s", "MiB at first, at most, at last"]
    return "\n".join(
        f"{size}\n\n{_line(size)}\n\n{table(header, [_row(name, one) for name, one in ways.items()])}" for size, ways in found.items()
    )


def most(size: str, pace: int) -> float:
    """Return the most MB/s that Epochal can reach in the first epoch: its order is drawn from all rows, and a row comes with its block.

    After a share f of the epoch, 1 - (1 - f)^n of all blocks of n rows have been wanted: so much must have come over the line, and then
    the rest of the steps follow.
    """
    side, number = SIZES[size]
    row = 3 * side**2
    rows, whole = max(1, BLOCK // row), number * row / 1e6
    step = whole / pace if pace else 0.0
    return whole / max(whole / RATE * (1 - (1 - f) ** rows) + (1 - f) * step for f in (number / 1000 for number in range(1001)))


def _line(size: str) -> str:
    row = 3 * SIZES[size][0] ** 2
    most_first = ", ".join(f"{most(size, pace):.1f} MB/s with {f'steps that take {pace} MB/s' if pace else 'no step'}" for pace in PACES)
    return (
        f"The line: {RATE} MB/s, which are {1e6 * RATE / row:,.0f} examples/s of {row:,} bytes; {PACES[-1]} MB/s are "
        f"{1e6 * PACES[-1] / row:,.0f} examples/s. The most that is possible in the first epoch, in an order drawn from all rows and with "
        f"blocks of {BLOCK >> 10} kB: {most_first}."
    )


def _row(name: str, one: Mapping[str, Any]) -> list[str]:
    errors = [run["error"] for run in one.values() if "error" in run]
    if errors:
        return [name, errors[0], *[""] * 6]
    rates = [f"{rate:,.1f}" for pace in PACES for rate in one[str(pace)]["rates"]]
    mib = one[str(PACES[-1])]["mib"]
    return [name, *rates, f"{one['0']['begun']:.2f}", f"{one['resume']['begun']:.2f}", f"{mib[0]:,.0f}, {max(mib):,.0f}, {mib[-1]:,.0f}"]


def figure(found: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw what steps that take 50 MB/s get in the first epoch, and memory over time."""
    from matplotlib.figure import Figure

    from benchmarks.report import Spread

    made = Figure(figsize=(9, 5), layout="constrained")
    for place, (size, ways) in enumerate(found.items()):
        there = {name: one[str(PACES[-1])] for name, one in ways.items() if "error" not in one[str(PACES[-1])]}
        spreads = [Spread.of(one["rates"][:1]) for one in there.values()]
        words = [f"{spread.median:,.1f}" for spread in spreads]
        bars(
            made.add_subplot(2, 2, 1 + place),
            f"{size}: MB/s, first epoch",
            list(there),
            spreads,
            words,
            ["Epochal" in name for name in there],
        )
        axes = made.add_subplot(2, 2, 3 + place)
        for name, one in there.items():
            axes.plot([0.2 * number for number in range(len(one["mib"]))], one["mib"], label=name)
        axes.set(title="MiB over seconds", ylim=(0, None))
        axes.title.set_size(10)
        axes.legend(fontsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    return made


def main() -> int:
    """Measure, print and write; return 1 where a way failed."""
    made = parser(__doc__, "remote")
    made.add_argument("--side", type=int, choices=[side for side, _ in SIZES.values()], help="only pictures of so many pixels; others stay")
    options = made.parse_args()
    enter("benchmarks.remote")
    before = RESULTS / f"{options.name}.json"
    found: dict[str, Any] = json.loads(before.read_text("utf-8"))["ways"] if options.side and before.exists() else {}
    for size, (side, number) in SIZES.items():
        if options.side not in (None, side):
            continue
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            found[size] = measured(Path(folder, "data"), side, number // 10 if options.quick else number)
    publish(options, "Packed data over a network", tables(found), {"line": {"MB/s": RATE, "ms": LATENCY}, "ways": found}, figure(found))
    return int(any("error" in run for ways in found.values() for one in ways.values() for run in one.values()))


if __name__ == "__main__":
    sys.exit(main())
