"""Pre-trained networks beside those that begin with nothing: how good they are with few labels, and with all.

python3 benchmarks/pretrained.py --data-dir FOLDER        writes benchmarks/results/pretrained.*
python3 benchmarks/pretrained.py --only SST-2             these data alone
python3 benchmarks/pretrained.py --quick                  one draw of 16 labels a class of SST-2; writes nothing

FOLDER holds text/: see benchmarks/README.md.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import enter
from benchmarks.program import count, data_option, parser, run_json
from benchmarks.report import Mean, Spread, bars, publish, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCRATCH = ("epochal", "TF-IDF + logistic regression")
# Where labels are many, all of wordllama is trained by default; where they are few, its head alone.
MANY = "epochal wordllama, head"
PRETRAINED = ("epochal minilm", "epochal wordllama", MANY)
# What is measured on which data, with how many labels for each class; None: all there are.
WAYS = {"SST-2": SCRATCH + PRETRAINED, "AG News": SCRATCH + PRETRAINED}
LABELS = (16, None)

Records = Sequence[dict[str, Any]]


def plan(names: Sequence[str], draws: int, whole: int) -> list[tuple[str, str, int | None, int]]:
    """Return (way, data, labels for each class, draw) in the order of measuring."""
    return [
        (way, name, labels, draw)
        for labels in LABELS
        for draw in range(whole if labels is None else draws)
        for name in names
        for way in WAYS[name]
        if way != MANY or labels is None
    ]


def measure(way: str, name: str, labels: int | None, draw: int, folder: Path) -> dict[str, Any]:
    """Run `way` on the data of that name, in a process of its own; return its scores and seconds, or {"error": why not}."""
    command = [sys.executable, "-m", "benchmarks.kind_ways", way, name, "--data-dir", str(folder), "--seed", str(draw)]
    return run_json([*command, *(() if labels is None else ("--labels", str(labels)))], ("loss", "accuracy", "seconds"))


def main() -> int:
    """Measure, print and write; return 1 where something did not run."""
    made = parser(__doc__, "pretrained")
    data_option(made)
    made.add_argument("--draws", type=count, default=5, help="of the few labels [%(default)s]")
    made.add_argument("--whole", type=count, default=2, help="how often with all labels, in another order [%(default)s]")
    made.add_argument("--only", nargs="+", choices=list(WAYS), metavar="DATA", help=f"of {', '.join(WAYS)} [all]")
    options = made.parse_args()
    enter("benchmarks.pretrained")
    planned = plan(options.only or list(WAYS), options.draws, options.whole)
    records = []
    for way, name, labels, draw in [one for one in planned if one[1:] == ("SST-2", 16, 0)] if options.quick else planned:
        record = {"data": name, "labels": labels, "way": way, "draw": draw, **measure(way, name, labels, draw, options.data_dir)}
        records.append(record)
        numbers = record.get("error") or f"accuracy {record['accuracy']:.4f}, {record['seconds']:.1f} CPU s"
        print(f"{name:<10} {_words(labels):<20} draw {draw}  {way:<30} {numbers}", flush=True)
    publish(options, "Few labels", report_text(records), {"records": records}, figure(records))
    return 1 if any("error" in record for record in records) else 0


def by_data(records: Records) -> dict[tuple[str, int | None], dict[str, list[dict[str, Any]]]]:
    """Return what ran, by data and labels, and then by way."""
    found: dict[tuple[str, int | None], dict[str, list[dict[str, Any]]]] = {}
    for record in sorted(records, key=lambda record: list(WAYS).index(record["data"])):
        if "error" not in record:
            found.setdefault((record["data"], record["labels"]), {}).setdefault(record["way"], []).append(record)
    return found


def report_text(records: Records) -> str:
    """Return the page of results in Markdown."""
    text = "Accuracy on the test data, mean ± standard deviation over draws, all with default settings.\n\n"
    rows = [
        [name, way, _words(labels), f"{Mean.of([100 * run['accuracy'] for run in runs]):.1f} %", *_rest(runs)]
        for (name, labels), found in by_data(records).items()
        for way, runs in found.items()
    ]
    text += table(("data", "method", "labels", "accuracy", "log-loss", "CPU seconds"), rows)
    errors = [f"{record['way']} on {record['data']}, draw {record['draw']}: {record['error']}" for record in records if "error" in record]
    return text + "".join(f"\nDid not run: {error}\n" for error in errors)


def _rest(runs: Records) -> list[str]:
    return [f"{Mean.of([run['loss'] for run in runs]):.3f}", f"{Spread.of([run['seconds'] for run in runs]).median:.1f}"]


def _words(labels: int | None) -> str:
    return "all" if labels is None else f"{labels} per class"


def figure(records: Records) -> Figure:
    """Return bars of accuracy for each of the data and each number of labels."""
    from matplotlib.figure import Figure

    drawn = by_data(records)
    lines = -(-len(drawn) // len(LABELS)) or 1
    made = Figure(figsize=(6 * len(LABELS), 1.7 * lines + 0.3), layout="constrained")
    for axes in made.subplots(lines, len(LABELS), squeeze=False).flat:
        axes.set_visible(False)
    for axes, ((name, labels), found) in zip(made.axes, drawn.items(), strict=False):
        axes.set_visible(True)
        spreads = [Spread.of([100 * run["accuracy"] for run in runs]) for runs in found.values()]
        words = [f"{Mean.of([100 * run['accuracy'] for run in runs]):.1f} %" for runs in found.values()]
        bars(axes, f"{name}, {_words(labels)}: accuracy", list(found), spreads, words, [way in PRETRAINED for way in found])
    return made


if __name__ == "__main__":
    sys.exit(main())
