"""Repeats of a run: the same settings trained on the same split with the seeds that follow the run's own, which is the first of them.

repeats/2/    the second, a whole run of its own, with the next seed; repeats/3/ is the third

Finished ones are kept, so that an interruption loses nothing but the steps since the last checkpoint, and the run can be resumed.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn

from epochal.errors import BundleError, DataError
from epochal.evaluation.by_example import as_answers
from epochal.evaluation.evaluate import Evaluation
from epochal.evaluation.repeats import Repeats, measure_repeats
from epochal.io.files import remove_unfinished, write_errors
from epochal.io.lock import exclusive_lock
from epochal.progress import progress, silent
from epochal.recipe import Recipe, save_recipe
from epochal.run.folder import DATA, RECIPE, RESULT, new_run, read_json, read_recipe, tidy
from epochal.run.predictions import read_predictions
from epochal.run.prepare import Clock, Prepared, settle
from epochal.shown import counted
from epochal.training.records import EpochDone, Record, Started, Watcher

REPEATS = "repeats"

_FIX = "Remove this folder: then this repeat is trained again."

# Repeats that take longer than so many seconds each say how long all that are left do.
_LONG = 2.0


@dataclass(frozen=True)
class RepeatPlan:
    """What repeats need from before training: a run as it was `prepared`, and the user's `own` module, untrained, if it is one."""

    prepared: Prepared
    own: nn.Module | None


# Trains and tests what is prepared, from the last checkpoint in a folder if there is one; fills the folder; the last is as in `fit`.
TrainOne: TypeAlias = Callable[[Prepared, Path | None, Watcher, Callable[[Started], object] | None], Evaluation | None]


def plan_repeats(prepared: Prepared, model: nn.Module | None, log: Callable[[str], object]) -> RepeatPlan | None:
    """Return what the repeats of a run need that has not begun; `None` if its recipe asks for none.

    `model` is the user's own module, as it was passed. Raises `DataError` where there are no test data.
    """
    recipe = prepared.recipe
    if recipe.repeats is None:
        return None
    if prepared.data.test is None:
        raise DataError(
            "Repeats are measured on test data, and there would be none.", "Split some off (--test 0.2), or do without --repeats."
        )
    log(
        f"repeats: {recipe.repeats} trainings with seeds {recipe.seed} to {_seed(recipe, recipe.repeats)}, all on the split of "
        f"split seed {recipe.split_seed}"
    )
    if model is not None:
        log("note: each repeat begins with the weights that your module has: what other initial weights would change is not measured")
    return RepeatPlan(prepared, copy.deepcopy(model))


def finished_repeats(folder: Path, recipe: Recipe) -> dict[int, Path]:
    """Return the folders of the finished repeats of a run, by their numbers from 2. Raises `BundleError` for damaged ones."""
    places = {number: folder / REPEATS / str(number) for number in range(2, (recipe.repeats or 0) + 1)}
    # Of a run that was made longer, some may not have been yet.
    return {number: place for number, place in places.items() if (place / RESULT).exists() and read_recipe(place).epochs == recipe.epochs}


def train_repeats(
    plan: RepeatPlan,
    first: Evaluation,
    folder: Path | None,
    seconds: float,
    train_one: TrainOne,
    log: Callable[[str], object],
    found: Callable[[Repeats], object],
) -> None:
    """Train each repeat that is not finished in the run's `folder`; call `found` with what all finished ones measured, each time.

    `first` is what the run itself scored on test data. Its own training took so many `seconds`, by which it is said how long this takes.
    """
    recipe, count = plan.prepared.recipe, plan.prepared.recipe.repeats
    assert count is not None
    finished = {} if folder is None else finished_repeats(folder, recipe)
    outputs = [first.outputs.cpu()]
    with progress("Repeats", (count - 1) * recipe.epochs) as advance:
        for number in range(2, count + 1):
            done = 0

            def epoch_done(record: Record) -> None:
                nonlocal done
                if isinstance(record, EpochDone):
                    advance()
                    done += 1

            if number in finished:
                outputs.append(_read(finished[number], plan))
            else:
                if seconds > _LONG:
                    log(f"repeat {number} of {count}: all that are left take about {(count - number + 1) * seconds:,.0f} s")
                begun = time.perf_counter()
                outputs.append(_trained(plan, number, folder, train_one, epoch_done))
                seconds = time.perf_counter() - begun
            advance(recipe.epochs - done)
            models = [as_answers(first.task, one, first.targets.cpu(), first.groups) for one in outputs]
            found(measure_repeats(models, [_seed(recipe, place) for place in range(1, number + 1)], count))


def _trained(plan: RepeatPlan, number: int, folder: Path | None, train_one: TrainOne, watcher: Watcher) -> Tensor:
    """Return the outputs of a repeat on test data, which is trained from the beginning, or from its last checkpoint."""
    recipe = plan.prepared.recipe
    changes = {"seed": _seed(recipe, number), "data.split_seed": recipe.split_seed, "repeats": None, "folds": None}
    asked = recipe.updated(changes, "repeat")
    prepared = settle(asked, plan.prepared.data, plan.prepared.own, copy.deepcopy(plan.own), clock=Clock())
    with ExitStack() as stack:
        if folder is None:
            tested = train_one(prepared, None, watcher, None)
        elif not (place := folder / REPEATS / str(number)).exists():
            described = read_json(folder / DATA, source=str | None, data_dir=str | None)
            # How to go on is said of the whole run.
            stack.enter_context(new_run(place, described["source"], described["data_dir"], prepared, silent))
            tested = train_one(prepared, place, watcher, None)
        else:
            stack.enter_context(exclusive_lock(place))
            if (epochs := read_recipe(place).epochs) > recipe.epochs:
                raise BundleError(f"{place} was trained for {counted(epochs, 'epoch')}, and {folder} for {recipe.epochs}.", _FIX)
            remove_unfinished(place)

            def begun(_: Started) -> None:
                with write_errors(place):
                    (place / RESULT).unlink(missing_ok=True)
                save_recipe(place / RECIPE, prepared.recipe)

            stack.enter_context(tidy(place, [], silent))
            tested = train_one(prepared, place, watcher, begun)
    assert tested is not None
    return tested.outputs.cpu()


def _read(place: Path, plan: RepeatPlan) -> Tensor:
    """Return the outputs that a finished repeat has saved. Raises `BundleError`."""
    tensors, test = read_predictions(place, _FIX), plan.prepared.data.test
    assert test is not None
    if not torch.equal(tensors["positions"], test.positions):
        raise BundleError(f"{place} was tested on other examples than the run itself.", _FIX)
    return tensors["outputs"]


def _seed(recipe: Recipe, number: int) -> int:
    """Return the seed of a repeat; the run itself is number 1."""
    return (recipe.seed + number - 1) % 2**63
