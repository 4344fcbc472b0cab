"""Time to accuracy: `epochal train` with a preset, as a user types it, once for each seed, beside the tutorial's CNN.

python3 benchmarks/accuracy.py --data-dir FOLDER --cifar-dir PICTURES     writes benchmarks/results/accuracy.*
python3 benchmarks/accuracy.py --quick                                    one seed, one epoch; writes nothing

FOLDER/mnist/ holds the four IDX files of MNIST; PICTURES is CIFAR-10 as train/CLASS/*.jpg and test/CLASS/*.jpg. Without it, CIFAR-10
is left out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import enter
from benchmarks.program import count, data_option, folder, parser, run_json
from benchmarks.report import GREY, Mean, publish, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TUTORIAL = "the tutorial's CNN"


@dataclass(frozen=True)
class Goal:
    """A preset, and the test accuracy in percent that it is to reach on the data."""

    recipe: str
    target: float


@dataclass(frozen=True)
class Outcome:
    """What one run came to: test accuracy in percent, seconds of training, and seconds of the whole process."""

    accuracy: float
    training: float
    whole: float


def train(data: str, recipe: str, seed: int, arguments: Sequence[str], cache: str) -> dict[str, Any]:
    """Run `epochal train` in a process of its own, with this folder as its cache.

    Return its outcome as {"accuracy", "training", "whole"}, or {"error": why not}.
    """
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "epochal", "train", data, "--recipe", recipe, "--seed", str(seed), "--device", "cpu", "--json"]
        started = time.perf_counter()
        result = run_json([*command, "--out", str(Path(place, "run")), *arguments], ("test", "training_seconds"), EPOCHAL_CACHE=cache)
        whole = time.perf_counter() - started
    if "error" in result:
        return result
    return {"accuracy": 100 * result["test"]["accuracy"], "training": result["training_seconds"], "whole": whole}


def train_tutorial(data_dir: Path, target: float, epochs: int, seed: int) -> dict[str, Any]:
    """Run the tutorial's CNN until `target` percent. Return its outcome after each epoch as {"epochs": [...]}, or {"error": why not}."""
    arguments = ["--data-dir", str(data_dir), "--target", str(target / 100), "--epochs", str(epochs), "--seed", str(seed)]
    started = time.perf_counter()
    result = run_json([sys.executable, "-m", "benchmarks.tutorial_cnn", *arguments], ("accuracy", "training_seconds", "elapsed"))
    if "error" in result:
        return result
    # Starting Python and leaving it belong to the whole.
    outside = time.perf_counter() - started - result["elapsed"][-1]
    after = zip(result["accuracy"], result["training_seconds"], result["elapsed"], strict=True)
    return {"epochs": [{"accuracy": 100 * share, "training": training, "whole": elapsed + outside} for share, training, elapsed in after]}


def reached(epochs: Sequence[Outcome], target: float) -> Outcome | None:
    """Return the first outcome that is at `target`, or `None`."""
    return next((outcome for outcome in epochs if outcome.accuracy >= target), None)


def row(name: str, target: float, outcomes: Sequence[Outcome], runs: int) -> list[str]:
    """Return a line of the table: how many of `runs` got to the target; mean ± standard deviation over `outcomes`."""
    there = sum(outcome.accuracy >= target for outcome in outcomes)
    means = [Mean.of(list(values)) for values in zip(*((o.accuracy, o.training, o.whole) for o in outcomes), strict=True)]
    cells = [f"{means[0]:.3f} %", f"{means[1]:.2f}", f"{means[2]:.2f}"] if means else ["–"] * 3
    return [name, f"{target:g} %", *cells, f"{there} of {runs}"]


def main() -> int:
    """Measure, print and write; return 1 where something did not run."""
    options = _options()
    enter("benchmarks.accuracy")
    quick = ["--epochs", "1"] if options.quick else []
    records: list[dict[str, Any]] = []

    def keep(result: dict[str, Any], **what: Any) -> None:
        records.append({**what, **result})
        last = result["epochs"][-1] if "epochs" in result else result
        numbers = ", ".join(f"{name} {value if isinstance(value, str) else f'{value:.4g}'}" for name, value in last.items())
        print(f"seed {what['seed']}  {what['recipe']:<18} {numbers}", flush=True)

    with tempfile.TemporaryDirectory() as cache:
        # A seed of all presets, then the next: what else the machine does falls on all alike.
        for seed in range(options.seeds):
            for goal in options.goals:
                place = ["--data-dir", str(options.data_dir)]
                keep(train("mnist", goal.recipe, seed, [*place, *quick], cache), data="MNIST", recipe=goal.recipe, seed=seed)
        for seed in range(options.cifar_seeds if options.cifar_dir else 0):
            for goal in options.cifar_goals:
                keep(train(str(options.cifar_dir), goal.recipe, seed, quick, cache), data="CIFAR-10", recipe=goal.recipe, seed=seed)
    highest = max(goal.target for goal in options.goals)
    for seed in range(options.tutorial_seeds):
        keep(train_tutorial(options.data_dir, highest, options.tutorial_epochs, seed), data="MNIST", recipe=TUTORIAL, seed=seed)
    goals = {"MNIST": options.goals, **({"CIFAR-10": options.cifar_goals} if options.cifar_dir else {})}
    publish(options, "Time to accuracy", report_text(records, goals), {"records": records}, figure(records, goals))
    return 1 if any("error" in record for record in records) else 0


