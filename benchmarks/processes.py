"""Measure two processes that train one small network, beside one process, and beside Lightning, Accelerate and PyTorch by hand.

    python3 benchmarks/processes.py             writes benchmarks/results/processes.*
    python3 benchmarks/processes.py --quick     one round of few epochs, to see that all runs; writes nothing

Each has two cores: two processes with a thread each, or one with two. The validation data are 10,001 examples, which two processes cannot
share evenly: whoever pads them counts one twice.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import enter
from benchmarks.program import count, parser, run_json, torchrun
from benchmarks.report import Spread, bars, publish, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Name: the way, processes, threads of each, further environment.
JOBS: dict[str, tuple[str, int, int]] = {
    "Epochal, 1 process × 2 threads": ("epochal", 1, 2),
    "Epochal, 1 process × 1 thread": ("epochal", 1, 1),
    "Epochal, 2 processes": ("epochal", 2, 1),
    "PyTorch by hand, 2 processes": ("by_hand", 2, 1),
    "Lightning, 2 processes": ("lightning", 2, 1),
    "Accelerate, 2 processes": ("accelerate", 2, 1),
}


def measure(way: str, processes: int, threads: int, epochs: int) -> dict[str, Any]:
    """Run a job, and return what it says."""
    python = torchrun(processes) if processes > 1 else [sys.executable]
    command = [*python, "-m", "benchmarks.processes_run", way, str(epochs), str(threads)]
    return run_json(command, ("rate", "accuracy", "counted"), OMP_NUM_THREADS=str(threads))


def tables(found: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    """Return the table."""
    rows = []
    for name, rounds in found.items():
        good = [one for one in rounds if "error" not in one]
        if not good:
            rows.append([name, rounds[0]["error"] if rounds else "", "", ""])
            continue
        rate = Spread.of([one["rate"] for one in good])
        rows.append([name, f"{rate.median:,.0f}", f"{100 * good[-1]['accuracy']:.3f} %", f"{good[-1]['counted']:,}"])
    return table(["", "examples/s, median", "validation accuracy that is reported", "examples that it counts"], rows)


def figure(found: Mapping[str, Sequence[dict[str, Any]]]) -> Figure:
    """Draw the rates."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(8, 3), layout="constrained")
    there = {name: [one["rate"] for one in rounds if "error" not in one] for name, rounds in found.items()}
    there = {name: rates for name, rates in there.items() if rates}
    spreads = [Spread.of(rates) for rates in there.values()]
    names = list(there)
    words = [f"{spread.median:,.0f}" for spread in spreads]
    bars(made.subplots(), "examples/s", names, spreads, words, [name.startswith("Epochal") for name in names])
    return made


def main() -> int:
    """Measure, print and write; return 1 where a job failed."""
    made = parser(__doc__, "processes")
    made.add_argument("--rounds", type=count, default=3, help="[%(default)s]")
    options = made.parse_args()
    enter("benchmarks.processes")
    epochs, rounds = (2, 1) if options.quick else (6, options.rounds)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in JOBS}
    for number in range(rounds):
        for name, job in JOBS.items():
            found[name].append(measure(*job, epochs))
            print(f"round {number + 1}: {name}: {found[name][-1]}", flush=True)
    publish(options, "Several processes", tables(found), {"jobs": found}, figure(found))
    return int(any("error" in one for rounds in found.values() for one in rounds))


if __name__ == "__main__":
    sys.exit(main())
