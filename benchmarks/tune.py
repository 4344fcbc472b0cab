"""What a search of 20 trials is worth with fresh seeds on test data, beside plain Optuna with as much training.

python3 benchmarks/tune.py --data-dir FOLDER              writes benchmarks/results/tune.*
python3 benchmarks/tune.py --quick --data-dir FOLDER      four trials and two seeds on THUCNews; writes nothing

FOLDER has mnist/, tables/ and text/. It needs Epochal with its extra "tune" alone. With --work, searches are kept in that folder, and go on
there. Plain Optuna is its TPE on the same space and validation loss, the default first, with whole trainings: as many as the search makes.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.program import count, data_option, parser
from benchmarks.report import BLUE, GREY, publish, table

if TYPE_CHECKING:
    from epochal import Search
    from epochal.evaluation.compared import Comparison
    from matplotlib.figure import Figure

# So many pictures from the beginning of MNIST: a search with all of them takes hours.
PICTURES = 6000

CASES = ("THUCNews", "adult", "MNIST")


def main() -> int:
    """Measure, print and write."""
    made = parser(__doc__, "tune")
    data_option(made)
    made.add_argument("--cases", nargs="+", choices=CASES, default=CASES, metavar="CASE", help=f"of {', '.join(CASES)} [all]")
    made.add_argument("--trials", type=count, default=20, help="[%(default)s]")
    made.add_argument("--seeds", type=count, default=10, help="[%(default)s]")
    made.add_argument("--workers", type=count, help="[the cores, at most 4]")
    made.add_argument("--work", type=Path, help="keep searches in this folder, and go on with those that are there")
    options = made.parse_args()
    if options.quick:
        options.cases, options.trials, options.seeds = ("THUCNews",), 4, 2
    records = []
    with tempfile.TemporaryDirectory() as place:
        work = (options.work or Path(place)).resolve()
        work.mkdir(exist_ok=True)
        for name in options.cases:
            kept = work / f"{name}.json"
            if not kept.exists():
                kept.write_text(json.dumps(measure(name, options, work)), "utf-8")
            records.append(json.loads(kept.read_text("utf-8")))
    publish(options, "What a search is worth", report_text(records), {"records": records}, figure(records))
    return 0


def data_of(name: str, folder: Path, work: Path) -> tuple[Path, dict[str, Any]]:
    """Return a path, and the settings that say how it is read; what is not a file yet is written to `work`."""
    if name == "adult":
        return folder / "tables" / "adult-train.csv", {
            "test_data": str(folder / "tables" / "adult-test.csv"),
            "target": "income",
            "columns": {"income": "joined"},
        }
    if name == "THUCNews":
        for split in ("dev", "test"):
            text = (folder / "text" / "thucnews" / f"{split}.txt").read_text("utf-8")
            (work / f"thucnews-{split}.tsv").write_text(f"text\tclass\n{text}", "utf-8")
        return work / "thucnews-dev.tsv", {"test_data": str(work / "thucnews-test.tsv"), "target": "class", "text": "text"}
    import epochal
    import numpy as np
    import torch

    data = epochal.load("mnist", data_dir=folder)
    arrays: dict[str, Any] = {}
    for split, (examples, number) in {"train": (data.train, PICTURES), "test": (data.test, 10_000)}.items():
        assert examples is not None
        arrays[f"x_{split}"] = examples.inputs[torch.arange(number)].numpy()[:, 0]
        arrays[f"y_{split}"] = examples.targets[:number].numpy()
    np.savez(work / "mnist.npz", **arrays)
    return work / "mnist.npz", {}


def measure(name: str, options: Any, work: Path) -> dict[str, Any]:
    """Return what a search on these data finds, and what plain Optuna does."""
    import epochal

    path, settings = data_of(name, options.data_dir, work)
    begun = time.perf_counter()
    search = epochal.tune(path, trials=options.trials, seeds=options.seeds, out=work / name, workers=options.workers, **settings)
    return {
        "data": name,
        "trials": options.trials,
        "seeds": options.seeds,
        "seconds": time.perf_counter() - begun,
        "search": {"values": search.result["values"], **_difference(search.comparison)},
        "validation": search.result["validation"],
        "influences": search.result["influences"],
        "rungs": [one["rungs"] for one in search.result["trials"]],
        "optuna": plain(path, settings, search, options.seeds, work / f"{name}-optuna"),
    }


def plain(path: Path, settings: dict[str, Any], search: Search, seeds: int, work: Path) -> dict[str, Any]:
    """Return what Optuna's TPE finds with as many whole trainings as the search makes in all."""
    import optuna
    from epochal.device import using_threads
    from epochal.recipe import Recipe
    from epochal.run.compare import compare
    from epochal.run.train import run
    from epochal.search.job import Job, judged
    from epochal.search.plan import LAST, Task
    from epochal.search.plan import work as trainings
    from epochal.search.propose import distributions, values_in
    from epochal.search.store import Store
    from epochal.training.loop import fit

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    recipe, store = Recipe().updated({**settings, "threads": 1}), Store(search.folder)
    job, axes, number = (
        Job(str(path), None, recipe, search.space, None, store),
        distributions(search.space),
        round(trainings(len(search.trials))),
    )

    def score(values: dict[str, Any]) -> float:
        prepared = job.prepared(values, 0)
        with using_threads(1):
            history = fit(prepared.learner.model, prepared.learner.data, prepared.recipe)
        return judged(history.epochs, prepared.recipe, values).cost

    study, default = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0)), score({})
    for _ in range(number - 1):
        trial = study.ask(axes)
        study.tell(trial, score(values_in(search.space, trial.params)))
    best = values_in(search.space, study.best_params) if study.best_value < default else {}
    if not best:
        return {"trials": number, "values": best, **_difference(None)}
    runs = {values: [work / f"{values}-{seed}" for seed in range(1, seeds + 1)] for values in ("default", "best")}
    if search.comparison is not None:
        runs["default"] = [store.place(Task(0, LAST, seed)) for seed in range(1, seeds + 1)]
    for values, folders in runs.items():
        for seed, folder in enumerate(folders, 1):
            if not folder.exists():
                changes = {**(best if values == "best" else {}), "seed": seed, "data.split_seed": 0}
                run(str(path), recipe.updated(changes), out=folder)
    return {"trials": number, "values": best, **_difference(compare(*runs["default"], *runs["best"]))}


