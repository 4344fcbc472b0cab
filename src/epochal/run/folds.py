"""Cross-validation of a run: models that are trained as its own was, each without one fold of the data, and measured on that.

folds/3.safetensors   outputs [n, outputs] of the third model for its fold, positions int64 [n] in the source, trained: how many examples it
                      learned from; sum: SHA-256 of these
folds/training        checkpoints of the fold that is being trained

Finished folds are kept, so that an interruption loses nothing but the steps since the last checkpoint, and the run can be resumed.
"""

from __future__ import annotations

import copy
import hashlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from epochal.data.examples import Examples, group_numbers
from epochal.data.inputs.values import joined
from epochal.data.load import Data
from epochal.data.split import in_folds
from epochal.device import using_threads
from epochal.errors import BundleError, DataError, reason_of
from epochal.evaluation.assessment import Assessment
from epochal.evaluation.by_example import Answers
from epochal.evaluation.confident import confident_errors
from epochal.evaluation.evaluate import Evaluation, evaluate, score
from epochal.evaluation.folds import CrossValidation, assess_folds, cross_validation
from epochal.evaluation.label_errors import LabelErrors
from epochal.evaluation.named import all_metrics
from epochal.evaluation.slices import find_slices
from epochal.io import safe_read
from epochal.io.checksums import CHANGED
from epochal.io.files import write_bytes, write_errors
from epochal.progress import progress
from epochal.run.predictions import write_out_of_fold
from epochal.run.prepare import Clock, Prepared, settle
from epochal.shown import are, counted, few
from epochal.training.checkpoint import Checkpoints
from epochal.training.loop import fit
from epochal.training.records import EpochDone, Record

FOLDS = "folds"
_TRAINING = "training"

# Cross-validation that takes longer than so many seconds says how long after each fold.
_LONG = 2.0


@dataclass(frozen=True)
class FoldPlan:
    """What cross-validation needs from before training: a run as it was `prepared`, and the user's `own` module, untrained, if it is one.

    `examples` are all that folds are made of, and `fold` says in which each is, int64 [n].
    """

    prepared: Prepared
    own: nn.Module | None
    examples: Examples
    fold: Tensor

    @property
    def folds(self) -> int:
        """How many there are."""
        return int(self.fold.max()) + 1

    @property
    def in_order(self) -> Examples:
        """The examples in the order of the source."""
        return self.examples.take(self.examples.positions.argsort())

    def shown(self) -> Data:
        """Return the data of which the report shows examples: all that are in folds, and are judged where there are no test data."""
        examples, data = self.in_order, self.prepared.data
        return replace(data, train=examples, valid=data.valid if data.test is not None else examples, described=data.spec)


@dataclass(frozen=True)
class _Held:
    """What the model of a fold says of its examples: `outputs` [n, outputs]; `positions` int64 [n] are theirs, and `trained` is how many
    it learned from."""

    outputs: Tensor
    positions: Tensor
    trained: int


def plan_folds(prepared: Prepared, model: nn.Module | None, log: Callable[[str], object]) -> FoldPlan | None:
    """Return what the cross-validation of a run needs that has not begun; `None` if its recipe asks for none.

    `model` is the user's own module, as it was passed. Folds are made of what training and validation examples were taken from; test
    examples are in none, and nor are validation examples that the source keeps apart, which serve each of the models. Raises `DataError`
    if there are too few examples.
    """
    data, folds = prepared.data, prepared.recipe.folds
    if folds is None:
        return None
    pool = data.train
    if data.valid is not None and data.valid.part == data.train.part:
        pool = _both(data.train, data.valid)
    order = pool.positions.argsort()
    placed = replace(pool, inputs=torch.arange(len(pool))).take(order)
    fold = torch.empty(len(pool), dtype=torch.int64)
    fold[order] = in_folds(placed, folds, prepared.recipe.split_seed)
    _check_classes(pool, fold, data)
    said = f"cross-validation: {folds} folds of {len(pool):,} examples"
    if pool.groups is not None:
        said = f"cross-validation: {folds} folds of {len(pool):,} examples by groups"
    elif data.spec.task.has_classes:
        said = f"cross-validation: {folds} folds of {len(pool):,} examples, stratified by class"
    apart = {name: len(part) for name, part in data.splits.items() if part.part != pool.part or name == "test"}
    log("; ".join([said, *(f"{counted(number, f'{name} example')} {are(number)} in none" for name, number in apart.items())]))
    if data.spec.task.has_classes and (least := int(pool.targets.bincount(minlength=len(data.outputs)).min())) < folds:
        log(f"note: the smallest class has {counted(least, 'example')}, so that some of the {folds} folds have none of it")
    return FoldPlan(prepared, copy.deepcopy(model), pool, fold)


