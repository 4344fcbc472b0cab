"""Train: from data to a model, its scores on data it never saw, and a folder with all results."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from epochal.cores import sharing_cores
from epochal.distributed.ranks import ranks
from epochal.errors import RecipeError
from epochal.evaluation.evaluate import Evaluation
from epochal.evaluation.folds import CrossValidation
from epochal.evaluation.label_errors import LabelErrors
from epochal.evaluation.named import Metrics
from epochal.evaluation.repeats import Repeats
from epochal.io.checksums import with_checksum
from epochal.io.files import finite, remove_unfinished, write_json, write_text
from epochal.io.lock import exclusive_lock
from epochal.progress import silent
from epochal.recipe import Recipe, as_recipe
from epochal.run.complete import Run, complete
from epochal.run.curve import Plan
from epochal.run.curve import measure as measure_curve
from epochal.run.curve import plan as plan_curve
from epochal.run.folder import (
    FIGURES,
    LABELS,
    RESULT,
    check_free,
    new_run,
    tidy,
)
from epochal.run.folds import FoldPlan, assess_answers, cross_validate, in_result, keep_answers, plan_folds
from epochal.run.label_errors import CheckPlan, find_label_errors, plan_check
from epochal.run.label_errors import check as check_labels
from epochal.run.prepare import Prepared
from epochal.run.reopen import resolved_recipe
from epochal.run.repeats import RepeatPlan, plan_repeats, train_repeats
from epochal.run.report import keep, write_examples, write_report
from epochal.run.together import begun_before, prepare_together, reopen_together
from epochal.tasks.losses import LossFunction
from epochal.training.optim import MakeOptimizer
from epochal.training.own import Own
from epochal.training.records import Started, Watcher
from epochal.training.schedule import ScheduleFunction
from epochal.user_code import concise
from epochal.watch.notebook import screen


@concise
def train(
    data: Any,
    recipe: Recipe | str | Path | Mapping[str, Any] | None = None,
    *,
    model: str | nn.Module | Mapping[str, Any] | None = None,
    loss: str | LossFunction | Mapping[str, Any] | None = None,
    optimizer: str | MakeOptimizer | Mapping[str, Any] | None = None,
    schedule: str | ScheduleFunction | Mapping[str, Any] | None = None,
    metrics: Metrics = None,
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
    watchers: Sequence[Watcher] = (),
    quiet: bool = False,
    learning_curve: bool = False,
    label_check: bool = False,
    **settings: Any,
) -> Run:
    """Load and split data, build a model, train it, test it once, and save everything.

    `data` is anything that `load` takes. `recipe` is a preset's name, a TOML file or a `Recipe`; `settings` override it, by the
    names of `Recipe` (`epochs=3`, `lr=0.1`, `schedule="cosine"`). `model` is a name, "my_file.py:Net" or an `nn.Module` that
    takes preprocessed inputs (float32) and is trained in place, from the weights that it has. `loss`, `optimizer` and
    `schedule` may be functions, as in `fit`; so may `metrics`, which are measured on validation and test data: names of usual ones,
    functions of (predictions, targets), or such functions by name (see `evaluation/named.py`). `out` names the run folder, which must not
    exist yet; without it nothing is written. What was found, notes and progress are printed, unless `quiet`; each of `watchers` gets
    every record too, such as `epochal.TensorBoard("logs")`, `epochal.MLflow()` or a function of your own. With `learning_curve`, models
    are then trained on several draws of an eighth, a quarter and half of the training examples, and evaluated on the same test examples:
    `Run.curve` has their scores, and what twice as many labels would bring. With `folds=5`, a setting, models are cross-validated: see
    `Run.folds`. With `repeats=3`, a setting, three are trained in all, on the same split with seeds that follow each other: see
    `Run.repeats`. With `label_check`, up to eight more are trained on labels of which 2 % are changed on purpose, until a standard error is
    1.5 points: `Run.label_errors.check` says how many of these come back, and what the list is worth.

    Raises an `EpochalError` for anything that cannot work, before the first step; a folder begun is then removed.
    """
    given = {"model": model, "loss": loss, "optimizer": optimizer, "schedule": schedule}
    by_name = {name: value for name, value in given.items() if isinstance(value, str | Mapping)}
    own: dict[str, Any] = {name: value for name, value in given.items() if name not in by_name}
    net: nn.Module | None = own.pop("model", None)
    if metrics is not None and not isinstance(metrics, Mapping):
        listed = [metrics] if isinstance(metrics, str) else list(metrics)
        settings["metrics"] = [one for one in listed if isinstance(one, str)]
        metrics = [one for one in listed if not isinstance(one, str)]
    resolved = as_recipe(recipe).updated({**settings, **by_name}, "given")
    with ExitStack() as stack:
        console = None if quiet or not ranks().leads else stack.enter_context(screen())
        return run(
            data,
            resolved,
            Own(**own, metrics=metrics or None),
            model=net,
            out=None if out is None else Path(out),
            data_dir=data_dir,
            watchers=watchers if console is None else (console, *watchers),
            log=silent if console is None else console.say,
            learning_curve=learning_curve,
            label_check=label_check,
        )


@sharing_cores()
def run(
    source: Any,
    recipe: Recipe,
    own: Own | None = None,
    *,
    model: nn.Module | None = None,
    out: Path | Iterable[Path] | None = None,
    data_dir: str | Path | None = None,
    watchers: Sequence[Watcher] = (),
    log: Callable[[str], object] = silent,
    learning_curve: bool = False,
    label_check: bool = False,
) -> Run:
    """Do what `train` does, with a complete recipe. `log` is called with messages about what was found and chosen.

    Of several names for the run folder, `out`, the first that is free is taken.
    """
    here, own = ranks(), own or Own()
    if here.size > 1 and (learning_curve or label_check):
        wanted = "a learning curve" if learning_curve else "a label check"
        raise RecipeError(f"Several processes train one model: {wanted} trains several.", "Leave it out, or use one process.")
    search, names = itertools.tee(out) if isinstance(out, Iterable) else (out, out)
    with here.together():
        with ExitStack() as stack:
            folder = begun_before(search, here)
            if folder is not None:
                prepared = _gone_on(folder, stack, source, own, model, data_dir, log)
            else:
                here.tell(lambda: check_free(names))
                prepared = prepare_together(source, recipe, own, model=model, data_dir=data_dir, log=log)
            plan = plan_curve(prepared, model) if learning_curve else None
            checking = plan_check(prepared, model) if label_check else None
            folding, repeating = plan_folds(prepared, model, log), plan_repeats(prepared, model, log)
            if folder is None:
                found = stack.enter_context(new_run(names, source, data_dir, prepared, log)) if here.leads else None
                told = here.tell(lambda: None if found is None else str(found))
                folder = None if told is None else Path(told)
            done = with_folds(complete(prepared, folder, watchers, log), folding, log)
            done = with_repeats(done, repeating, log)
        done = done if checking is None else _with_check(done, checking, log)
        return done if plan is None else _with_curve(done, plan, log)


def _gone_on(
    folder: Path,
    stack: ExitStack,
    source: Any,
    own: Own,
    model: nn.Module | None,
    data_dir: str | Path | None,
    log: Callable[[str], object],
) -> Prepared:
    """Open a run again that these processes have begun before they were started again; its lock is held until `stack` is closed."""
    if ranks().leads:
        stack.enter_context(exclusive_lock(folder))
        stack.enter_context(tidy(folder, [], log))
        remove_unfinished(folder)
        log(f"{folder} goes on: its processes were started again.")
    return reopen_together(folder, resolved_recipe(folder), own, source, model, data_dir)[0]


def with_folds(done: Run, plan: FoldPlan | None, log: Callable[[str], object]) -> Run:
    """Cross-validate a run that is whole, if there is a plan for it, and add what that measures to its folder, fold by fold."""
    if plan is None:
        return done

    def found(folds: CrossValidation, evaluation: Evaluation, wrong: LabelErrors | None) -> None:
        nonlocal done
        errors, shown = wrong or done.label_errors, plan.shown()
        if wrong is None:
            # Those of the run's own training are among its training examples.
            shown = replace(shown, train=done.data.train)
        if folds.is_complete and done.folder is not None:
            judged = (evaluation, None) if done.test is None else (done.valid, done.test)
            keep(partial(write_examples, done.folder, judged, errors, shown, done.recipe), log)
            if wrong is not None:
                write_text(done.folder / LABELS, wrong.to_csv())
        assessment = assess_answers(plan, folds, evaluation)
        measured = in_result(folds, evaluation, wrong, assessment)
        if folds.is_complete and done.folder is not None:
            measured["predictions"] = done.result["predictions"] | keep_answers(plan, evaluation, done.folder)
        changes = {"folds": folds, "out_of_fold": evaluation, "label_errors": errors, "assessment": assessment or done.assessment}
        done = _extended(done, measured, log, **changes)

    cross_validate(plan, done.folder, done.fit.finished.seconds, log, found)
    return done


def with_repeats(done: Run, plan: RepeatPlan | None, log: Callable[[str], object]) -> Run:
    """Train a run that is whole again with other seeds, if there is a plan for it, and add what that measures to its folder, one by one."""
    if plan is None:
        return done

    def train_one(
        prepared: Prepared, folder: Path | None, watcher: Watcher, begun: Callable[[Started], object] | None
    ) -> Evaluation | None:
        return complete(prepared, folder, [watcher], log, begun).test

    def found(repeats: Repeats) -> None:
        nonlocal done
        done = _extended(done, {"repeats": repeats.to_json()}, log, repeats=repeats)

    assert done.test is not None
    train_repeats(plan, done.test, done.folder, done.fit.finished.seconds, train_one, log, found)
    return done


def _with_check(done: Run, plan: CheckPlan, log: Callable[[str], object]) -> Run:
    """Measure what the list of labels is worth of a run that is whole, and add that to its folder."""
    try:
        found = check_labels(plan, done.fit.labels, done.fit.finished.seconds, log)
    except BaseException:
        if done.folder is not None:
            log(f"The run itself is complete: {done.folder}")
        raise
    errors = find_label_errors(plan.prepared, done.fit.labels, found)
    assert errors is not None
    if done.folder is not None:
        write_text(done.folder / LABELS, errors.to_csv())
    return _extended(done, {"label_errors": errors.to_json()}, log, label_errors=errors)


def _with_curve(done: Run, plan: Plan, log: Callable[[str], object]) -> Run:
    """Measure the learning curve of a run that is whole, and add it to its folder: also what was measured before an interruption."""
    whole = done.valid if done.test is None else done.test
    assert whole is not None
    try:
        measure_curve(plan, whole, done.fit.finished.seconds, log)
    except BaseException:
        if done.folder is not None:
            log(f"The run itself is complete: {done.folder}")
        raise
    finally:
        curve = plan.curve()
        if curve is not None:
            if done.folder is not None:
                from epochal.figures.labels import score_by_labels
                from epochal.figures.style import write

                write(score_by_labels(curve), done.folder / FIGURES / "labels")
            done = _extended(done, {"learning_curve": curve.to_json()}, log, curve=curve)
    return done


def _extended(done: Run, measured: Mapping[str, Any], log: Callable[[str], object], **changes: Any) -> Run:
    """Return a run with what was measured after it was whole: `changes` of the run, `measured` in its result, which is written again."""
    done = replace(done, **changes, result={**done.result, **finite(measured)})
    if done.folder is not None:
        keep(partial(write_report, done.folder, done.result, done.recipe), log)
        write_json(done.folder / RESULT, with_checksum(dict(done.result)))
    return done