def _difference(found: Comparison | None) -> dict[str, Any]:
    """Return the mean test scores of the default and of what was found, and their difference; nothing where that is the default."""
    if found is None:
        return {"default": None, "best": None, "difference": None, "interval": None}
    difference = found.pairs[0].difference
    return {"default": difference.first, "best": difference.second, "difference": difference.value, "interval": list(difference.interval)}


def report_text(records: Sequence[dict[str, Any]]) -> str:
    """Return the page of results in Markdown."""
    rows = []
    for record in records:
        for way, name, number in (("search", "epochal tune", record["trials"]), ("optuna", "Optuna's TPE", record["optuna"]["trials"])):
            found = record[way]
            values = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in found["values"].items()) or "the default"
            rows.append([record["data"], name, str(number), *_words(found), values])
    chosen = [
        [record["data"], one["setting"], f"{one['selected']:.4f}", f"{one['fresh']:.4f}"]
        for record in records
        for one in record["validation"]
    ]
    seeds = ", ".join(sorted({str(record["seeds"]) for record in records}))
    return (
        f"Mean test accuracy over {seeds} fresh seeds in percent, and the difference from the default in points with its 95 % interval for "
        "other examples and seeds. Both ways train as much before that.\n\n"
        + table(["data", "way", "trials", "default", "found", "difference", "settings"], rows)
        + "\nThe validation loss when a setting was chosen, and its mean with fresh seeds on the same examples:\n\n"
        + table(["data", "setting", "chosen", "fresh"], chosen)
    )


def _words(found: dict[str, Any]) -> list[str]:
    if found["difference"] is None:
        return ["–", "–", "0"]
    low, high = (f"{100 * end:+.2f}" for end in found["interval"])
    return [f"{100 * found['default']:.2f}", f"{100 * found['best']:.2f}", f"{100 * found['difference']:+.2f} ({low} to {high})"]


def figure(records: Sequence[dict[str, Any]]) -> Figure:
    """Return the difference from the default of each search."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(6.4, 1.2 + 0.7 * len(records)), layout="constrained")
    axes = made.subplots()
    for place, record in enumerate(records):
        for shift, way, colour in ((-0.12, "search", BLUE), (0.12, "optuna", GREY)):
            found = record[way]
            value = 100 * (found["difference"] or 0.0)
            ends = [100 * end for end in found["interval"] or (0.0, 0.0)]
            label = {"search": "epochal tune", "optuna": "Optuna's TPE"}[way] if not place else None
            axes.errorbar(
                [value], [place + shift], xerr=[[value - ends[0]], [ends[1] - value]], fmt="o", color=colour, capsize=3, label=label
            )
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(range(len(records)), [record["data"] for record in records])
    axes.invert_yaxis()
    axes.set(title="Test accuracy less that of the default", xlabel="points, with 95 % interval")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8)
    return made


if __name__ == "__main__":
    sys.exit(main())
