"""What a search of 20 trials is worth with fresh seeds on test data, beside plain Optuna with as much training.

python3 benchmarks/tune.py --data-dir FOLDER --pictures PICTURES        writes benchmarks/results/tune.*
python3 benchmarks/tune.py --quick --data-dir FOLDER                    four trials and two seeds on THUCNews; writes nothing

FOLDER has mnist/, tables/ and text/, PICTURES train/CLASS/*.jpg and test/CLASS/*.jpg. It needs Epochal with its extra "tune" alone. All
learn from a part of the training examples, drawn at random, so that four searches take minutes. With --work, searches are kept in that
folder, and go on there. Plain Optuna is a study as it comes, TPE with the median pruner, on the same space, trainings and validation loss:
the default first, then trials until it has trained for as many epochs as the search.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.program import count, data_option, folder, parser
from benchmarks.report import BLUE, GREY, publish, table

if TYPE_CHECKING:
    from epochal import Search
    from epochal.evaluation.compared import Comparison
    from epochal.training.records import EpochDone
    from matplotlib.figure import Figure

# So many training examples, and so many epochs (as many as come by default).
CASES: dict[str, tuple[int, int | None]] = {"THUCNews": (2000, None), "adult": (4000, 12), "MNIST": (1500, None), "CIFAR-10": (1500, None)}

OPTUNA = "Optuna: TPE, median pruner"

# So many test pictures of CIFAR-10, of each class.
TESTED = 400


def main() -> int:
    """Measure, print and write."""
    made = parser(__doc__, "tune")
    data_option(made)
    made.add_argument("--pictures", type=folder, help="CIFAR-10 as train/CLASS/*.jpg and test/CLASS/*.jpg")
    made.add_argument("--cases", nargs="+", choices=CASES, default=[*CASES], metavar="CASE", help=f"of {', '.join(CASES)} [all]")
    made.add_argument("--trials", type=count, default=20, help="[%(default)s]")
    made.add_argument("--seeds", type=count, default=10, help="[%(default)s]")
    made.add_argument("--workers", type=count, help="[the cores, at most 4]")
    made.add_argument("--work", type=Path, help="keep searches in this folder, and go on with those that are there")
    options = made.parse_args()
    if options.quick:
        options.cases, options.trials, options.seeds = ["THUCNews"], 4, 2
    if "CIFAR-10" in options.cases and options.pictures is None:
        made.error("CIFAR-10 needs --pictures")
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


def data_of(name: str, options: Any, work: Path) -> tuple[Path, dict[str, Any]]:
    """Return a path, and the settings that say how it is read; what is not a file yet is written to `work`."""
    number, epochs = CASES[name]
    more = {} if epochs is None else {"epochs": epochs}
    draw = random.Random(0)
    if name == "adult":
        head, *rows = (options.data_dir / "tables" / "adult-train.csv").read_text("utf-8").splitlines(keepends=True)
        (work / "adult.csv").write_text("".join([head, *draw.sample([row for row in rows if row.strip()], number)]), "utf-8")
        test = str(options.data_dir / "tables" / "adult-test.csv")
        return work / "adult.csv", {"test_data": test, "target": "income", "columns": {"income": "joined"}, **more}
    if name == "THUCNews":
        for split in ("dev", "test"):
            lines = (options.data_dir / "text" / "thucnews" / f"{split}.txt").read_text("utf-8").splitlines(keepends=True)
            text = "".join(draw.sample(lines, number) if split == "dev" else lines)
            (work / f"thucnews-{split}.tsv").write_text(f"text\tclass\n{text}", "utf-8")
        return work / "thucnews-dev.tsv", {"test_data": str(work / "thucnews-test.tsv"), "target": "class", "text": "text", **more}
    if name == "CIFAR-10":
        return _some_files(options.pictures, work / "cifar10", number, draw), more
    return _some_arrays(options.data_dir, work / "mnist.npz", number), more


def _some_files(pictures: Path, place: Path, number: int, draw: random.Random) -> Path:
    """Write a folder with so many training pictures, as many of each class, and `TESTED` of each class to test on."""
    classes = sorted(path.name for path in (pictures / "train").iterdir())
    for split, each in (("train", number // len(classes)), ("test", TESTED)):
        for name in classes:
            (place / split / name).mkdir(parents=True, exist_ok=True)
            for file in draw.sample(sorted((pictures / split / name).iterdir()), each):
                shutil.copyfile(file, place / split / name / file.name)
    return place


def _some_arrays(folder: Path, place: Path, number: int) -> Path:
    """Write the first so many training pictures of MNIST, which are in no order, and all test pictures."""
    import epochal
    import numpy as np
    import torch

    data = epochal.load("mnist", data_dir=folder)
    arrays: dict[str, Any] = {}
    for split, (examples, taken) in {"train": (data.train, number), "test": (data.test, 10_000)}.items():
        assert examples is not None
        arrays[f"x_{split}"] = examples.inputs[torch.arange(taken)].numpy()[:, 0]
        arrays[f"y_{split}"] = examples.targets[:taken].numpy()
    np.savez(place, **arrays)
    return place


def measure(name: str, options: Any, work: Path) -> dict[str, Any]:
    """Return what a search on these data finds, and what plain Optuna does."""
    import epochal

    path, settings = data_of(name, options, work)
    begun = time.perf_counter()
    search = epochal.tune(path, trials=options.trials, seeds=options.seeds, out=work / name, workers=options.workers, **settings)
    return {
        "data": name,
        "trials": options.trials,
        "seeds": options.seeds,
        "examples": CASES[name][0],
        "epochs": search.recipe.epochs,
        "trained": sum(trial.epochs for trial in search.trials),
        "seconds": time.perf_counter() - begun,
        "search": {"values": search.result["values"], **_difference(search.comparison)},
        "validation": search.result["validation"],
        "influences": search.result["influences"],
        "rungs": [one["rungs"] for one in search.result["trials"]],
        "optuna": plain(path, settings, search, options.seeds, work / f"{name}-optuna"),
    }


def plain(path: Path, settings: dict[str, Any], search: Search, seeds: int, work: Path) -> dict[str, Any]:
    """Return what a study of Optuna finds with as many epochs of training as the search makes in all."""
    import optuna
    from epochal.device import using_threads
    from epochal.errors import TrainingError
    from epochal.recipe import Recipe
    from epochal.run.compare import compare
    from epochal.run.train import run
    from epochal.search.job import Job, judged
    from epochal.search.plan import LAST, Task
    from epochal.search.propose import distributions, values_in
    from epochal.search.store import Store
    from epochal.training.loop import fit

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    recipe, store = Recipe().updated({**settings, "threads": 1}), Store(search.folder)
    job, axes = Job(str(path), None, recipe, search.space, None, store), distributions(search.space)
    left = sum(trial.epochs for trial in search.trials)

    def train(values: dict[str, Any], trial: optuna.Trial | None = None) -> tuple[float, bool]:
        """Return the validation loss of these settings, and whether that is of a training which was pruned."""
        nonlocal left

        def stop(done: EpochDone) -> str:
            assert done.valid is not None
            if trial is None:
                return ""
            trial.report(done.valid.loss, done.epoch)
            return "pruned" if trial.should_prune() else ""

        prepared = job.prepared(values, 0)
        with using_threads(1):
            history = fit(prepared.learner.model, prepared.learner.data, prepared.recipe, stop=stop)
        left -= len(history.epochs)
        return judged(history.epochs, prepared.recipe, values).cost, history.finished.reason == "pruned"

    study, (default, _) = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0)), train({})
    while left > 0:
        trial = study.ask(axes)
        try:
            cost, is_pruned = train(values_in(search.space, trial.params), trial)
        except TrainingError:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            left -= 1
        else:
            study.tell(trial, None if is_pruned else cost, optuna.trial.TrialState.PRUNED if is_pruned else None)
    tried = 1 + len(study.trials)
    complete = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    best = values_in(search.space, study.best_params) if complete and study.best_value < default else {}
    if not best:
        return {"trials": tried, "values": best, **_difference(None)}
    runs = {values: [work / f"{values}-{seed}" for seed in range(1, seeds + 1)] for values in ("default", "best")}
    if search.comparison is not None:
        runs["default"] = [store.place(Task(0, LAST, seed)) for seed in range(1, seeds + 1)]
    for values, folders in runs.items():
        for seed, place in enumerate(folders, 1):
            if not place.exists():
                changes = {**(best if values == "best" else {}), "seed": seed, "data.split_seed": 0}
                run(str(path), recipe.updated(changes), out=place)
    return {"trials": tried, "values": best, **_difference(compare(*runs["default"], *runs["best"]))}


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
        for way, name, number in (("search", "epochal tune", record["trials"]), ("optuna", OPTUNA, record["optuna"]["trials"])):
            found = record[way]
            values = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in found["values"].items()) or "the default"
            rows.append([record["data"], name, str(number), *_words(found), values])
    chosen = [
        [record["data"], one["setting"], f"{one['selected']:.4f}", f"{one['fresh']:.4f}"]
        for record in records
        for one in record["validation"]
    ]
    seeds = ", ".join(sorted({str(record["seeds"]) for record in records}))
    learned = ", ".join(f"{record['data']} {record['examples']:,} ({record['epochs']})" for record in records)
    return (
        f"Mean test accuracy over {seeds} fresh seeds in percent, and the difference from the default in points with its 95 % interval for "
        "other examples and seeds; an interval that contains 0 shows no difference. Both ways train for as many epochs before. Training "
        f"examples (and epochs of a whole training): {learned}.\n\n"
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
            label = {"search": "epochal tune", "optuna": OPTUNA}[way] if not place else None
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
