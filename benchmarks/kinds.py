"""Tables, texts and sounds: how good Epochal's default settings are beside usual methods, and how long each takes.

python3 benchmarks/kinds.py --data-dir FOLDER             writes benchmarks/results/kinds.*
python3 benchmarks/kinds.py --only wine SST-2             these data alone
python3 benchmarks/kinds.py --quick                       one seed of two data sets; writes nothing

FOLDER holds tables/, text/ and audio/: see benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import enter
from benchmarks.kind_data import ALL, SPEAKERS, TABLES, TEXTS, Sounds
from benchmarks.program import count, data_option, parser, run_json
from benchmarks.report import Mean, Spread, bars, publish, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EPOCHAL = "epochal"
ON_TABLES = (EPOCHAL, "LightGBM", "HistGradientBoosting", "MLP of scikit-learn")
ON_TEXTS = (EPOCHAL, "TF-IDF + logistic regression")
# Networks that read words in their order take longer: two sets of texts.
IN_ORDER = ("epochal gru", "epochal transformer")
ORDERED = ("SST-2", "THUCNews")
SCORES = ("loss", "accuracy", "rmse")
LEFT_OUT = "digits, a speaker left out"

Records = Sequence[dict[str, Any]]


def ways_on(name: str) -> tuple[str, ...]:
    """Return what is measured on these data."""
    if name in TABLES:
        return ON_TABLES
    if name in TEXTS:
        return ON_TEXTS + (IN_ORDER if name in ORDERED else ())
    return (EPOCHAL,)


def measure(way: str, name: str, seed: int, folder: Path) -> dict[str, Any]:
    """Run `way` on the data of that name, in a process of its own; return its scores and seconds, or {"error": why not}."""
    command = [sys.executable, "-m", "benchmarks.kind_ways", way, name, "--data-dir", str(folder), "--seed", str(seed)]
    return run_json(command, (*SCORES, "seconds"))


def plan(names: Sequence[str], seeds: int) -> list[tuple[str, str, int]]:
    """Return (way, data, seed) in the order of measuring: all ways on the same data one after the other, then the next seed.

    A speaker is left out once: six of them are measurements enough.
    """
    return [
        (way, name, seed)
        for seed in range(seeds)
        for name in names
        if not (seed and isinstance(data := ALL[name], Sounds) and data.without)
        for way in ways_on(name)
    ]


def main() -> int:
    """Measure, print and write; return 1 where something did not run."""
    made = parser(__doc__, "kinds")
    data_option(made)
    made.add_argument("--seeds", type=count, default=5, help="for each of the data [%(default)s]")
    made.add_argument("--only", nargs="+", choices=list(ALL), metavar="DATA", help=f"of {', '.join(ALL)} [all]")
    options = made.parse_args()
    enter("benchmarks.kinds")
    if options.quick:
        options.seeds, options.only = 1, options.only or ["german", "SST-2"]
    records = run(options)
    publish(options, "Tables, texts and sounds", report_text(records), {"records": records}, figure(records))
    return 1 if any("error" in record for record in records) else 0


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure all that is planned, and return a record of each."""
    records = []
    for way, name, seed in plan(options.only or list(ALL), options.seeds):
        record = {"data": name, "way": way, "seed": seed, **measure(way, name, seed, options.data_dir)}
        records.append(record)
        numbers = ", ".join(f"{key} {record[key]:.4g}" for key in (*SCORES, "seconds") if record.get(key) is not None)
        print(f"seed {seed}  {name:<24} {way:<30} {record.get('error') or numbers}", flush=True)
    return records


def by_data(records: Records) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Return what ran by data and way; the speakers who were left out are one."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for record in records:
        if "error" not in record:
            data = ALL[record["data"]]
            name = LEFT_OUT if isinstance(data, Sounds) and data.without else record["data"]
            found.setdefault(name, {}).setdefault(record["way"], []).append(record)
    return found


def main_score(found: Mapping[str, Records]) -> str:
    """Return the score that counts for these data: RMSE for quantities, log-loss for classes of tables, otherwise accuracy."""
    first = next(iter(found.values()))[0]
    return "rmse" if first["rmse"] is not None else "loss" if first["data"] in TABLES else "accuracy"


