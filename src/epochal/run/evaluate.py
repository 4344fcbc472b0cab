"""Evaluate: a saved model on the test data of its own run, or on others, without what it knows from training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from epochal.bundle import Bundle
from epochal.data.load import Data, load
from epochal.data.spec import DataSpec
from epochal.distributed.ranks import ranks
from epochal.errors import BundleError, DataError, UnreadableError, reason_of
from epochal.evaluation.evaluate import Evaluation
from epochal.evaluation.slices import Slices
from epochal.progress import silent
from epochal.recipe import Recipe
from epochal.run.folder import DATA, RECIPE, RESULT, read_json, read_recipe
from epochal.run.predictions import has_predictions, score_predictions
from epochal.run.prepare import load_data
from epochal.run.reopen import readable_data
from epochal.shown import are


def evaluate_run(
    folder: Path,
    data: Any = None,
    *,
    data_dir: str | Path | None = None,
    model: str | nn.Module | None = None,
    unreadable: Literal["stop", "count"] = "stop",
    include_training: bool = False,
    columns: Mapping[str, Any] | None = None,
    windows: int | None = None,
    log: Callable[[str], object] = silent,
) -> Evaluation:
    """Return how good the model that a run kept is: on its own test data, or on other `data`.

    Scores on its own test data come from the predictions that the run has saved; where there are none, the data are read and split
    again, and evaluated.

    `folder` may also be that of a bundle alone, which needs other data. Of these the test split counts if they have one, else all,
    but for the examples that the run was trained on (see `Bundle.evaluate`), unless `include_training`; `log` gets a note. Files of
    other data that cannot be read are an error; or, where `unreadable` says "count", left out, and named in the evaluation. `columns` are
    those of a table that lists files, as arguments of `load`, unless they are named as in training. Longer sounds of other data are cut
    into up to `windows` (see `Bundle.with_windows`).

    Raises `DataError` where its own data have changed, or the other data do not fit the model.
    """
    here = ranks()
    bundle = Bundle.load(folder, model, log=log)
    if windows is not None:
        if data is None:
            raise DataError(f"The test data of {folder} itself are scored as it read them.", "Name other data, or leave --windows out.")
        bundle = bundle.with_windows(windows)
    recipe = read_recipe(folder) if (folder / RECIPE).exists() else None
    loss = bundle.spec.task.reported_loss(bundle.model, None if recipe is None else recipe.loss)
    metrics = () if recipe is None else recipe.metrics
    if data is None:
        if unreadable == "count":
            raise DataError(f"The test data of {folder} itself must be complete.", "Name other data, or leave --unreadable out.")
        if has_predictions(folder):
            log(f"scored by the predictions that were saved for the test split of {bundle.spec.name}")
            return replace(score_predictions(folder, bundle, loss, metrics), slices=_own_slices(folder))
        own = here.first(lambda: own_data(folder, recipe, bundle.spec, data_dir, "Name the data to evaluate on."))
        if own.test is None:
            raise DataError(f"{folder} was trained without test data.", "Name the data to evaluate on.")
        log("note: there are no saved predictions: they are made again.")
        log(f"measured on the test split of {own.name}")
        return bundle.evaluate(own, loss, include_training=True, metrics=metrics, ranks=here)
    found = here.first(lambda: _load_other(data, data_dir, bundle.spec, unreadable, columns or {}, log))
    log(f"measured on {'the test split' if found.test is not None else 'all examples'} of {found.name}")
    evaluation = bundle.evaluate(found, loss, include_training=include_training, metrics=metrics, ranks=here)
    if evaluation.left_out:
        log(
            f"note: {evaluation.left_out:,} of its {evaluation.left_out + evaluation.count:,} examples "
            f"{'was' if evaluation.left_out == 1 else 'were'} used in training, or equal ones, and {are(evaluation.left_out)} left out; "
            "--include-training measures on them too"
        )
    elif evaluation.known:
        log(
            f"note: {evaluation.known:,} of its {evaluation.count:,} examples {'was' if evaluation.known == 1 else 'were'} used in "
            "training, or equal ones: new ones would score lower"
        )
    return replace(evaluation, unreadable=found.unmeasured)


def _own_slices(folder: Path) -> Slices | None:
    """Return how slices of the run's own test data compare, as it was found at its end. Raises `BundleError`."""
    try:
        return Slices.from_json(found) if (found := read_json(folder / RESULT, assessment=dict)["assessment"]["slices"]) else None
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{folder / RESULT} is damaged: {reason_of(error)}.", "Train again, or name the data to evaluate on.") from error


def own_data(folder: Path, recipe: Recipe | None, spec: DataSpec, data_dir: str | Path | None, fix: str) -> Data:
    """Read and split the data of a run again. Raises `DataError`, with this `fix`, where that cannot be done, or the data have changed."""
    if recipe is None:
        raise DataError(f"{folder} is a model without its run.", fix)
    kept = read_json(folder / DATA, source=str | None, excluded=list[str], corrected=list[list[str | None]])
    if kept["source"] is None:
        raise DataError(f"{folder} was trained on data from a Python program.", fix)
    with readable_data():
        found = load_data(kept["source"], recipe, data_dir, kept["excluded"], spec.input.kind, kept["corrected"])
    if found.fingerprint != spec.fingerprint:
        raise DataError(f"{kept['source']} is no longer what {folder} was trained on.", fix)
    return found


def _load_other(
    data: Any,
    data_dir: str | Path | None,
    like: DataSpec,
    unreadable: Literal["stop", "count"],
    columns: Mapping[str, Any],
    log: Callable[[str], object],
) -> Data:
    """Load data to evaluate a model on; what was left out is logged."""
    try:
        found = load(data, data_dir=data_dir, like=like, unreadable=unreadable, **columns)
    except UnreadableError as error:
        raise DataError(error.problem, "Fix, replace or remove them; or measure without them: --unreadable count.") from error
    for note in found.notes:
        log(f"note: {note}")
    return found
