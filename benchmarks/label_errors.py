"""How many of the labels that were changed on purpose come back from the top of a run's list, beside cleanlab.

python3 benchmarks/label_errors.py --data-dir FOLDER [--pictures PICTURES]     writes benchmarks/results/label_errors.*
python3 benchmarks/label_errors.py --quick --data-dir FOLDER                   2,000 of MNIST, one seed; writes nothing

FOLDER has mnist/, text/sst2/ and tables/; PICTURES is CIFAR-10 as train/CLASS/*.jpg and test/CLASS/*.jpg, of which 10,000 are trained on.
With --work, measurements are kept in that folder, and results are of all that it has.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import enter
from benchmarks.program import count, data_option, folder, parser, run_json
from benchmarks.report import Mean, Spread, bars, publish, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CASES = ("MNIST, 5 %", "MNIST, 5 % to the next", "MNIST, 1 %", "CIFAR-10, 5 %", "SST-2, 5 %", "adult, 5 %")
KEYS = ("changed", "examples", "precision", "seconds", "logging", "cleanlab", "cleanlab_seconds", "issues")

Records = Sequence[dict[str, Any]]


def main() -> int:
    """Measure, print and write; return 1 where something did not run."""
    made = parser(__doc__, "label_errors")
    data_option(made)
    made.add_argument("--pictures", type=folder, help="CIFAR-10 as a folder of pictures; without it, that is left out")
    made.add_argument("--cases", nargs="+", choices=CASES, default=CASES, metavar="CASE", help=f"of {'; '.join(CASES)} [all]")
    made.add_argument("--seeds", type=count, default=3, help="[%(default)s]")
    made.add_argument("--work", type=Path, help="keep measurements in this folder, and use those that are there")
    options = made.parse_args()
    enter("benchmarks.label_errors")
    cases = [case for case in options.cases if options.pictures or not case.startswith("CIFAR")]
    with tempfile.TemporaryDirectory() as place:
        work = (options.work or Path(place)).resolve()
        work.mkdir(exist_ok=True)
        for seed in range(1 if options.quick else options.seeds):
            for case in cases[:1] if options.quick else cases:
                command = [sys.executable, "-m", "benchmarks.label_errors_run", case, str(seed), "--data-dir", str(options.data_dir)]
                command += ["--pictures", str(options.pictures)] if options.pictures else []
                kept = work / f"{CASES.index(case)}-{seed}.json"
                if not kept.exists():
                    found = run_json(command + ["--count", "2000"] * options.quick, KEYS)
                    kept.write_text(json.dumps({"case": case, "seed": seed, **found}), "utf-8")
                    print(kept.read_text("utf-8"), flush=True)
        records = [json.loads(file.read_text("utf-8")) for file in sorted(work.glob("*.json"))]
    publish(options, "Labels that are wrong", report_text(records), {"records": records}, figure(records))
    return 1 if any("error" in record for record in records) else 0


def by_case(records: Records) -> dict[str, list[dict[str, Any]]]:
    """Return what ran, by case."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        if "error" not in record:
            found.setdefault(record["case"], []).append(record)
    return found


def report_text(records: Records) -> str:
    """Return the page of results in Markdown."""
    text = "Changed labels among as many from the top of the list as were changed, in percent: mean ± standard deviation over seeds.\n\n"
    rows = []
    for case, runs in by_case(records).items():
        columns = {key: [run[key] for run in runs] for key in KEYS}
        rows.append([
            case,
            f"{runs[0]['changed']:,} of {runs[0]['examples']:,}",
            str(len(runs)),
            f"{Mean.of(columns['precision']):.1f}",
            f"{Mean.of(columns['cleanlab']):.1f}",
            f"{Spread.of(columns['seconds']):.0f}",
            f"{Spread.of(columns['cleanlab_seconds']):.0f}",
            f"{Spread.of(columns['logging']):.1f} %",
            f"{Mean.of(columns['issues']):,.0f}",
        ])  # fmt: skip
    heads = ("labels", "changed", "seeds", "one run", "cleanlab, two folds", "seconds", "cleanlab's", "logging", "issues by cleanlab")
    text += table(heads, rows)
    text += "".join(f"\nDid not run: {one['case']}, seed {one['seed']}: {one['error']}\n" for one in records if "error" in one)
    return text


def figure(records: Records) -> Figure:
    """Return bars of both ways for each case."""
    from matplotlib.figure import Figure

    drawn = by_case(records)
    made = Figure(figsize=(8, 1.1 * len(drawn) + 0.5), layout="constrained")
    for axes, (case, runs) in zip(made.subplots(len(drawn) or 1, 1, squeeze=False).flat, drawn.items(), strict=False):
        values = [[run[key] for run in runs] for key in ("precision", "cleanlab")]
        words = [f"{Mean.of(one):.1f} %" for one in values]
        title = f"{case} changed: so many come back"
        bars(axes, title, ["one run", "cleanlab, two folds"], [Spread.of(one) for one in values], words, [True, False])
    return made


if __name__ == "__main__":
    sys.exit(main())
