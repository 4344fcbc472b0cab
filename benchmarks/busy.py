"""Measure what other programs on the same cores cost: steps of training, and the whole command, beside none, one and two busy processes.

    python3 benchmarks/busy.py             writes benchmarks/results/busy.*
    python3 benchmarks/busy.py --quick     one round of few steps, to see that all runs; writes nothing

A busy process is a loop in Python that does nothing. It is there from before the program starts to its end, or comes when half of the
steps are made. `--before FOLDER` also measures another checkout of Epochal on the
quiet machine.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import enter, variables
from benchmarks.program import count, folder, parser
from benchmarks.report import Spread, bars, publish, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Steps of each; those that slow down most make fewer.
WAYS = {
    "before": ("Epochal, the other checkout", 400),
    "plain": ("PyTorch by hand", 40),
    "lightning": ("Lightning", 40),
    "skorch": ("skorch", 40),
    "threads": ("Epochal, --threads given", 400),
    "epochal": ("Epochal", 400),
}
# When busy processes come, and how many.
LOADS = {
    "quiet": ("", 0),
    "1 busy": ("start", 1),
    "2 busy": ("start", 2),
    "1 busy midway": ("half", 1),
    "2 busy midway": ("half", 2),
}
LOADS_OF_COMMAND = ("quiet", "1 busy", "2 busy")


class Load:
    """Busy processes that come when they are called."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.running: list[subprocess.Popen[bytes]] = []

    def begin(self) -> None:
        """Start them."""
        self.running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(self.number)]

    def end(self) -> None:
        """Stop them."""
        for process in self.running:
            process.kill()
            process.wait()


@contextmanager
def loaded(when: str, number: int) -> Iterator[Load]:
    """Yield a load that has begun, if `when` says "start", and ends with the block."""
    load = Load(number)
    try:
        if when == "start":
            load.begin()
            time.sleep(0.5)
        yield load
    finally:
        load.end()