def _both(train: Examples, valid: Examples) -> Examples:
    """Return training examples, and those that were split off from them after these."""
    return replace(
        train,
        inputs=joined(train.inputs, valid.inputs),
        targets=torch.cat([train.targets, valid.targets]),
        positions=torch.cat([train.positions, valid.positions]),
    )


def _check_classes(pool: Examples, fold: Tensor, data: Data) -> None:
    """Refuse folds that hold all examples of a class: their models would never see one."""
    if not data.spec.task.has_classes:
        return
    there = torch.zeros(len(data.outputs), int(fold.max()) + 1, dtype=torch.int64)
    there.index_put_((pool.targets, fold), torch.ones_like(fold), accumulate=True)
    alone = [name for name, count in zip(data.outputs, (there > 0).sum(1).tolist(), strict=True) if count == 1]
    if alone:
        fix = "Add examples of such classes, leave them out, or do without folds."
        if pool.groups is not None:
            fix = "Put such classes into more groups, leave them out, or do without folds."
        raise DataError(f"All examples of {few(alone)} would be in one fold, whose model could not learn of them.", fix)


def cross_validate(
    plan: FoldPlan,
    folder: Path | None,
    seconds: float,
    log: Callable[[str], object],
    found: Callable[[CrossValidation, Evaluation, LabelErrors | None], object],
) -> None:
    """Train a model for each fold that is not finished in the run's `folder`; call `found` with what all finished ones measured, each time.

    At the end it also gets the labels that are likely wrong, if examples have one class each.

    The run's own training took so many `seconds`, by which it is said how long this takes.
    """
    recipe, held = plan.prepared.recipe, list[_Held]()
    place = None if folder is None else folder / FOLDS
    with progress("Cross-validation", plan.folds * recipe.epochs) as advance:
        for number in range(plan.folds):
            if (kept := _read(place, number, plan)) is None:
                if seconds > _LONG:
                    log(f"fold {number + 1} of {plan.folds}: all that are left take about {(plan.folds - number) * seconds:,.0f} s")
                begun, done = time.perf_counter(), 0

                def epoch_done(record: Record) -> None:
                    nonlocal done
                    if isinstance(record, EpochDone):
                        advance()
                        done += 1

                kept = _trained(plan, number, place, epoch_done, log)
                _write(place, number, kept)
                seconds = time.perf_counter() - begun
                advance(recipe.epochs - done)
            else:
                advance(recipe.epochs)
            held.append(kept)
            measured, evaluation = _measured(plan, held)
            found(measured, evaluation, _wrong_labels(plan, evaluation) if measured.is_complete else None)


def keep_answers(plan: FoldPlan, evaluation: Evaluation, folder: Path) -> dict[str, str]:
    """Write all answers out of fold into the run's `folder`, for comparisons; return the SHA-256 of the file."""
    fold = plan.fold[plan.examples.positions.argsort()]
    return write_out_of_fold(folder, evaluation, plan.in_order, fold, plan.prepared.data.input)


def in_result(found: CrossValidation, evaluation: Evaluation, wrong: LabelErrors | None, assessment: Assessment | None) -> dict[str, Any]:
    """Return what result.json gets: what was measured, `wrong` labels, and the `assessment`, if it is of answers out of fold."""
    values: dict[str, Any] = {"folds": found.to_json() | {"evaluation": evaluation.to_json()}}
    if wrong is not None:
        values["label_errors"] = wrong.to_json()
    if assessment is not None:
        values["assessment"] = assessment.to_json()
    return values


def assess_answers(plan: FoldPlan, found: CrossValidation, evaluation: Evaluation) -> Assessment | None:
    """Return what is known of a run without test data from all answers out of fold; `None` with test data, or while folds are missing."""
    data = plan.prepared.data
    if not found.is_complete or data.test is not None:
        return None
    answers = Answers(evaluation.task, evaluation.outputs, evaluation.predictions, evaluation.targets, evaluation.groups)
    slices = find_slices(answers, [plan.in_order], data.train, data.spec.input, data.attributes, "folds")
    return assess_folds(found, evaluation, slices)


def is_unfinished(folder: Path, folds: int | None) -> bool:
    """Whether folds are missing of a run that has finished but for these."""
    return folds is not None and not all((folder / FOLDS / _file(number)).exists() for number in range(folds))


def forget_folds(folder: Path) -> None:
    """Remove what models of other settings have measured."""
    with write_errors(folder):
        if (folder / FOLDS).exists():
            shutil.rmtree(folder / FOLDS)


