"""A pre-trained network for pictures with 5, 50 and 200 of CIFAR-10 per class: its head, all of it, and networks that begin with nothing.

python3 benchmarks/transfer.py --pictures PICTURES        writes benchmarks/results/transfer.*
python3 benchmarks/transfer.py --quick --pictures PICTURES    one draw of 5 per class; writes nothing

PICTURES is CIFAR-10 as train/CLASS/*.jpg and test/CLASS/*.jpg. All test pictures are scored. With --work, runs are kept in that folder, and
those that are there from before are not made again.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import enter
from benchmarks.program import count, folder, parser, run_json
from benchmarks.report import Mean, Spread, bars, publish, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODEL = ("--model", "efficientnet-lite0", "--tune")
# What is typed after `epochal train PICTURES`, and with how many labels for each class it is measured.
WAYS: dict[str, tuple[Sequence[str], Sequence[int]]] = {
    "from scratch": (("--model", "conv"), (5, 50, 200)),
    "head": ((*MODEL, "head"), (5, 50, 200)),
    "all": ((*MODEL, "all"), (200,)),
}
REGRESSION = "logistic regression on the head's features"

Records = Sequence[dict[str, Any]]


def main() -> int:
    """Measure, print and write; return 1 where something did not run."""
    made = parser(__doc__, "transfer")
    made.add_argument("--pictures", type=folder, required=True, help="CIFAR-10 as a folder of pictures")
    made.add_argument("--draws", type=count, default=5, help="of the labels [%(default)s]")
    made.add_argument("--work", type=Path, help="keep runs in this folder, and use those that are there")
    options = made.parse_args()
    enter("benchmarks.transfer")
    records = []
    with tempfile.TemporaryDirectory() as place:
        work = (options.work or Path(place)).resolve()
        for labels, draw in [(5, 0)] if options.quick else [(labels, draw) for labels in (5, 50, 200) for draw in range(options.draws)]:
            data = draw_pictures(options.pictures, work / f"pictures-{labels}-{draw}", labels, draw)
            for way, (arguments, measured) in WAYS.items():
                if labels not in measured:
                    continue
                found = train(data, work / f"{way.replace(' ', '-')}-{labels}-{draw}", [*arguments, "--seed", str(draw)])
                records.append({"way": way, "labels": labels, "draw": draw, **found})
                if way == "head" and "error" not in found:
                    command = [sys.executable, "-m", "benchmarks.transfer_regression", str(work / f"head-{labels}-{draw}")]
                    records.append({"way": REGRESSION, "labels": labels, "draw": draw, **run_json(command, ("accuracy", "seconds"))})
            for record in records:
                if (record["labels"], record["draw"]) == (labels, draw):
                    numbers = record.get("error") or f"{record['accuracy']:.2f} %, {record['seconds']:.0f} s"
                    print(f"{labels:>3} per class, draw {draw}  {record['way']:<42} {numbers}", flush=True)
    publish(options, "Pre-trained network for pictures", report_text(records), {"records": records}, figure(records))
    return 1 if any("error" in record for record in records) else 0


def draw_pictures(pictures: Path, place: Path, labels: int, draw: int) -> Path:
    """Return a folder with so many pictures of each class to train on, taken at random, and all to test on: links to them."""
    if not place.exists():
        chance = random.Random(draw)
        for folder in sorted((pictures / "train").iterdir()):
            (place / "train" / folder.name).mkdir(parents=True)
            for file in chance.sample(sorted(folder.iterdir()), labels):
                (place / "train" / folder.name / file.name).symlink_to(file)
        (place / "test").symlink_to(pictures / "test")
    return place


def train(data: Path, run: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """Run `epochal train` in a process of its own; return {"accuracy", "seconds"}, or {"error": why not}."""
    if not (run / "result.json").exists():
        command = [sys.executable, "-m", "epochal", "train", str(data), *arguments, "--device", "cpu", "--json", "--out", str(run)]
        result = run_json(command, ("test",))
        if "error" in result:
            return result
    found = json.loads((run / "result.json").read_text("utf-8"))
    return {"accuracy": 100 * found["test"]["accuracy"], "seconds": found["seconds"]["total"]}


def by_labels(records: Records) -> dict[int, dict[str, list[dict[str, Any]]]]:
    """Return what ran, by labels, and then by way."""
    found: dict[int, dict[str, list[dict[str, Any]]]] = {}
    for record in records:
        if "error" not in record:
            found.setdefault(record["labels"], {}).setdefault(record["way"], []).append(record)
    return found


def report_text(records: Records) -> str:
    """Return the page of results in Markdown."""
    text = "CIFAR-10: accuracy on all 10,000 test pictures, mean ± standard deviation over draws.\n\n"
    rows = [
        [f"{labels} per class", way, f"{Mean.of([run['accuracy'] for run in runs]):.1f} %"]
        for labels, found in by_labels(records).items()
        for way, runs in found.items()
    ]
    text += table(("labels", "method", "accuracy"), rows)
    errors = [
        f"{record['way']}, {record['labels']} per class, draw {record['draw']}: {record['error']}"
        for record in records
        if "error" in record
    ]
    return text + "".join(f"\nDid not run: {error}\n" for error in errors)


def figure(records: Records) -> Figure:
    """Return bars of accuracy for each number of labels."""
    from matplotlib.figure import Figure

    drawn = by_labels(records)
    made = Figure(figsize=(8, 1.3 * len(drawn) + 0.5), layout="constrained")
    for axes, (labels, found) in zip(made.subplots(len(drawn) or 1, 1, squeeze=False).flat, drawn.items(), strict=False):
        spreads = [Spread.of([run["accuracy"] for run in runs]) for runs in found.values()]
        words = [f"{Mean.of([run['accuracy'] for run in runs]):.1f} %" for runs in found.values()]
        bars(axes, f"{labels} pictures per class: accuracy", list(found), spreads, words, [way in ("head", "all") for way in found])
    return made


if __name__ == "__main__":
    sys.exit(main())