def report_text(records: Records) -> str:
    """Return the page of results in Markdown."""
    text = "Mean ± standard deviation over seeds, all with default settings; seconds of processor time, from names of files to scores.\n"
    header = ("data", "method", "log-loss", "RMSE", "accuracy", "CPU seconds", "log-loss or RMSE less Epochal's")
    rows = []
    for name, found in by_data(records).items():
        for way, runs in found.items():
            cells = [_mean([run[key] for run in runs], form) for key, form in (("loss", ".3f"), ("rmse", _form(runs)))]
            shares = [None if run["accuracy"] is None else 100 * run["accuracy"] for run in runs]
            seconds = f"{Mean.of([run['seconds'] for run in runs]):.1f}"
            rows.append([name, way, *cells, _mean(shares, ".1f", " %"), seconds, _less(found, way)])
    text += "\n" + table(header, rows)
    speakers = {record["data"].rpartition(" ")[2]: record for record in records if record["data"].rpartition(" ")[2] in SPEAKERS}
    if heard := [f"{speaker} {100 * record['accuracy']:.1f} %" for speaker, record in speakers.items() if "error" not in record]:
        text += f"\nEach speaker left out: {', '.join(heard)}.\n"
    errors = [f"{record['way']} on {record['data']}, seed {record['seed']}: {record['error']}" for record in records if "error" in record]
    return text + "".join(f"\nDid not run: {error}\n" for error in errors)


def _form(runs: Records) -> str:
    """Return the format of RMSE: two digits after the point for small quantities."""
    return ".2f" if (runs[0]["rmse"] or 0) < 100 else ",.0f"


def _mean(values: Sequence[float | None], form: str, unit: str = "") -> str:
    known = [value for value in values if value is not None]
    return f"{Mean.of(known):{form}}{unit}" if known else "–"


def _less(found: Mapping[str, Records], way: str) -> str:
    """Return the mean of the differences, each between two runs of the same seed."""
    key = "rmse" if main_score(found) == "rmse" else "loss"
    ours = {run["seed"]: run[key] for run in found.get(EPOCHAL, ())}
    pairs = [run[key] - ours[run["seed"]] for run in found[way] if run["seed"] in ours]
    if way == EPOCHAL or not pairs:
        return "–"
    return _signed(Mean.of(pairs), "+,.0f" if key == "rmse" and abs(pairs[0]) > 10 else "+.3f")


def _signed(mean: Mean, form: str) -> str:
    return f"{mean.mean:{form}}" + ("" if mean.std is None else f" ± {mean.std:{form[1:]}}")


def figure(records: Records) -> Figure:
    """Return bars for each of the data: RMSE, log-loss, or the share of errors."""
    from matplotlib.figure import Figure

    drawn = by_data(records)
    columns = min(3, max(1, len(drawn)))
    lines = -(-len(drawn) // columns) or 1
    made = Figure(figsize=(5 * columns, 1.7 * lines + 0.3), layout="constrained")
    for axes in made.subplots(lines, columns, squeeze=False).flat:
        axes.set_visible(False)
    for axes, (name, found) in zip(made.axes, drawn.items(), strict=False):
        axes.set_visible(True)
        key = main_score(found)
        values = [[100 - 100 * run[key] if key == "accuracy" else run[key] for run in runs] for runs in found.values()]
        spreads = [Spread.of(each) for each in values]
        form = ".1f" if key == "accuracy" else ".3f" if key == "loss" else _form(next(iter(found.values())))
        words = [
            f"{Mean.of(each).mean:{form}}, {Mean.of([run['seconds'] for run in runs]).mean:.1f} CPU s"
            for each, runs in zip(values, found.values(), strict=True)
        ]
        title = {"accuracy": "errors in %", "loss": "log-loss", "rmse": "RMSE"}[key]
        bars(axes, f"{name}: {title}", list(found), spreads, words, [way.startswith(EPOCHAL) for way in found])
    return made


if __name__ == "__main__":
    sys.exit(main())
