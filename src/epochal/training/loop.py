"""Training, on one page: `fit` goes over the epochs, `train_epoch` over the batches, `train_step` makes one step.

Everything random is a function of the seed and the position, so the only state is the weights, the optimizer's state and the counters
in `Training`: the content of a checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from epochal.cores import sharing_cores
from epochal.data.feed import Batch, Feed
from epochal.data.load import load
from epochal.data.slices import Slice
from epochal.device import computing, precision
from epochal.distributed.ranks import ranks
from epochal.errors import NotFiniteError
from epochal.evaluation.evaluate import evaluate
from epochal.evaluation.named import Metrics, all_metrics, check_metrics
from epochal.models.build import preserve_mode
from epochal.random import fork_rng, key, seed_generators
from epochal.recipe import Recipe, as_recipe
from epochal.shown import Rows, Shown, curves
from epochal.tasks.base import Task
from epochal.tasks.losses import LossFunction
from epochal.training.anomaly import check_rewinding, rewind
from epochal.training.best import why_kept
from epochal.training.build import build_training, plain_settings, training_feed
from epochal.training.checkpoint import Checkpoints
from epochal.training.distributed import Due, agree_on_signals
from epochal.training.optim import MakeOptimizer, describe_optimizer
from epochal.training.own import NOT_USED, Own, with_own
from epochal.training.records import EpochDone, Finished, Progress, Rewound, Started, Watcher
from epochal.training.schedule import ScheduleFunction
from epochal.training.sharing import Sharing, ThreadChange, is_open
from epochal.training.signals import checkpoint_on_signal, handle_signals
from epochal.training.state import Training
from epochal.user_code import concise

# Seconds between reports of progress to watchers: reading the loss waits for the device.
REPORT_SECONDS = 0.25

# The most epochs, the last ones, that a notebook shows.
_SHOWN = 30


@dataclass(frozen=True, repr=False)
class TrainingHistory(Shown):
    """What happened in training: a record of each epoch, and how it ended. The weights are in the model that was given.

    `optimizer` describes the optimizer, and for each group the number of parameters and the settings. `task` is the task that was
    learned. `labels`, float32 [n, agreements], is what `Task.agreement` says of the label of each training example, as the mean over the
    times that it was trained on; NaN if it was not.
    """

    epochs: tuple[EpochDone, ...]
    finished: Finished
    optimizer: Mapping[str, Any]
    task: Task
    labels: Tensor = field(compare=False)

    def _title(self) -> str:
        count = len(self.epochs)
        return f"{count} epoch{'s' * (count != 1)} in {self.finished.seconds:.3g} s, {self.finished.kept_weights()}"

    def _table(self) -> tuple[Sequence[str], Rows]:
        rows = [
            (str(done.epoch), f"{done.train_loss:.4g}", "" if done.valid is None else self.task.headline(done.valid))
            for done in self.epochs[-_SHOWN:]
        ]
        return ("epoch", "train loss", "validation"), rows

    def _below(self) -> str:
        return self.curves()

    def curves(self) -> str:
        """Return the losses by epoch as a small chart, in HTML."""
        losses = {"train loss": [done.train_loss for done in self.epochs]}
        if all(done.valid is not None for done in self.epochs):
            losses["valid loss"] = [done.valid.loss for done in self.epochs if done.valid is not None]
        return curves(losses)


@concise
def fit(
    model: nn.Module,
    data: Any,
    recipe: Recipe | str | Path | Mapping[str, Any] | None = None,
    *,
    loss: LossFunction | None = None,
    optimizer: MakeOptimizer | None = None,
    schedule: ScheduleFunction | None = None,
    metrics: Metrics = None,
    watchers: Sequence[Watcher] = (),
    begun: Callable[[Started], object] | None = None,
    stop: Callable[[EpochDone], str] | None = None,
    checkpoints: Checkpoints | None = None,
    rewinds: Sequence[Rewound] = (),
    threads: Sequence[ThreadChange] | None = None,
) -> TrainingHistory:
    """Train `model`, in place and exactly as it is, on the `train` split of `data`; it ends with the weights that the recipe keeps.

    `data` is anything that `load` takes; its `valid` split, if it has one, picks the best epoch and may end training early.
    The model gets inputs as `load` gives them (pictures as uint8; float64 only where float32 would round inputs together);
    `epochal.train` is the layer above, which splits data and puts preprocessing into the model. Parts of the model may be marked for
    smaller rates (see `models/parts.py`). `loss` replaces the recipe's by a
    function (outputs, targets) -> mean over the batch, and `optimizer` the recipe's by a function of the parameters; its rates stay
    constant unless you set a schedule. `schedule` replaces the recipe's by a function: the number of steps so far -> factor on the rate
    of each group. `metrics` are further scores of the validation data: names of usual ones, or functions (predictions, targets) ->
    number (see `evaluation/named.py`). Nothing is measured for settings that are "auto": `fit` takes PyTorch's number of threads, batches
    of 64 and float32. Settings, model and data are checked before the first step.
    Each of `watchers` is called with every record (see `training/records.py`). `begun` is called first, once all is checked and a
    checkpoint restored; `stop` after each epoch: training ends where it returns a reason.
    If `checkpoints` has one, training continues from there, with the same results, to the bit, as without a break.
    `rewinds` and `threads` are those of a training that is being repeated: the learning rate and the number of CPU threads change at
    the same steps. Without `threads`, a number that the recipe leaves open adapts to the load by other programs. PyTorch's global
    random state is preserved.
    """
    recipe, checkpoints = as_recipe(recipe), checkpoints or Checkpoints(None)
    data = load(data, pretrained=False)
    notes: list[str] = []
    own = Own(loss, optimizer, schedule)
    recipe = plain_settings(with_own(recipe, own))
    here = ranks()
    device = here.device(recipe.device)
    with (
        here.together(), sharing_cores() as watch, preserve_mode(model), fork_rng(device), computing(recipe.threads_per_step),
        handle_signals(checkpoints.signals),
    ):  # fmt: skip
        batches = training_feed(data.train, data.spec, recipe, device, here)
        training = build_training(
            model, batches, data.spec, recipe, device, own, has_valid=data.valid is not None, ranks=here, log=notes.append
        )
        check_rewinding(training, checkpoints)
        described = describe_optimizer(training.optimizer)
        valid_loss = data.spec.task.reported_loss(model, recipe.loss, loss)
        measured = all_metrics(recipe.metrics, recipe.monitor, metrics, data.spec.task)
        check_metrics(measured, data.spec.task, (data.valid or data.test or data.train).targets)
        training.schedule.rewinds.extend(rewinds)
        training.threads.changes.extend(threads or ())
        if threads is None and here.size == 1 and is_open(recipe, device):
            training.sharing = Sharing(training.threads, watch)
        resumed = checkpoints.restore(training)
        if not resumed:
            checkpoints.save(training)
        emit = _emit_to(watchers if here.leads else ())
        parameters = sum(parameter.numel() for parameter in model.parameters())
        started = Started(
            recipe, data.spec, device, parameters, recipe.epochs, training.total_steps,
            notes=tuple(notes), history=tuple(training.history), step=training.step if resumed else None,
            metrics=tuple(metric.name for metric in measured), untraced=training.traced.why_not,
        )  # fmt: skip
        if begun is not None:
            begun(started)
        emit(started)

        # A checkpoint may have been written between the last step of an epoch and its validation, which then comes first.
        reason = here.tell(lambda: _reason_to_stop(training)) if training.history and training.steps_of_epoch <= 0 else ""
        while not reason:
            try:
                with training.distributed.training():
                    waited = train_epoch(training, batches, emit, checkpoints)
                train_loss = _finite(training, batches)
                here.tell(training.check_finite)
            except NotFiniteError as error:
                emit(rewind(training, batches, train_step, checkpoints, error))
                continue
            seconds = training.elapsed() - training.epoch_began
            training.threads.use(training.step)
            weights: nn.Module = training.average.module if training.average is not None else model
            training.distributed.share_buffers(weights)
            valid = None
            if data.valid is not None:
                with checkpoint_on_signal(checkpoints.signals, partial(checkpoints.save, training), here):
                    valid = evaluate(
                        weights, data.valid, data.spec, valid_loss,
                        device=device, batch_size=recipe.eval_batch_size, precision=recipe.precision, metrics=measured, ranks=here,
                    ).scores  # fmt: skip
            is_best = training.best.update(training.epoch, weights, valid)
            rate = training.rate()
            training.schedule.epoch_done(valid.loss if valid is not None else train_loss)
            done = EpochDone(
                training.epoch, recipe.epochs, training.step, train_loss, valid, rate, seconds, _trained(training, batches) / seconds,
                waited / seconds, is_best,
            )  # fmt: skip
            training.history.append(done)
            training.epoch += 1
            emit(done)
            agree_on_signals(checkpoints.signals, here)
            reason, is_due = here.tell(partial(_at_the_end, training, done, stop, checkpoints))
            if reason or is_due:
                checkpoints.save(training)

        training.labels.collect(here)
        model.load_state_dict(training.best.weights)
        finished = Finished(
            len(training.history), training.step, training.best.epoch, reason, training.elapsed(), tuple(training.schedule.rewinds),
            why_kept(recipe, training.history, training.best.epoch), tuple(training.threads.changes),
            training.traced.why_not,
        )  # fmt: skip
        emit(finished)
    return TrainingHistory(tuple(training.history), finished, described, data.spec.task, training.labels.means())


def train_epoch(training: Training, batches: Feed, emit: Watcher, checkpoints: Checkpoints) -> float:
    """Make the remaining steps of an epoch, and return the seconds spent waiting for data."""
    training.train_mode()
    training.traced.check()
    first = training.steps_of_epoch
    if not first:
        training.loss_sum.zero_()
        training.epoch_began = training.elapsed()
    waited = 0.0
    started = reported = before = time.perf_counter()
    for made, batch in enumerate(batches.epoch(training.epoch, start=first), 1):
        if training.step >= training.total_steps:
            break
        waited += time.perf_counter() - before
        train_step(training, batch)
        began, before = before, time.perf_counter()
        if training.sharing is not None and (changed := training.sharing.step_done(training.step, before - began)):
            emit(changed)
            training.traced.check()
        decided = Due(before - reported > REPORT_SECONDS, before >= training.deadline, checkpoints.is_due())
        due = training.due(decided, checkpoints.signals, waited)
        if due.report:
            reported, step_seconds = before, (before - started) / made
            left = (training.total_steps - training.step) * step_seconds
            emit(
                Progress(
                    training.epoch, training.recipe.epochs, training.step, training.total_steps, _trained(training, batches),
                    len(batches.examples), _finite(training, batches), training.recipe.examples_per_step / step_seconds,
                    waited / (before - started), min(left, training.deadline - before), training.slowest,
                )
            )  # fmt: skip
            # A watcher may have done anything.
            training.traced.check()
        if due.end:
            break
        if due.checkpoint:
            checkpoints.save(training)
            training.traced.check()
            before = time.perf_counter()
    return waited


def train_step(training: Training, batch: Batch) -> None:
    """Make one step: forward, loss, backward, optimizer. No line here waits for the device."""
    seed_generators(training.device, key(training.recipe.seed, "step", training.step, *training.distributed.own_draws))
    training.threads.use(training.step)
    training.ranks.step_begins()
    for (inputs, targets, places), share, own in _parts(batch, training):
        # The same operations, recorded: or None, where they have to be made from the start.
        made = training.traced(inputs, targets, share, own)
        if made is None:
            with training.distributed.part(own, is_last=own is batch.slices[-1]):
                with precision(training.device, training.recipe.precision):
                    outputs = training.forward(inputs)
                    loss = training.loss(outputs, targets)
                    if share is not None:
                        loss = loss * share
                training.scaler.scale(loss).backward()
        else:
            loss, outputs = made
        training.loss_sum.add_(loss.detach(), alpha=batch.whole)
        training.labels.add(outputs, places)
    if training.recipe.clip_norm is not None:
        training.scaler.unscale_(training.optimizer)  # type: ignore[arg-type]
        nn.utils.clip_grad_norm_(training.model.parameters(), training.recipe.clip_norm)
    _set_rate(training)
    training.update()
    training.step += 1
    if training.average is not None:
        training.average.update_parameters(training.model)


def _parts(batch: Batch, training: Training) -> Iterator[tuple[Sequence[Tensor], Tensor | float | None, Slice]]:
    """Split a batch for gradient accumulation, and among processes, with each part's share of the mean: so the gradients of all parts add
    up to those of the whole batch."""
    distributed, slices = training.distributed, batch.slices
    if len(slices) == distributed.ranks.size == 1:
        yield batch[:3], None, slices[0]
        return
    parts = [*batch.split()]
    weights = [training.loss.weight(targets) * one.counts for (_, targets, _), one in zip(parts, slices, strict=True)]
    whole = distributed.whole(weights, batch.whole)
    yield from ((part, weight / whole, one) for part, weight, one in zip(parts, weights, slices, strict=True))


def _set_rate(training: Training) -> None:
    if training.schedule.is_constant:
        return
    factor = training.schedule.factor(training.step)
    for group, rate in zip(training.optimizer.param_groups, training.rates, strict=True):  # type: ignore[attr-defined]
        group["lr"] = rate * factor


def _trained(training: Training, batches: Feed) -> int:
    """Return how many examples of this epoch have been trained on."""
    return min(training.steps_of_epoch * training.recipe.examples_per_step, len(batches.examples))


def _finite(training: Training, batches: Feed) -> float:
    """Read the mean loss of the epoch so far, which waits for the device, and stop if it is NaN or infinite."""
    mean = training.ranks.total(training.loss_sum).item() / _trained(training, batches)
    if not math.isfinite(mean):
        is_own = training.recipe.origin("loss.name").startswith(NOT_USED)
        raise NotFiniteError(
            f"The loss became {mean} in epoch {training.epoch}, by step {training.step}.",
            f"{'Check the loss function. ' * is_own}Use a smaller --lr, or set clip_norm; check the inputs' scale.",
        )
    return mean


def _reason_to_stop(training: Training) -> str:
    recipe, done = training.recipe, len(training.history)
    if recipe.patience is not None and done - training.best.improved >= recipe.patience:
        return "patience"
    if time.perf_counter() >= training.deadline:
        return "seconds"
    if recipe.max_steps is not None and training.step >= recipe.max_steps:
        return "steps"
    return "epochs" if done >= recipe.epochs else ""


def _at_the_end(training: Training, done: EpochDone, stop: Callable[[EpochDone], str] | None, checkpoints: Checkpoints) -> tuple[str, bool]:
    """Return why training ends after an epoch, if it does, and whether a checkpoint is due."""
    return (stop(done) if stop is not None else "") or _reason_to_stop(training), checkpoints.is_due(epoch_ends=True)


def _emit_to(watchers: Sequence[Watcher]) -> Watcher:
    def emit(record: Any) -> None:
        for watcher in watchers:
            watcher(record)

    return emit
