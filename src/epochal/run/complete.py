"""The heart of a run that is prepared: train, test once, and fill the folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from epochal.bundle import Bundle
from epochal.checks.seen import keys_of, write_seen
from epochal.data.examples import group_numbers
from epochal.data.inputs.table.rule import TableRule
from epochal.data.load import Data
from epochal.data.spec import DataSpec
from epochal.device import using_threads
from epochal.distributed.ranks import ranks
from epochal.errors import BundleError
from epochal.evaluation.advice import advice
from epochal.evaluation.assessment import Assessment, assess, slices_of
from epochal.evaluation.evaluate import Evaluation, evaluate
from epochal.evaluation.folds import CrossValidation
from epochal.evaluation.importance import Importance, importance, takes_long
from epochal.evaluation.label_errors import LabelErrors
from epochal.evaluation.labels import LearningCurve
from epochal.evaluation.named import all_metrics
from epochal.evaluation.repeats import Repeats
from epochal.io.checksums import with_checksum
from epochal.io.files import finite, remove_directory, write_errors, write_json, write_text
from epochal.models.summary import Summary
from epochal.predict import Input, Predictions
from epochal.recipe import Recipe
from epochal.run.folder import (
    CHECKPOINTS,
    EXAMPLES,
    FIGURES,
    LABELS,
    METRICS,
    MODEL,
    PREDICTIONS,
    REPORT,
    RESULT,
)
from epochal.run.label_errors import find_label_errors
from epochal.run.predictions import write_predictions
from epochal.run.prepare import Prepared
from epochal.run.report import keep, write_examples, write_report
from epochal.run.thresholds import with_thresholds
from epochal.shown import Page, Rows, Shown, counted
from epochal.training.checkpoint import Checkpoints
from epochal.training.loop import TrainingHistory, fit
from epochal.training.own import names_of
from epochal.training.records import Started, Watcher
from epochal.user_code import concise
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
    with several seeds, if that was asked for. `assessment` is all else that is said of answers on test data, or without these out of fold,
    or on validation data.
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
        epochs, seconds = counted(len(self.fit.epochs), "epoch"), self.seconds.get("total", 0.0)
        return f"{self.recipe.model.name} on {self.data.name}, {epochs} in {seconds:.3g} s"

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

    def _below(self) -> str:
        return self.fit.curves()

    @property
    def report(self) -> Page:
        """The report, which a notebook shows. Raises `BundleError` if nothing was written."""
        if self.folder is None:
            raise BundleError("The run has no folder, and so no report.", 'Train with a folder: out="runs/mine".')
        return Page(self.folder / REPORT)

    @concise
    def predict(self, what: Input | Sequence[Input], *, unreadable: Literal["stop", "count"] = "stop") -> Predictions:
        """Predict one input or many; see `Bundle.predict`."""
        return self.bundle.predict(what, unreadable=unreadable)

    def summary(self) -> Summary:
        """Return the layers with output shapes, parameters and FLOPs."""
        return self.bundle.summary()


def complete(
    prepared: Prepared,
    folder: Path | None,
    watchers: Sequence[Watcher],
    log: Callable[[str], object],
    begun: Callable[[Started], object] | None = None,
) -> Run:
    """Train, from the last checkpoint in `folder` if there is one; test; and fill the folder. `begun` is as in `fit`.

    Of several processes all train and test; all else is done by the first.
    """
    recipe, data, clock = prepared.recipe, prepared.data, prepared.clock
    with using_threads(recipe.threads_per_step):
        fitted = _fit(prepared, folder, watchers, log, begun)
        if not (here := ranks()).leads:
            # The first process writes.
            folder = None
        prepared.bundle.model.eval()
        # As it was when training ended: the last bits of results depend on the number of threads.
        torch.set_num_threads(fitted.finished.threads[-1].threads if fitted.finished.threads else recipe.threads_per_step)
        bundle = with_thresholds(replace(prepared.bundle, seen=keys_of(data)), prepared, log)
        if folder is not None:
            # First: if anything fails from here on, the weights are saved.
            _save_model(bundle, folder)
        clock.lap("train")
        valid, test = _evaluate(prepared, bundle.spec)
        if not here.leads:
            return Run(bundle, recipe, data, fitted, valid, test, clock.seconds, None, {})
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
    if not ranks().leads:
        return train_on(watchers=watchers, checkpoints=checkpoints)
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
    measure = partial(measure, ranks=ranks())
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
