"""Measure how fast `epochal.check` goes through a folder of pictures, beside bare decoding of the same files.

python3 benchmarks/check.py --pictures FOLDER     FOLDER/[train/]CLASS/*.jpg; writes benchmarks/results/check.*
python3 benchmarks/check.py                       the same with pictures of its own making
python3 benchmarks/check.py --quick               few pictures, one round; writes nothing
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import enter
from benchmarks.pictures import make_pictures
from benchmarks.program import count, folder, parser, run_json
from benchmarks.report import Spread, bars, publish, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What is compared, in this order within a round, and the way of `benchmarks.reading` that does it.
WAYS = {"bare decoder, a process for each core": "decoders", "epochal.check, empty cache": "check"}
BARE, CHECK = WAYS


def measure(pictures: Path, rounds: int) -> list[dict[str, Any]]:
    """Go through the folder in both ways by turns, each in a process of its own; return a record of each."""
    # Once before the clock runs, so that files come from memory, not from a disk, for both alike.
    run_json([sys.executable, "-m", "benchmarks.reading", "decoders", str(pictures)], ())
    records = []
    for number in range(1, rounds + 1):
        for name, way in WAYS.items():
            with tempfile.TemporaryDirectory() as cache:
                command = [sys.executable, "-m", "benchmarks.reading", way, str(pictures)]
                result = run_json(command, ("examples", "seconds"), EPOCHAL_CACHE=cache)
            records.append({"way": name, "round": number, **result})
            print(f"round {number}/{rounds}  {name:<40} {result.get('error') or '{:.2f} s'.format(result['seconds'])}", flush=True)
    return records


def summarize(records: list[dict[str, Any]]) -> dict[str, tuple[Spread, Spread, Spread]]:
    """Return for each way its seconds, its pictures per second, and these as a share of the bare decoder's of the same round.

    All are medians with the least and the most over the rounds in which both ran.
    """
    found = {(record["way"], record["round"]): record for record in records if "error" not in record}
    rounds = [number for (way, number) in found if way == BARE and (CHECK, number) in found]
    speed = {key: record["examples"] / record["seconds"] for key, record in found.items()}
    return {
        way: (
            Spread.of([found[way, number]["seconds"] for number in rounds]),
            Spread.of([speed[way, number] for number in rounds]),
            Spread.of([speed[way, number] / speed[BARE, number] for number in rounds]),
        )
        for way in WAYS
        if rounds
    }


def main() -> int:
    """Measure, print and write; return 1 where something did not run."""
    made = parser(__doc__, "check")
    made.add_argument("--pictures", type=folder, help="a folder of pictures in folders by class; 50,000 of 32×32 are made without it")
    made.add_argument("--rounds", type=count, default=3, help="[%(default)s]")
    options = made.parse_args()
    enter("benchmarks.check")
    rounds = 1 if options.quick else options.rounds
    with tempfile.TemporaryDirectory() as place:
        if options.quick or options.pictures is None:
            make_pictures(Path(place), 2_000 if options.quick else 50_000, 32)
        records = measure(Path(place) if options.quick or options.pictures is None else options.pictures, rounds)
    results = summarize(records)
    publish(options, "Checking pictures", report_text(records, results), {"records": records}, figure(results))
    return 1 if any("error" in record for record in records) else 0


def report_text(records: list[dict[str, Any]], results: dict[str, tuple[Spread, Spread, Spread]]) -> str:
    """Return the page of results in Markdown."""
    pictures = next((record["examples"] for record in records if "error" not in record), 0)
    rows = [[way, f"{seconds:.2f}", f"{speed:,.0f}", f"{share:.2f}"] for way, (seconds, speed, share) in results.items()]
    failed = "".join(f"\n{record['way']} did not run: {record['error']}\n" for record in records if "error" in record)
    return (
        f"A folder of {pictures:,} picture files, which the system has in memory; median (least–most) over the rounds.\n\n"
        + table(["way", "seconds", "pictures per second", "× bare decoder"], rows)
        + failed
    )


def figure(results: dict[str, tuple[Spread, Spread, Spread]]) -> Figure:
    """Return bars of pictures per second."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(9, 1.8), layout="constrained")
    speeds = [speed for _, speed, _ in results.values()]
    words = [f"{speed.median:,.0f}" for speed in speeds]
    bars(made.subplots(), "Pictures per second, checked", list(results), speeds, words, ["poch" in name for name in results])
    return made


if __name__ == "__main__":
    sys.exit(main())
