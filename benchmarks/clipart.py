"""Clip art, learned from few pictures: from scratch beside the pre-trained model that `epochal train` takes by itself.

apt-get download openclipart-png && dpkg-deb -x openclipart-png_*.deb clipart       Debian's package, 131 MB; nothing is installed
python3 benchmarks/clipart.py --pictures clipart/usr/share/openclipart/png           writes benchmarks/results/clipart.*
python3 benchmarks/clipart.py --pictures ... --quick                                 one draw of 5 pictures a class; writes nothing
"""

from __future__ import annotations

import math
import os
import random
import struct
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import enter
from benchmarks.program import count, folder, parser
from benchmarks.report import BLUE, Mean, Spread, publish, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The folders of the package that are classes; of each, so many pictures are for the test, and at most so many more to learn from.
CLASSES = ("animals", "buildings", "food", "people", "plants", "tools", "transportation")
TESTED = 25
LABELS = (5, 10, 20, 40)

MOST_PIXELS = 2_000_000

# What `epochal.train(FOLDER)` is given.
WAYS: dict[str, dict[str, Any]] = {
    "pre-trained: as it comes": {},
    "from scratch: --model conv": {"model": "conv"},
    "from scratch, 100 epochs of changed pictures": {"model": "conv", "epochs": 100, "flip": True, "shift": 4, "smoothing": 0.1},
}
COLOURS = dict(zip(WAYS, (BLUE, "#D55E00", "#707070"), strict=True))

Records = Sequence[dict[str, Any]]


def list_pictures(root: Path) -> dict[str, list[Path]]:
    """Return the pictures below the folder of each class, in alphabetical order, but for huge ones, whose decoding would be timed."""
    found = {}
    for name in CLASSES:
        found[name] = [file for file in sorted((root / name).rglob("*.png")) if math.prod(size_of(file)) <= MOST_PIXELS]
    return found


def size_of(file: Path) -> tuple[int, int]:
    """Return width and height from the header of a PNG file."""
    with file.open("rb") as opened:
        return struct.unpack(">II", opened.read(24)[16:])


def link(pictures: Mapping[str, Sequence[Path]], labels: int, draw: int, place: Path) -> Path:
    """Make place/data/train/CLASS and place/data/test/CLASS with links to a draw of the pictures; fewer labels are a part of more."""
    for name, files in pictures.items():
        drawn = random.Random(f"{draw} {name}").sample(files, len(files))[: TESTED + labels]
        for split, some in (("test", drawn[:TESTED]), ("train", drawn[TESTED:])):
            target = place / "data" / split / name
            target.mkdir(parents=True)
            for number, file in enumerate(some):
                (target / f"{number}.png").symlink_to(file)
    return place / "data"


def measure(way: str, pictures: Mapping[str, Sequence[Path]], labels: int, draw: int, place: Path) -> dict[str, Any]:
    """Train on a draw, with an empty cache; return the accuracy on test pictures, and the seconds from the folder to that."""
    import epochal

    os.environ["EPOCHAL_CACHE"] = str(place / "cache")
    data = link(pictures, labels, draw, place)
    began = time.perf_counter()
    run = epochal.train(data, **WAYS[way], device="cpu", quiet=True)
    seconds = time.perf_counter() - began
    assert run.test is not None
    return {"accuracy": run.test.scores.accuracy, "model": run.recipe.model.name, "seconds": seconds}