def steps(way: str, number: int, load: str, before: Path | None) -> dict[str, Any]:
    """Let a program make so many steps under a load. Return `ms`, of a step of all or, where the load came midway, of the second half.

    What was measured on this machine at other times is not known to it.
    """
    when, busy = LOADS[load]
    environment = variables()
    if way == "before":
        environment["PYTHONPATH"] = os.pathsep.join([str(before / "src"), environment["PYTHONPATH"]]) if before else ""
    name = "epochal" if way == "before" else way
    with loaded(when, busy) as other, tempfile.TemporaryFile("w+") as errors, tempfile.TemporaryDirectory() as cache:
        environment["EPOCHAL_CACHE"] = cache
        command = [sys.executable, "-m", "benchmarks.busy_steps", name, str(number)]
        program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        assert program.stdout is not None
        last = ""
        for line in program.stdout:
            if line == "half\n" and when == "half":
                other.begin()
            last = line.strip() or last
        if program.wait():
            errors.seek(0)
            return {"error": (errors.read().strip().splitlines() or ["?"])[-1]}
    first, second = json.loads(last)["seconds"]
    return {"ms": 1000 * (second / (number - number // 2) if when == "half" else (first + second) / number)}


def command(load: str, before: Path | None = None) -> dict[str, Any]:
    """Return the `seconds` of `epochal train digits` under a load, from before Python starts to the end."""
    place = Path(tempfile.mkdtemp())
    environment = variables() | {"EPOCHAL_CACHE": str(place / "cache")}
    if before is not None:
        environment["PYTHONPATH"] = str(before / "src")
    try:
        with loaded(*LOADS[load]):
            begun = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "epochal", "train", "digits", "--out", "run"], cwd=place, env=environment, capture_output=True
            )
            taken = time.perf_counter() - begun
        return {"seconds": taken} if done.returncode == 0 else {"error": done.stderr.decode().strip().splitlines()[-1]}
    finally:
        shutil.rmtree(place)


def measure(options: Any, records: list[dict[str, Any]]) -> None:
    """Run all, one after the other, in each round again; add a record of each run."""
    ways = [way for way in WAYS if way != "before" or options.before]
    for number in range(1, options.rounds + 1):
        for load in LOADS:
            for way in ways:
                # The other checkout is there to see that nothing is lost on a quiet machine.
                if way == "before" and load != "quiet":
                    continue
                made = 20 if options.quick else WAYS[way][1]
                records.append({"round": number, "load": load, "way": way, **steps(way, made, load, options.before)})
                print(f"round {number}/{options.rounds}  {load:<14} {way:<10} {_brief(records[-1])}", flush=True)
        for load in LOADS_OF_COMMAND:
            for way in ("before", "epochal") if options.before and load == "quiet" else ("epochal",):
                result = command(load, options.before if way == "before" else None)
                records.append({"round": number, "load": load, "way": f"{way} train digits", **result})
                print(f"round {number}/{options.rounds}  {load:<14} {way} train digits  {_brief(records[-1])}", flush=True)


def _brief(record: dict[str, Any]) -> str:
    return str(record["error"]) if "error" in record else f"{record['ms']:.2f} ms" if "ms" in record else f"{record['seconds']:.2f} s"


def spreads(records: Sequence[dict[str, Any]], way: str, key: str) -> dict[str, tuple[Spread, Spread]]:
    """Return for each load the time, and the times that it is of the quiet time of the same round."""
    found = {}
    quiet = {record["round"]: record[key] for record in records if record["way"] == way and record["load"] == "quiet" and key in record}
    for load in LOADS:
        there = [record for record in records if record["way"] == way and record["load"] == load and key in record]
        if there and quiet:
            ratios = [record[key] / quiet[record["round"]] for record in there]
            found[load] = Spread.of([record[key] for record in there]), Spread.of(ratios)
    return found


def tables(records: Sequence[dict[str, Any]]) -> str:
    """Return the Markdown of all that was measured."""
    per_step = []
    for way, (title, _) in WAYS.items():
        if found := spreads(records, way, "ms"):
            cells = {load: f"{ms:.2f}" + (f", ×{ratio:.1f}" if load != "quiet" else "") for load, (ms, ratio) in found.items()}
            per_step.append([title, *(cells.get(load, "–") for load in LOADS)])
    commands = {way: spreads(records, f"{way} train digits", "seconds") for way in ("before", "epochal")}
    whole = [
        [WAYS[way][0], *(f"{found[load][0]:.1f}" if load in found else "–" for load in LOADS_OF_COMMAND)]
        for way, found in commands.items()
        if found
    ]
    return (
        "Milliseconds per step (conv on 28×28, batch 64), and how many times the quiet time of the same round; median (least–most).\n\n"
        + table(["", *LOADS], per_step)
        + "\nSeconds of `epochal train digits`, from typing to the end.\n\n"
        + table(["", *LOADS_OF_COMMAND], whole)
    )


def figure(records: Sequence[dict[str, Any]]) -> Figure:
    """Return the ratios of each load as bars."""
    from matplotlib.figure import Figure

    loads = [load for load in LOADS if load != "quiet"]
    made = Figure(figsize=(10, 3), layout="constrained")
    for axes, load in zip(made.subplots(1, len(loads), sharey=True), loads, strict=True):
        found = {way: spreads(records, way, "ms") for way in WAYS}
        there = {way: loads_of[load][1] for way, loads_of in found.items() if load in loads_of}
        words = [f"{ratio.median:.1f}×" for ratio in there.values()]
        bars(axes, load, [WAYS[way][0] for way in there], list(there.values()), words, [way in ("epochal", "threads") for way in there])
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xticks([0, 1, 2, 5, 10, 20, 50, 100], ["0", "1", "2", "5", "10", "20", "50", "100"], fontsize=7)
        axes.set_xticks([], minor=True)
        axes.set_xlim(0, 2 * max((ratio.high for ratio in there.values()), default=1.0))
        axes.axvline(1, color="black", linewidth=0.8)
    return made


def main() -> int:
    """Measure, print and write; return 1 where a program did not run."""
    made = parser(__doc__, "busy")
    made.add_argument("--rounds", type=count, default=5, help="[%(default)s]")
    made.add_argument("--before", type=folder, metavar="FOLDER", help="another checkout, to be measured too")
    options = made.parse_args()
    enter("benchmarks.busy")
    if options.quick:
        options.rounds = 1
    records: list[dict[str, Any]] = []
    with suppress(KeyboardInterrupt):  # What was measured until then is reported.
        measure(options, records)
    publish(options, "Beside busy programs", tables(records), {"records": records}, figure(records))
    bad = sorted({f"{record['way']}: {record['error']}" for record in records if "error" in record})
    if bad:
        print("\n".join(["These did not run:", *bad]), file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
