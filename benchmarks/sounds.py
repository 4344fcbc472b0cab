"""Measure how fast a folder of plain WAV files comes into memory, beside bare reading by soundfile.

python3 benchmarks/sounds.py --sounds FOLDER     FOLDER/[train/]CLASS/*.wav; writes benchmarks/results/sounds.*
python3 benchmarks/sounds.py                     the same with 2,700 sounds of its own making
python3 benchmarks/sounds.py --quick             few sounds, one round; writes nothing
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import wave
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import enter
from benchmarks.ingest import measure, summarize
from benchmarks.program import count, folder, parser
from benchmarks.report import bars, publish, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What is compared, in this order within a round, and the way of `benchmarks.reading` that does it.
WAYS = {
    "soundfile, one thread": "soundfile",
    "soundfile, a thread for each core": "soundfile_threads",
    "soundfile, a process for each core": "soundfile_processes",
    "epochal.load, empty cache": "epochal",
}


def main() -> int:
    """Measure, print and write; return 1 where something did not run."""
    made = parser(__doc__, "sounds")
    made.add_argument("--sounds", type=folder, help="a folder of WAV files in folders by class; 2,700 of 0.4 s are made without it")
    made.add_argument("--rounds", type=count, default=7, help="[%(default)s]")
    options = made.parse_args()
    enter("benchmarks.sounds")
    rounds, cores = 1 if options.quick else options.rounds, os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as place:
        if options.quick or options.sounds is None:
            make_sounds(Path(place), 200 if options.quick else 2_700)
        records = measure(Path(place) if options.quick or options.sounds is None else options.sounds, rounds, WAYS)
    results = summarize(records, cores, WAYS)
    publish(options, "Reading sounds", report_text(records, results, cores), {"records": records}, figure(results))
    return 1 if any("error" in record for record in records) else 0


def make_sounds(place: Path, number: int) -> None:
    """Write WAV files of noise into ten folders: 16 bits, 8,000 samples per second, 0.3 to 0.6 s."""
    chance = random.Random(0)
    for index in range(number):
        file = place / str(index % 10) / f"{index}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(file), "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(8000)
            sound.writeframes(chance.randbytes(2 * chance.randint(2400, 4800)))


def report_text(records: list[dict[str, Any]], results: dict[str, Any], cores: int) -> str:
    """Return the page of results in Markdown."""
    rows = [
        [name, f"did not run: {found}", "", ""]
        if isinstance(found, str)
        else [name, f"{found[0]:.3f}", f"{found[1]:,.0f}", f"{found[2]:.2f}"]
        for name, found in results.items()
    ]
    number = next((record["examples"] for record in records if "error" not in record), 0)
    return f"A folder of {number:,} WAV files, which the system has in memory; median (least–most) over the rounds.\n\n" + table(
        ["way", "seconds", "files per second", f"× (soundfile, one thread × {cores} cores)"], rows
    )


def figure(results: dict[str, Any]) -> Figure:
    """Return bars of files per second."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(9, 2.4), layout="constrained")
    speeds = {name: found[1] for name, found in results.items() if not isinstance(found, str)}
    words = [f"{speed.median:,.0f}" for speed in speeds.values()]
    bars(
        made.subplots(),
        "WAV files per second, folder to memory",
        list(speeds),
        list(speeds.values()),
        words,
        ["poch" in name for name in speeds],
    )
    return made


if __name__ == "__main__":
    sys.exit(main())
