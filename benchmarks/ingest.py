"""Measure how fast pictures come in: a folder of files to memory, once and again; then as augmented batches.

python3 benchmarks/ingest.py --pictures FOLDER     FOLDER/[train/]CLASS/*.jpg; writes benchmarks/results/ingest.*
python3 benchmarks/ingest.py                       the same with pictures of its own making
python3 benchmarks/ingest.py --quick               few pictures, one round; writes nothing
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import enter
from benchmarks.feeding import feed_speeds
from benchmarks.pictures import make_pictures
from benchmarks.program import count, folder, parser, run_json
from benchmarks.report import Spread, bars, publish, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What is compared, in this order within a round, and the way of `benchmarks.reading` that does it.
WAYS = {
    "bare decoder, one thread": "decoder",
    "bare decoder, a process for each core": "decoders",
    "epochal.load, empty cache": "epochal",
    "epochal.load, again": "epochal",
    "torchvision ImageFolder, DataLoader with 2 workers": "torchvision",
}
BARE = next(iter(WAYS))


def measure(files: Path, rounds: int, ways: Mapping[str, str] = WAYS) -> list[dict[str, Any]]:
    """Read the folder in all ways, a process for each, again in each round with an empty cache; return a record of each."""
    # Once before the clock runs, so that files come from memory, not from a disk, for all alike.
    run_json([sys.executable, "-m", "benchmarks.reading", next(iter(ways.values())), str(files)], ())
    records = []
    for number in range(1, rounds + 1):
        with tempfile.TemporaryDirectory() as cache:
            for name, way in ways.items():
                command = [sys.executable, "-m", "benchmarks.reading", way, str(files)]
                result = run_json(command, ("examples", "seconds"), EPOCHAL_CACHE=cache)
                records.append({"way": name, "round": number, **result})
                print(f"round {number}/{rounds}  {name:<52} {result.get('error') or '{:.2f} s'.format(result['seconds'])}", flush=True)
    return records


def summarize(records: list[dict[str, Any]], cores: int, ways: Mapping[str, str] = WAYS) -> dict[str, tuple[Spread, Spread, Spread] | str]:
    """Return for each way its seconds, its files per second, and these as a share of the first way's of the same round × `cores`.

    Where it did not run, return the reason. All are medians with the least and the most over the rounds.
    """
    found: dict[str, tuple[Spread, Spread, Spread] | str] = {}
    bare = {record["round"]: _speed(record) for record in records if record["way"] == next(iter(ways)) and "error" not in record}
    for name in ways:
        own = [record for record in records if record["way"] == name]
        error = next((record["error"] for record in own if "error" in record), "")
        if error or not own or not bare:
            found[name] = error or "it was not measured"
            continue
        shares = [_speed(record) / (cores * bare[record["round"]]) for record in own]
        found[name] = Spread.of([record["seconds"] for record in own]), Spread.of([_speed(record) for record in own]), Spread.of(shares)
    return found


def _speed(record: dict[str, Any]) -> float:
    return float(record["examples"] / record["seconds"])


def main() -> int:
    """Measure, print and write; return 1 where something did not run."""
    made = parser(__doc__, "ingest")
    made.add_argument("--pictures", type=folder, help="a folder of pictures in folders by class; 50,000 of 32×32 are made without it")
    made.add_argument("--rounds", type=count, default=3, help="[%(default)s]")
    options = made.parse_args()
    enter("benchmarks.ingest")
    rounds, cores = 1 if options.quick else options.rounds, os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as place:
        if options.quick or options.pictures is None:
            make_pictures(Path(place), 2_000 if options.quick else 50_000, 32)
            records = measure(Path(place), rounds)
        else:
            records = measure(options.pictures, rounds)
    read = summarize(records, cores)
    fed = {name: Spread.of(speeds) for name, speeds in feed_speeds(2_000 if options.quick else 50_000, rounds).items()}
    publish(
        options, "Reading pictures", report_text(records, read, fed, cores), {"records": records, "feed": _plain(fed)}, figure(read, fed)
    )
    return 1 if any("error" in record for record in records) else 0


def report_text(records: list[dict[str, Any]], read: dict[str, Any], fed: dict[str, Spread], cores: int) -> str:
    """Return the page of results in Markdown."""
    rows = []
    for name, result in read.items():
        if isinstance(result, str):
            rows.append([name, f"did not run: {result}", "", ""])
        else:
            rows.append([name, f"{result[0]:.2f}", f"{result[1]:,.0f}", f"{result[2]:.2f}"])
    pictures = next((record["examples"] for record in records if "error" not in record), 0)
    return (
        f"A folder of {pictures:,} picture files, which the system has in memory; median (least–most) over the rounds.\n\n"
        + table(["way", "seconds", "pictures per second", f"× (bare decoder × {cores} cores)"], rows)
        + "\nPictures of 32×32 in memory as training batches: cropped (4 pixels), flipped, normalized.\n\n"
        + table(["way", "pictures per second"], [[name, f"{speed:,.0f}"] for name, speed in fed.items()])
    )


def figure(read: dict[str, Any], fed: dict[str, Spread]) -> Figure:
    """Return bars of pictures per second, of reading and of feeding; reading again, which decodes nothing, has no bar."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(9, 4), layout="constrained")
    once = {name: result[1] for name, result in read.items() if not isinstance(result, str) and name != "epochal.load, again"}
    panels = made.subplots(2, 1, height_ratios=[4, 3])
    titles = ("Pictures per second, folder to memory", "Pictures per second, memory to augmented batches")
    for axes, title, speeds in zip(panels, titles, (once, fed), strict=True):
        words = [f"{speed.median:,.0f}" for speed in speeds.values()]
        bars(axes, title, list(speeds), list(speeds.values()), words, ["poch" in name for name in speeds])
    return made


def _plain(fed: dict[str, Spread]) -> dict[str, dict[str, float]]:
    return {name: vars(speed) for name, speed in fed.items()}


if __name__ == "__main__":
    sys.exit(main())
