"""Measure where the time of a training step goes, in four ways of making it, and `epochal.fit` beside the best loop by hand.

    python3 benchmarks/engine.py             writes benchmarks/results/engine.*
    python3 benchmarks/engine.py --busy      also compares the loops beside one busy process
    python3 benchmarks/engine.py --quick     smaller, to see that all runs; writes nothing

The ways are Epochal's plain step, its traced step, the same operations in TorchScript, and `torch.compile`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.busy import loaded
from benchmarks.engine_report import figure, report_text
from benchmarks.environment import enter, variables
from benchmarks.networks import BATCH_SIZES, COUNT, NETWORKS, WAYS
from benchmarks.program import count, parser, run_json
from benchmarks.report import publish

THREADS = (1, 2)


class Worker:
    """A process of its own for each way: what one does to the process, such as a second OpenMP, does not slow the others."""

    def __init__(self, way: str, threads: int, place: Path) -> None:
        # Nothing compiled is found from before; one process compiles, so that none is left idling.
        compiler = {"TORCHINDUCTOR_CACHE_DIR": str(place), "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        self.errors = (place / f"{way}-{threads}.txt").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.anatomy", way, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**variables(), **compiler},
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Return the report on one epoch; see `anatomy.py`."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            print(json.dumps(request), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            return {"error": (self.errors.read().strip().splitlines() or ["it ended"])[-1]}
        report: dict[str, Any] = json.loads(line)
        return report

    def end(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()
        self.errors.close()


@contextmanager
def workers(threads: int) -> Iterator[Callable[[str], Worker]]:
    """Yield for the block a function that returns the worker of a way."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        @cache
        def worker(way: str) -> Worker:
            made = Worker(way, threads, place)
            stack.callback(made.end)
            return made

        yield worker


def anatomy(rounds: int, numbers: Sequence[int], *, quick: bool) -> list[dict[str, Any]]:
    """Return a record for each round, number of threads, network, batch size and way; ways take turns."""
    first = (next(iter(NETWORKS)), BATCH_SIZES[0])
    records: list[dict[str, Any]] = []
    for threads in numbers:
        with workers(threads) as worker:
            cases = [(number, network, size) for number in range(1, rounds + 1) for network in NETWORKS for size in BATCH_SIZES]
            for place, (number, network, size) in enumerate(cases):
                for way in WAYS if place % 2 else reversed(WAYS):
                    # Compiling takes ten seconds each.
                    if quick and way == "compiled" and (network, size) != first:
                        continue
                    report = worker(way).ask(network=network, batch_size=size, count=8 * size if quick else COUNT)
                    case = {"round": number, "threads": threads, "network": network, "batch_size": size, "way": way}
                    records.append({**case, **report})
                    words = report.get("error") or f"{report['whole']:,.0f} µs"
                    print(f"round {number}/{rounds}  threads {threads}  {network:<14} {size:>3}  {way:<12} {words}", flush=True)
    return records


def loops(steps: int, pairs: int, numbers: Sequence[int], *, busy: bool) -> list[dict[str, Any]]:
    """Return a record for each load, number of threads and network: the seconds of `epochal.fit` and of the loop by hand."""
    records = []
    for load in ("quiet", "1 busy") if busy else ("quiet",):
        for threads in numbers:
            command = [sys.executable, "-m", "benchmarks.by_hand", *map(str, (threads, steps, pairs))]
            with loaded("start", 1) if load == "1 busy" else nullcontext():
                result = run_json(command, ["networks"])
            for network, report in result.get("networks", dict.fromkeys(NETWORKS, result)).items():
                records.append({"load": load, "threads": threads, "network": network, "steps": steps, **report})
                words = report.get("error") or f"fit {_middle(report['fit'], steps)}, by hand {_middle(report['hand'], steps)}"
                print(f"{load:<7} threads {threads}  {network:<14} {words}", flush=True)
    return records


def _middle(seconds: Sequence[float], steps: int) -> str:
    return f"{1e6 * sorted(seconds)[len(seconds) // 2] / steps:,.0f} µs"


def failures(parts: Sequence[dict[str, Any]], compared: Sequence[dict[str, Any]]) -> list[str]:
    """Return what must not be: Epochal's ways do not run, or end with other weights."""
    plain = {_case(record): record.get("weights") for record in parts if record["way"] == "plain"}
    own = [record for record in parts if record["way"] in ("plain", "traced")]
    return [
        *(
            f"{record['network']}, batch size {record['batch_size']}, {record['way']}: {record.get('error', 'other weights')}"
            for record in own
            if "error" in record or record["weights"] != plain[_case(record)]
        ),
        *(f"{record['network']}, epochal.fit: {record.get('error', 'other weights')}" for record in compared if not record.get("equal")),
    ]


def _case(record: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(record[name] for name in ("threads", "network", "batch_size"))


def main() -> int:
    """Measure, print and write; return 1 where weights differ."""
    made = parser(__doc__, "engine")
    made.add_argument("--rounds", type=count, default=5, help="of the anatomy [%(default)s]")
    made.add_argument("--pairs", type=count, default=11, help="of epochal.fit and the loop by hand [%(default)s]")
    made.add_argument("--steps", type=count, default=500, help="in each of a pair [%(default)s]")
    made.add_argument("--busy", action="store_true", help="compare the loops beside one busy process, too")
    options = made.parse_args()
    enter("benchmarks.engine")
    numbers: Sequence[int] = THREADS
    if options.quick:
        options.rounds, options.pairs, options.steps, numbers = 1, 1, 8, THREADS[-1:]
    if (os.cpu_count() or 1) < max(numbers):
        print("note: this machine has fewer cores than threads are measured", file=sys.stderr)
    parts = anatomy(options.rounds, numbers, quick=options.quick)
    compared = loops(options.steps, options.pairs, numbers, busy=options.busy)
    bad = failures(parts, compared)
    publish(
        options,
        "The anatomy of a step",
        report_text(parts, compared, bad),
        {"examples": COUNT, "anatomy": parts, "loops": compared, "failures": bad},
        figure(parts, compared),
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
