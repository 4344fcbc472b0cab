"""Tune: search for better settings, and say what they are worth on test data that the search never saw."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from epochal.cores import sharing_cores
from epochal.errors import DataError, RecipeError
from epochal.evaluation.compared import Comparison
from epochal.evaluation.named import monitored
from epochal.io.checksums import with_checksum
from epochal.io.files import finite, write_errors, write_json, write_text
from epochal.progress import progress, silent
from epochal.recipe import DEFAULT, Recipe, as_recipe
from epochal.run.compare import compare
from epochal.run.folder import RESULT
from epochal.run.prepare import Prepared, prepare
from epochal.search.found import FIGURE, Search
from epochal.search.job import Job, share_of, without_test
from epochal.search.plan import LAG, LAST, RUNGS, Plan, Task, work
from epochal.search.propose import optuna_version
from epochal.search.space import as_space, describe, label, to_json
from epochal.search.store import Result, Store
from epochal.search.usual import check_models, default_values, usual_space
from epochal.search.work import work as do_all
from epochal.search.work import work_by
from epochal.search.worth import Validation, in_json, influences, named, validations
from epochal.shown import are, counted
from epochal.user_code import concise

TRIALS, SEEDS = 20, 5

# The origin of settings that are fixed for a search, so that nothing depends on how many trials run at once.
_SEARCH = "search"

# Settings that only a whole run has.
_OF_RUNS = ("folds", "repeats", "max_seconds")

# With fewer, nothing was searched.
_LEAST = 4


@concise
def tune(
    data: Any,
    recipe: Recipe | str | Path | Mapping[str, Any] | None = None,
    *,
    space: Mapping[str, Any] | None = None,
    trials: int | None = None,
    minutes: float | None = None,
    seeds: int = SEEDS,
    out: str | Path | Iterable[Path],
    workers: int | None = None,
    data_dir: str | Path | None = None,
    quiet: bool = False,
    log: Callable[[str], object] | None = None,
    **settings: Any,
) -> Search:
    """Search for settings that are better than those of `recipe`, the default, and compare the best with it on test data.

    `space` has what is tried by setting: "log(1e-4, 1e-1)", "range(0, 0.5)", or a list of values; without it, what suits the data.
    `settings` are the same in all trials. So many `trials` are made (20), or as many as are expected to take so many `minutes`; the first
    is the default. They are trained on training data and judged by validation data, by successive halving (see `search/plan.py`). The best
    is then trained with several `seeds` and tested, and so is the default. All of that goes into the folder `out`: the same call, in this
    or in other processes, goes on with what is there. `workers` is how many trials are trained at once, each by one thread; by default as
    many as there are cores, at most four. The result does not depend on it.

    Raises an `EpochalError` for anything that cannot work, before the first trial.
    """
    base = as_recipe(recipe).updated(settings, "given")
    if trials is not None and minutes is not None:
        raise RecipeError("Both a number of trials and a time were given.", "Give one of the two.")
    if trials is not None and trials < _LEAST:
        raise RecipeError(f"{counted(trials, 'trial')} {are(trials)} too few for a search.", f"Give at least {_LEAST}.")
    if seeds < 2:
        raise RecipeError("The best settings and the default are compared by several seeds.", "Give at least 2.")
    optuna_version()
    for name in _OF_RUNS:
        if base.flat()[name] is not None:
            raise RecipeError(f"The setting {name} is not for a search.", "Leave it out; train with the recipe that is found.")
    log = log or (silent if quiet else print)
    with ExitStack() as stack:
        stack.enter_context(sharing_cores())
        return _search(data, base, space, trials, minutes, seeds, out, workers, None if data_dir is None else str(data_dir), log)


def _search(
    source: Any,
    base: Recipe,
    given: Mapping[str, Any] | None,
    trials: int | None,
    minutes: float | None,
    seeds: int,
    out: str | Path | Iterable[Path],
    workers: int | None,
    data_dir: str | None,
    log: Callable[[str], object],
) -> Search:
    space = None if given is None else as_space(given, base)
    check_models(space or {}, base)
    prepared, recipe = _prepared(source, base, data_dir, log)
    space = usual_space(prepared, base) if space is None else space
    check_models(space, prepared.recipe)
    if not space:
        raise RecipeError("There is nothing to search: all settings are given.", 'Name some: --set "lr=log(1e-4,1e-1)"')
    count = _workers(workers, prepared, source)
    default = default_values(space, prepared)
    asked = {
        "data": prepared.data.fingerprint,
        "recipe": recipe.model_dump(mode="json"),
        "space": to_json(space),
        "minutes": minutes,
        "trials": trials if minutes is not None else trials or TRIALS,
        "seeds": seeds,
        "optuna": optuna_version(),
    }
    store = _begun(out, asked)
    job = Job(source, data_dir, recipe, space, default, store)
    job.read[label({})] = prepared.asked, without_test(prepared.data)
    known = store.asked()["trials"]
    for line in describe(space):
        log(f"searched: {line}")
    if known is None:
        known = _affordable(job, minutes or 0.0, seeds, count, log)
        store.note(trials=known)
    plan = Plan(known, tuple(recipe.seed + 1 + number for number in range(seeds)))
    try:
        _do(job, plan, count, log)
    except BaseException:
        log(f"What is finished is in {store.folder}: the same command with --out {store.folder} goes on.")
        raise
    return _finish(job, plan)


def _prepared(source: Any, base: Recipe, data_dir: str | None, log: Callable[[str], object]) -> tuple[Prepared, Recipe]:
    """Return the default before its first step, and its recipe, in which nothing is left to the machine."""
    fixed: dict[str, Any] = {}
    if base.threads == "auto":
        # One for each trial: the last bits of a result depend on their number.
        fixed["threads"] = 1
    recipe = base.updated(fixed, _SEARCH)
    prepared = prepare(source, recipe, data_dir=data_dir, log=log)
    if prepared.data.valid is None and base.origin("data.valid") == DEFAULT:
        recipe = recipe.updated({"data.valid": 0.2}, _SEARCH)
        prepared = prepare(source, recipe, data_dir=data_dir)
        log("note: a fifth of the examples is split off, since trials are judged by validation data")
    data = prepared.data
    if data.valid is None:
        raise DataError("Trials are judged by validation data, and there would be none.", "Split some off: --valid 0.2")
    if data.test is None:
        raise DataError("What a search finds is measured on test data, and there would be none.", "Split some off: --test 0.2")
    measured = {name: getattr(prepared.recipe, name) for name in ("device", "batch_size", "precision") if getattr(base, name) == "auto"}
    return prepared, recipe.updated(measured, _SEARCH)


def _workers(asked: int | None, prepared: Prepared, source: Any) -> int:
    """Return how many processes train at once. Raises `RecipeError` where there cannot be so many."""
    is_named = isinstance(source, str | Path)
    if asked is not None and asked > 1 and not is_named:
        raise RecipeError("Data from a program cannot be given to other processes.", "Use workers=1, or save them to a file.")
    if asked is not None and asked > 1 and sys.platform == "win32":
        raise RecipeError("Windows has no locks for folders, so that processes could not share a search.", "Use --workers 1.")
    if asked is not None:
        return asked
    if not is_named or sys.platform == "win32" or prepared.device.type != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, LAG)


def _begun(out: str | Path | Iterable[Path], asked: Mapping[str, Any]) -> Store:
    """Return the folder of a search, which is begun or continued; of several names the first that is free is taken."""
    path = Path(out).expanduser() if isinstance(out, str | Path) else next(path for path in out if not path.exists())
    store = Store(path)
    store.begin(asked)
    return store


def _affordable(job: Job, minutes: float, seeds: int, workers: int, log: Callable[[str], object]) -> int:
    """Return how many trials take about so many minutes, by what the default takes, which is trained now."""
    do_all(job, Plan(1, ()), lambda *_: None)
    results = job.store.results()
    one = sum(results[Task(0, rung)].seconds for rung in range(len(RUNGS)))
    left = 60 * minutes * workers / max(one, 1e-3) - 2 * seeds - 1
    trials = _LEAST
    while work(trials + 1) <= left and trials < 10_000:
        trials += 1
    if left < work(_LEAST):
        needed = one * (work(_LEAST) + 2 * seeds + 1) / 60 / workers
        raise RecipeError(
            f"{minutes:g} min is too short: a training takes {one:,.1f} s.", f"Give at least {needed:.1f} min, or fewer --seeds."
        )
    log(f"{minutes:g} min is enough for {trials:,} trials: a training takes {one:,.1f} s")
    return trials


def _do(job: Job, plan: Plan, workers: int, log: Callable[[str], object]) -> None:
    total = plan.trainings
    if not job.store.open_tasks(plan):
        return
    log(f"{plan.trials} trials, {workers} at a time, then {2 * len(plan.seeds)} trainings with fresh seeds")
    with progress("Search", round(100 * total)) as advance:
        advance(100 * _done(job, plan))

        def report(share: float, task: Task | None) -> None:
            advance(100 * share)
            if task is not None and task.seed is None and task.rung == LAST:
                found = job.store.results()[task]
                log(f"trial {task.trial}: {_told(found, job)}")

        if workers == 1:
            do_all(job, plan, report)
        else:
            work_by(workers, job, plan, report)


def _told(found: Result, job: Job) -> str:
    if found.score is None:
        return f"failed: {found.error}"
    name, sign = monitored(judge_of(job.recipe))
    return f"validation {name} {-sign * found.score:.4g} after {counted(found.epochs, 'epoch')}"


def _done(job: Job, plan: Plan) -> float:
    """Return how much of the work of a plan is done: what was finished before an interruption."""
    finished = [task for task in job.store.results() if task.trial < plan.trials]
    seeds = [Task(trial, LAST, seed) for trial in range(plan.trials) for seed in plan.seeds]
    return sum(map(share_of, finished)) + sum((job.store.place(task) / RESULT).exists() for task in seeds)


def judge_of(recipe: Recipe) -> str:
    """Return the name of the validation score that judges trials."""
    return "loss" if recipe.monitor == "auto" else recipe.monitor


def _finish(job: Job, plan: Plan) -> Search:
    """Compare, draw, and write what was found."""
    store, results = job.store, job.store.results()
    best = plan.best(store.scores())
    trials = tuple(results[max(task for task in results if task.trial == trial)] for trial in range(plan.trials))
    judge = judge_of(job.recipe)
    name, sign = monitored(judge)
    comparison: Comparison | None = None
    valid: tuple[Validation, ...] = ()
    if best:
        runs = [store.place(Task(trial, LAST, seed)) for trial in (0, best) for seed in plan.seeds]
        comparison, valid = named(compare(*runs), best), validations(store, plan, best, name, sign)
    first = [(results[Task(trial, 0)].values or job.default, results[Task(trial, 0)].cost) for trial in range(plan.trials)]
    points = [(values, cost) for values, cost in first if values is not None]
    mattered = influences(job.space, [values for values, _ in points], [cost for _, cost in points])
    recipe = _without_fixed(job.recipe.updated(results[Task(best, 0)].values, f"trial {best}"))
    found = Search(job.space, trials, best, judge, recipe, comparison, valid, mattered, store.folder, {})
    found = Search(**{**vars(found), "result": _result(found, plan, results)})
    _write(found, store)
    return found


def _without_fixed(recipe: Recipe) -> Recipe:
    """Return a recipe without what was fixed so that trials do not depend on the machine."""
    defaults = Recipe().flat()
    fixed = [name for name in ("device", "threads") if recipe.origin(name) == _SEARCH]
    return recipe.updated({name: defaults[name] for name in fixed}, DEFAULT)


def _result(found: Search, plan: Plan, results: Mapping[Task, Result]) -> dict[str, Any]:
    """Return what result.json holds."""
    listed = [
        {
            "trial": trial,
            "values": dict(found.trials[trial].values),
            "rungs": [results[task].model_dump() for task in sorted(results) if task.trial == trial],
        }
        for trial in range(plan.trials)
    ]
    whole: dict[str, Any] = finite(
        {
            "judge": found.judge,
            "space": {name: str(axis) for name, axis in found.space.items()},
            "best": found.best,
            "values": dict(found.trials[found.best].values),
            "is_better": found.is_better,
            "verdict": list(found.verdict),
            "comparison": None if found.comparison is None else found.comparison.to_json(),
            "validation": in_json(found.validations),
            "influences": in_json(found.influences),
            "seeds": list(plan.seeds),
            "trials": listed,
            "recipe": found.recipe.model_dump(mode="json"),
        }
    )
    return whole


def _write(found: Search, store: Store) -> None:
    from epochal.figures.search import trials_figure
    from epochal.figures.style import write

    head = "".join(f"# {line}\n" for line in found.verdict)
    write_text(found.recipe_file, f"{head}{found.recipe.to_toml(only_given=True)}")
    figures = store.folder / "figures"
    with write_errors(figures):
        figures.mkdir(exist_ok=True)
    _, sign = monitored(found.judge)
    scores = [None if one.score is None else -sign * one.score for one in found.trials]
    reached = {task.trial for task in store.results() if task.rung == LAST}
    complete = [trial in reached for trial in range(len(scores))]
    figure = trials_figure(scores, complete, found.best, f"validation {found.judge}", found.comparison, higher=sign > 0)
    write(figure, figures / FIGURE)
    write_json(store.folder / RESULT, with_checksum(dict(found.result)))