def _wrong_labels(plan: FoldPlan, evaluation: Evaluation) -> LabelErrors | None:
    if not evaluation.task.has_classes:
        return None
    return confident_errors(evaluation.predictions, evaluation.targets, evaluation.task.outputs, plan.in_order.where)


def _trained(plan: FoldPlan, number: int, folder: Path | None, watch: Callable[[Record], None], log: Callable[[str], object]) -> _Held:
    prepared = _without(plan, number)
    recipe, own, (model, data) = prepared.recipe, prepared.own, prepared.learner
    assert data.test is not None
    path = None if folder is None else folder / _TRAINING
    checkpoints = Checkpoints(path, recipe.checkpoint_every, log)
    with using_threads(recipe.threads_per_step):
        fit(model, data, recipe, **vars(own), watchers=(watch,), checkpoints=checkpoints)
        found = evaluate(model, data.test, data.spec, device=prepared.device, batch_size=recipe.eval_batch_size)
    return _Held(found.outputs.cpu(), data.test.positions, sum(len(part) for part in (prepared.data.train, prepared.data.valid) if part))


def _without(plan: FoldPlan, number: int) -> Prepared:
    """Return the run without a fold, which is its test data, before its first step: all that is learned from data is learned anew."""
    recipe, data = plan.prepared.recipe, plan.prepared.data
    is_held = plan.fold == number
    train, held = (plan.examples.take(index.nonzero().flatten()) for index in (~is_held, is_held))
    is_apart = data.valid is not None and data.valid.part != data.train.part
    rest = replace(data, train=train, valid=data.valid if is_apart else None, test=held, described=None, notes=())
    rest = rest.split(recipe.data.valid, seed=recipe.split_seed, in_place=True)
    # Another seed for each: what chance in training makes of a score is a part of what folds differ by.
    asked = recipe.updated({"seed": (recipe.seed + number) % 2**63, "data.split_seed": recipe.split_seed}, "fold")
    return settle(asked, rest, plan.prepared.own, copy.deepcopy(plan.own), clock=Clock())


def _measured(plan: FoldPlan, held: list[_Held]) -> tuple[CrossValidation, Evaluation]:
    """Return what the finished folds show, with the answers for all of their examples, in the order of the source."""
    recipe, own, spec = plan.prepared.recipe, plan.prepared.own, plan.prepared.data.spec
    positions = torch.cat([one.positions for one in held])
    order = positions.argsort()
    by_position = plan.examples.positions.argsort()
    places = by_position[torch.searchsorted(plan.examples.positions[by_position], positions[order])]
    loss = spec.task.reported_loss(plan.prepared.bundle.model, recipe.loss, own.loss)
    metrics = all_metrics(recipe.metrics, recipe.monitor, own.metrics, spec.task)
    outputs, groups = torch.cat([one.outputs for one in held])[order], group_numbers(plan.examples)
    groups = None if groups is None else groups[places]
    evaluation = score(outputs, plan.examples.targets[places], spec.task, loss, metrics, groups)
    found = cross_validation(evaluation, plan.fold[places], plan.folds, [one.trained for one in held])
    # That of independent answers would be too narrow.
    return found, replace(evaluation, interval=found.scores[0].interval) if spec.task.has_accuracy else evaluation


def _write(folder: Path | None, number: int, held: _Held) -> None:
    if folder is None:
        return
    tensors = {"outputs": held.outputs.contiguous(), "positions": held.positions.contiguous(), "trained": torch.tensor([held.trained])}
    with write_errors(folder):
        folder.mkdir(exist_ok=True)
    write_bytes(folder / _file(number), save(tensors | {"sum": _sum(tensors)}))
    shutil.rmtree(folder / _TRAINING, ignore_errors=True)


def _read(folder: Path | None, number: int, plan: FoldPlan) -> _Held | None:
    """Return what was kept of a fold; `None` if it is not finished. Raises `BundleError`."""
    if folder is None or not (path := folder / _file(number)).exists():
        return None
    try:
        tensors = load(safe_read.read_file(path))
        if not torch.equal(tensors.pop("sum"), _sum(tensors)):
            raise ValueError(CHANGED)
        held = _Held(tensors["outputs"], tensors["positions"], int(tensors["trained"]))
        if not torch.equal(held.positions, plan.examples.positions[plan.fold == number]):
            raise ValueError("it has other examples")
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise BundleError(f"{path} cannot be read: {reason_of(error)}.", "Remove it: then this fold is trained again.") from error
    return held


def _sum(tensors: dict[str, Tensor]) -> Tensor:
    """Return the SHA-256 of tensors: uint8 [32]."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)


def _file(number: int) -> str:
    return f"{number + 1}.safetensors"