def main() -> int:
    """Measure, print and write."""
    made = parser(__doc__, "clipart")
    made.add_argument("--pictures", type=folder, required=True, help="usr/share/openclipart/png of the unpacked package openclipart-png")
    made.add_argument("--draws", type=count, default=5, help="of pictures [%(default)s]")
    options = made.parse_args()
    enter("benchmarks.clipart")
    pictures = list_pictures(options.pictures)
    if missing := [name for name, files in pictures.items() if len(files) < TESTED + LABELS[-1]]:
        made.error(f"{options.pictures} has too few pictures in {', '.join(missing)}")
    records = []
    for draw in range(1 if options.quick else options.draws):
        for labels in LABELS[:1] if options.quick else LABELS:
            for way in WAYS:
                with tempfile.TemporaryDirectory() as place:
                    record = {"way": way, "labels": labels, "draw": draw, **measure(way, pictures, labels, draw, Path(place))}
                records.append(record)
                numbers = f"{100 * record['accuracy']:.1f} %, {record['seconds']:.1f} s, {record['model']}"
                print(f"draw {draw}  {labels:>2} per class  {way:<46} {numbers}", flush=True)
    publish(options, "Clip art", report_text(records), {"records": records}, figure(records))
    return 0


def by_way(records: Records) -> dict[str, dict[int, list[dict[str, Any]]]]:
    """Return records by way, and then by labels for each class."""
    found: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for record in records:
        found.setdefault(record["way"], {}).setdefault(record["labels"], []).append(record)
    return found


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean of some numbers, and how far its 95 % interval reaches to either side (Student's t); 0 for a single one."""
    from scipy.stats import t

    mean = Mean.of(values)
    return mean.mean, 0.0 if mean.std is None else float(t.ppf(0.975, len(values) - 1)) * mean.std / math.sqrt(len(values))


def report_text(records: Records) -> str:
    """Return the page of results in Markdown."""
    rows = []
    for way, sizes in by_way(records).items():
        for labels, runs in sizes.items():
            mean, reach = interval([100 * run["accuracy"] for run in runs])
            seconds = Spread.of([run["seconds"] for run in runs])
            rows.append([way, str(labels), f"{mean:.1f} ± {reach:.1f} %", f"{seconds:.1f}"])
    text = f"{len(CLASSES)} classes, {TESTED} test pictures of each; mean accuracy over draws with its 95 % interval; seconds from "
    text += "the folder to the score, with an empty cache, median (least–most).\n\n"
    return text + table(("epochal train FOLDER", "labels per class", "accuracy", "seconds"), rows)


def figure(records: Records) -> Figure:
    """Return accuracy by labels for each class, with intervals, and the seconds of the largest number of labels."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator, PercentFormatter

    made = Figure(figsize=(7, 4), layout="constrained")
    axes = made.subplots()
    for place, (way, sizes) in enumerate(by_way(records).items()):
        found = [interval([100 * run["accuracy"] for run in runs]) for runs in sizes.values()]
        seconds = Spread.of([run["seconds"] for run in sizes[max(sizes)]]).median
        means, reaches = [mean for mean, _ in found], [reach for _, reach in found]
        # Side by side, so that intervals do not cover each other.
        shown = [labels * 1.03 ** (place - 1) for labels in sizes]
        axes.errorbar(shown, means, reaches, fmt="o-", color=COLOURS[way], capsize=3, label=f"{way}, {seconds:.0f} s")
        for labels, mean in zip(shown, means, strict=True):
            below = (7, -11) if place == 1 else (7, 5)
            axes.annotate(f"{mean:.0f} %", (labels, mean), below, textcoords="offset points", fontsize=8, color=COLOURS[way])
    drawn = sorted({record["labels"] for record in records})
    chance = 100 / len(CLASSES)
    axes.axhline(chance, color="black", linewidth=0.8, linestyle=":")
    axes.annotate("guessing", (drawn[-1], chance), (0, -11), textcoords="offset points", fontsize=8, ha="right")
    axes.set(xscale="log", xlabel=f"labels per class (seconds: with {drawn[-1]})", ylim=(0, 100))
    axes.set_title(f"Clip art in {len(CLASSES)} classes: test accuracy, mean and 95 % interval over draws", fontsize=10)
    axes.set_xticks(drawn, [str(labels) for labels in drawn])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(PercentFormatter(symbol=" %"))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    return made


if __name__ == "__main__":
    sys.exit(main())