def _options() -> argparse.Namespace:
    made = parser(__doc__, "accuracy")
    data_option(made)
    pair: dict[str, Any] = {"type": _goal, "nargs": "+", "metavar": "RECIPE=PERCENT"}
    default = [Goal("mnist-fast", 99.0), Goal("mnist", 99.4)]
    made.add_argument("--goals", **pair, default=default, help="presets for MNIST [mnist-fast=99 mnist=99.4]")
    made.add_argument("--seeds", type=count, default=10, help="for each of them [%(default)s]")
    made.add_argument("--tutorial-seeds", type=int, default=2, help=f"for {TUTORIAL}; 0 leaves it out [%(default)s]")
    made.add_argument("--tutorial-epochs", type=count, default=15, help="after which it gives up [%(default)s]")
    made.add_argument("--cifar-dir", type=folder, help="CIFAR-10 as a folder of pictures")
    made.add_argument("--cifar-goals", **pair, default=[Goal("cifar10", 90.0)], help="presets for it [cifar10=90]")
    made.add_argument("--cifar-seeds", type=count, default=3, help="for each of them [%(default)s]")
    options = made.parse_args()
    if options.quick:
        options.seeds = options.cifar_seeds = options.tutorial_epochs = 1
        options.tutorial_seeds = min(options.tutorial_seeds, 1)
    return options


def _goal(text: str) -> Goal:
    recipe, equals, percent = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text} is not RECIPE=PERCENT")
    return Goal(recipe, float(percent))


def outcomes_of(records: Sequence[dict[str, Any]], recipe: str) -> list[Outcome]:
    """Return the outcomes of a preset's runs."""
    keys = ("accuracy", "training", "whole")
    return [Outcome(*(record[key] for key in keys)) for record in records if record["recipe"] == recipe and "error" not in record]


def tutorial_runs(records: Sequence[dict[str, Any]]) -> list[list[Outcome]]:
    """Return, for each run of the tutorial's CNN, its outcome after each epoch."""
    return [[Outcome(**epoch) for epoch in record["epochs"]] for record in records if record["recipe"] == TUTORIAL and "epochs" in record]


def report_text(records: Sequence[dict[str, Any]], goals: Mapping[str, Sequence[Goal]]) -> str:
    """Return the page of results in Markdown."""
    header = ("preset", "target", "test accuracy", "seconds of training", "seconds of the whole command", "runs at the target")
    text = "Mean ± standard deviation over the seeds, each in a process of its own.\n"
    runs = tutorial_runs(records)
    for data, wanted in goals.items():
        rows = []
        for goal in wanted:
            tried = sum(record["recipe"] == goal.recipe for record in records)
            rows.append(row(f"epochal, {goal.recipe}", goal.target, outcomes_of(records, goal.recipe), tried))
            if data == "MNIST" and runs:
                there = [outcome for epochs in runs if (outcome := reached(epochs, goal.target))]
                rows.append(row(f"{TUTORIAL}, when first there", goal.target, there, len(runs)))
        text += f"\n{data}\n\n{table(header, rows)}"
    errors = [f"{record['recipe']}, seed {record['seed']}: {record['error']}" for record in records if "error" in record]
    return text + "".join(f"\nDid not run: {error}\n" for error in errors)


def figure(records: Sequence[dict[str, Any]], goals: Mapping[str, Sequence[Goal]]) -> Figure:
    """Return test accuracy over the seconds of the whole command: a point for each run, a line for each of the tutorial's."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    made = Figure(figsize=(5.5 * len(goals), 3.8), layout="constrained")
    for axes, (data, wanted) in zip(made.subplots(1, len(goals), squeeze=False)[0], goals.items(), strict=True):
        for number, goal in enumerate(wanted):
            runs, colour = outcomes_of(records, goal.recipe), f"C{number}"
            axes.plot([run.whole for run in runs], [run.accuracy for run in runs], "o", color=colour, label=f"epochal, {goal.recipe}")
            axes.axhline(goal.target, color=colour, linewidth=0.8, linestyle="--")
        for number, epochs in enumerate(tutorial_runs(records) if data == "MNIST" else []):
            whole, share = [epoch.whole for epoch in epochs], [epoch.accuracy for epoch in epochs]
            axes.plot(whole, share, ".-", color=GREY, label="" if number else f"{TUTORIAL}, epoch by epoch")
        axes.set(title=data, xlabel="seconds of the whole command", ylabel="test accuracy in %", xscale="log")
        low, high = axes.get_xlim()
        axes.set_xlim(low / 2, high * 2)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8)
    return made


if __name__ == "__main__":
    sys.exit(main())
