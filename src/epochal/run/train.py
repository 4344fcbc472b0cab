"""Train: from data to a model, its scores on data it never saw, and a folder with all results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from epochal.bundle import Bundle
from epochal.checks.seen import keys_of, write_seen
from epochal.cores import sharing_cores
from epochal.data.examples import group_numbers
from epochal.data.inputs.table.rule import TableRule
from epochal.data.load import Data
from epochal.data.spec import DataSpec
from epochal.device import using_threads
from epochal.evaluation.advice import advice
from epochal.evaluation.assessment import Assessment, assess, slices_of
from epochal.evaluation.evaluate import Evaluation, evaluate
from epochal.evaluation.folds import CrossValidation
from epochal.evaluation.importance import Importance, importance, takes_long
from epochal.evaluation.label_errors import LabelErrors
from epochal.evaluation.labels import LearningCurve
from epochal.evaluation.named import Metrics, all_metrics
from epochal.evaluation.repeats import Repeats
from epochal.io.checksums import with_checksum
from epochal.io.files import finite, remove_directory, write_errors, write_json, write_text
from epochal.models.summary import Summary
from epochal.predict import Input, Predictions
from epochal.progress import silent
from epochal.recipe import Recipe, as_recipe
from epochal.run.curve import Plan
from epochal.run.curve import measure as measure_curve
from epochal.run.curve import plan as plan_curve
from epochal.run.folder import CHECKPOINTS, EXAMPLES, FIGURES, LABELS, METRICS, MODEL, PREDICTIONS, REPORT, RESULT, check_free, new_run
from epochal.run.folds import FoldPlan, cross_validate, in_result, plan_folds
from epochal.run.label_errors import CheckPlan, find_label_errors, plan_check
from epochal.run.label_errors import check as check_labels
from epochal.run.predictions import write_predictions
from epochal.run.prepare import Prepared, prepare
from epochal.run.repeats import RepeatPlan, plan_repeats, train_repeats
from epochal.run.report import keep, write_examples, write_report
from epochal.run.thresholds import with_thresholds
from epochal.shown import Rows, Shown
from epochal.tasks.losses import LossFunction
from epochal.training.checkpoint import Checkpoints
from epochal.training.loop import TrainingHistory, fit
from epochal.training.optim import MakeOptimizer
from epochal.training.own import Own, names_of
from epochal.training.records import Started, Watcher
from epochal.training.schedule import ScheduleFunction
from epochal.user_code import concise
from epochal.watch.console import Console
from epochal.watch.metrics_file import MetricsFile
from epochal.watch.progress_file import ProgressFile


@dataclass(frozen=True, repr=False)
class Run(Shown):
    """A finished experiment: the model, its settings, its data, and how good it is on data it never saw.

    `valid` and `test` hold the outputs and targets of each example; they are `None` where there are no such data. `seconds` is the time
    of each phase. `folder` is `None` where nothing was written. `importance` says how much the model relies on each column; `None` where
    inputs are not rows, or have very many columns. `label_errors` are the training labels, or values, that are likely wrong. `curve` is the
    learning curve, if it was asked for. With folds, `folds` is what cross-validation measured, and
    `out_of_fold` has the outputs and targets of the same examples, in the order of the source. `repeats` is what the same settings reached
    with several seeds, if that was asked for. `assessment` is all else that is said of
    answers on test data, or without these on validation data.
    """

    bundle: Bundle
    recipe: Recipe
    data: Data
    fit: TrainingHistory
    valid: Evaluation | None
    test: Evaluation | None
    seconds: Mapping[str, float]
    folder: Path | None
    result: Mapping[str, Any]
    importance: Importance | None = None
    label_errors: LabelErrors | None = None
    curve: LearningCurve | None = None
    folds: CrossValidation | None = None
    out_of_fold: Evaluation | None = None
    repeats: Repeats | None = None
    assessment: Assessment | None = None

    def _title(self) -> str:
        return f"{self.recipe.model.name} on {self.data.name}, {len(self.fit.epochs)} epochs in {self.seconds.get('total', 0.0):.3g} s"

    def _rows(self) -> Rows:
        judged = self.out_of_fold if self.test is None else self.test
        lines = () if judged is None else advice(judged, self.data.spec, self.recipe)
        return [
            ("test", "there was no test data" if self.test is None else str(self.test)),
            *(() if self.folds is None else [("folds", self.folds.headline())]),
            *(() if self.repeats is None else [("repeats", self.repeats.headline())]),
            *(("" if number else "advice", words) for number, words in enumerate(lines)),
            *(() if self.curve is None else [("labels", self.curve.outlook())]),
            *(() if self.label_errors is None else [("train", str(self.label_errors))]),
            ("model", self.fit.finished.kept_weights()),
            ("folder", "none: nothing was written" if self.folder is None else str(self.folder)),
        ]

    @concise
    def predict(self, what: Input | Sequence[Input], *, unreadable: Literal["stop", "count"] = "stop") -> Predictions:
        """Predict one input or many; see `Bundle.predict`."""
        return self.bundle.predict(what, unreadable=unreadable)

    def summary(self) -> Summary:
        """Return the layers with output shapes, parameters and FLOPs."""
        return self.bundle.summary()


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
        console = None if quiet else stack.enter_context(Console())
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
    check_free(out)
    prepared = prepare(source, recipe, own or Own(), model=model, data_dir=data_dir, log=log)
    plan = plan_curve(prepared, model) if learning_curve else None
    checking = plan_check(prepared, model) if label_check else None
    folding, repeating = plan_folds(prepared, model, log), plan_repeats(prepared, model, log)
    with new_run(out, source, data_dir, prepared, log) as folder:
        done = with_folds(complete(prepared, folder, watchers, log), folding, log)
        done = with_repeats(done, repeating, log)
    done = done if checking is None else _with_check(done, checking, log)
    return done if plan is None else _with_curve(done, plan, log)


def complete(
    prepared: Prepared,
    folder: Path | None,
    watchers: Sequence[Watcher],
    log: Callable[[str], object],
    begun: Callable[[Started], object] | None = None,
) -> Run:
    """Train, from the last checkpoint in `folder` if there is one; test; and fill the folder. `begun` is as in `fit`."""
    recipe, data, clock = prepared.recipe, prepared.data, prepared.clock
    with using_threads(recipe.threads_per_step):
        fitted = _fit(prepared, folder, watchers, log, begun)
        prepared.bundle.model.eval()
        # As it was when training ended: the last bits of results depend on the number of threads.
        torch.set_num_threads(fitted.finished.threads[-1].threads if fitted.finished.threads else recipe.threads_per_step)
        bundle = with_thresholds(replace(prepared.bundle, seen=keys_of(data)), prepared, log)
        if folder is not None:
            # First: if anything fails from here on, the weights are saved.
            _save_model(bundle, folder)
        clock.lap("train")
        valid, test = _evaluate(prepared, bundle.spec)
        relied, wrong = _importance(prepared, log), find_label_errors(prepared, fitted.labels)
        clock.lap("evaluate")
        evaluated, sums = {"valid": valid, "test": test}, None
        if folder is not None:
            sums = write_predictions(folder, evaluated, data, bundle)
            if wrong is not None:
                write_text(folder / LABELS, wrong.to_csv())
            _draw(folder / FIGURES, fitted, test, data, relied, log)
            keep(partial(write_examples, folder, (valid, test), wrong, data, recipe), log)
        clock.lap("keep")
        assessment = assess(valid, test, slices=slices_of(valid, test, data))
        result = _result(folder, prepared, fitted, evaluated) | {
            "data": finite(bundle.spec.model_dump(mode="json")),
            "predictions": sums,
            "assessment": None if assessment is None else finite(assessment.to_json()),
            "importance": None if relied is None else finite(relied.to_json()),
            "label_errors": None if wrong is None else wrong.to_json(),
        }
        if folder is not None:
            keep(partial(write_report, folder, result, recipe), log)
            write_json(folder / RESULT, with_checksum(result))
    return Run(bundle, recipe, data, fitted, valid, test, clock.seconds, folder, result, relied, wrong, assessment=assessment)


def with_folds(done: Run, plan: FoldPlan | None, log: Callable[[str], object]) -> Run:
    """Cross-validate a run that is whole, if there is a plan for it, and add what that measures to its folder, fold by fold."""
    if plan is None:
        return done

    def found(folds: CrossValidation, evaluation: Evaluation, wrong: LabelErrors | None) -> None:
        nonlocal done
        if folds.is_complete and done.folder is not None:
            judged = (evaluation, None) if done.test is None else (done.valid, done.test)
            keep(partial(write_examples, done.folder, judged, wrong, plan.shown(), done.recipe), log)
            if wrong is not None:
                write_text(done.folder / LABELS, wrong.to_csv())
        measured, errors = in_result(plan, folds, evaluation, wrong), wrong or done.label_errors
        done = _extended(done, measured, log, folds=folds, out_of_fold=evaluation, label_errors=errors)

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


def _fit(
    prepared: Prepared,
    folder: Path | None,
    watchers: Sequence[Watcher],
    log: Callable[[str], object],
    begun: Callable[[Started], object] | None,
) -> TrainingHistory:
    train_on = partial(fit, prepared.learner.model, prepared.learner.data, prepared.recipe, **vars(prepared.own), begun=begun)
    if folder is None:
        return train_on(watchers=watchers)
    checkpoints = Checkpoints(folder / CHECKPOINTS, prepared.recipe.checkpoint_every, log)
    if not checkpoints.found():
        # Training starts from the first step: metrics of an earlier attempt are void.
        with write_errors(folder):
            (folder / METRICS).unlink(missing_ok=True)
    with MetricsFile(folder / METRICS) as metrics:
        return train_on(watchers=(*watchers, metrics, ProgressFile(folder)), checkpoints=checkpoints)


def _save_model(bundle: Bundle, folder: Path) -> None:
    for old in (folder / PREDICTIONS, folder / MODEL):
        if old.exists():
            remove_directory(old)
    with write_errors(folder):
        for name in (EXAMPLES, REPORT):
            (folder / name).unlink(missing_ok=True)
    bundle.save(folder / MODEL)
    assert bundle.seen is not None
    write_seen(folder, bundle.seen)


def _evaluate(prepared: Prepared, spec: DataSpec) -> tuple[Evaluation | None, Evaluation | None]:
    """Evaluate the trained model, whose task is that of `spec`, on the validation and on the test data."""
    recipe, own, (model, data) = prepared.recipe, prepared.own, prepared.learner
    reported = spec.task.reported_loss(model, recipe.loss, own.loss)
    metrics = all_metrics(recipe.metrics, recipe.monitor, own.metrics, spec.task)
    measure = partial(evaluate, model, spec=spec, loss=reported, device=prepared.device, batch_size=recipe.eval_batch_size, metrics=metrics)
    # With the precision of training, which does not keep the outputs of each epoch.
    valid = None if data.valid is None else measure(data.valid, precision=recipe.precision, groups=group_numbers(data.valid))
    return valid, None if data.test is None else measure(data.test, label="Testing", groups=group_numbers(data.test))


def _importance(prepared: Prepared, log: Callable[[str], object]) -> Importance | None:
    """Measure how much the trained model relies on each column: on test data, or else on validation data."""
    recipe, data, own = prepared.recipe, prepared.data, prepared.own
    split = "test" if data.test is not None else "valid"
    if split not in data.splits:
        return None
    rule = data.spec.input
    if isinstance(rule, TableRule) and takes_long(len(rule.columns), len(data.splits[split])):
        log(f"note: the importance of {len(rule.columns):,} columns is not measured: it would take long")
        return None
    model = prepared.bundle.model
    loss = data.spec.task.reported_loss(model, recipe.loss, own.loss)
    measure = partial(importance, model, data.splits[split], data.train, data.spec, loss, device=prepared.device)
    return measure(split=split, seed=recipe.seed, batch_size=recipe.eval_batch_size)


def _draw(
    folder: Path,
    fitted: TrainingHistory,
    test: Evaluation | None,
    data: Data,
    relied: Importance | None,
    log: Callable[[str], object],
) -> None:
    from epochal.figures import draw_all
    from epochal.figures.fonts import boxes

    with write_errors(folder):
        folder.mkdir(exist_ok=True)
    draw_all(folder, fitted.epochs, test, data.test, data.spec, data.train, relied)
    if test is not None and (note := boxes(data.outputs)):
        log(f"note: {note}")


def _result(folder: Path | None, prepared: Prepared, fitted: TrainingHistory, evaluated: Mapping[str, Evaluation | None]) -> dict[str, Any]:
    """Return what result.json holds."""
    recipe, finished, summary = prepared.recipe, fitted.finished, prepared.summary
    result = {
        "run": None if folder is None else str(folder),
        "recipe": recipe.model_dump(mode="json"),
        "model": {"name": recipe.model.name, "parameters": summary.parameters, "flops": summary.flops},
        "epochs": len(fitted.epochs),
        "best_epoch": finished.best_epoch,
        "ended_by": finished.reason,
        "rewinds": [asdict(rewind) for rewind in finished.rewinds],
        "threads": [asdict(change) for change in finished.threads],
        "untraced": finished.untraced,
        **{split: None if evaluation is None else evaluation.to_json() for split, evaluation in evaluated.items()},
        "cross_validation": None if prepared.penalty is None else prepared.penalty.evaluation.to_json(),
        "own": names_of(prepared.own),
        "optimizer": fitted.optimizer,
        "training_seconds": finished.seconds,
        "seconds": prepared.clock.seconds,
    }
    whole: dict[str, Any] = finite(result)
    return whole
