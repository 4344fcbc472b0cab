"""The labels of a run's training examples that are likely wrong, and what becomes of some that are changed on purpose."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from epochal.data.feed import feed
from epochal.device import using_threads
from epochal.errors import DataError
from epochal.evaluation.label_errors import LabelCheck, LabelErrors, changed_labels, check_labels, draws, label_errors
from epochal.inference import infer
from epochal.random import key
from epochal.run.learner import Learner
from epochal.run.prepare import Clock, Prepared, penalized, settle
from epochal.training.loop import fit

# Training that takes longer than so many seconds is announced.
_LONG = 2.0


def find_label_errors(prepared: Prepared, means: Tensor, check: LabelCheck | None = None) -> LabelErrors | None:
    """Return the training labels that are likely wrong, by what training kept of each (see `TrainingHistory.labels`).

    Returns `None` for a task without classes. Of an example of which changed copies were trained on, all copies count.
    """
    recipe, data, (model, learned) = prepared.recipe, prepared.data, prepared.learner
    if not data.spec.task.has_classes:
        return None

    def outputs_of(places: Tensor) -> Tensor:
        some = feed(learned.train.take(places), recipe.eval_batch_size, prepared.device)
        return infer(model, some, prepared.device, recipe.precision)

    return label_errors(by_example(means, len(data.train)), data.train.targets, data.outputs, data.train.where, outputs_of, check)


def by_example(means: Tensor, count: int) -> Tensor:
    """Return the means [count, ...] over the copies of each example, one copy of all after the other."""
    return torch.nanmean(means.reshape(-1, count, *means.shape[1:]), 0)


@dataclass(frozen=True)
class CheckPlan:
    """What a check of labels needs from before training: a run as it was `prepared`, and what is trained in it, untrained.

    That is the `learner` of features that are computed once, or else the user's `own` module, if it is one.
    """

    prepared: Prepared
    learner: nn.Module | None
    own: nn.Module | None


def plan_check(prepared: Prepared, model: nn.Module | None) -> CheckPlan:
    """Return what is needed to check the labels of a run that has not begun; `model` is the user's own module, as it was passed.

    Raises `DataError` where examples have not one class each.
    """
    if not prepared.data.spec.task.has_classes:
        raise DataError(f"Labels of the task {prepared.data.spec.task.name} cannot be checked.", "Leave the check out.")
    learner = None if prepared.learner.data is prepared.data else copy.deepcopy(prepared.learner.model)
    return CheckPlan(prepared, learner, copy.deepcopy(model))


def check(plan: CheckPlan, seconds: float, log: Callable[[str], object]) -> LabelCheck:
    """Change some labels on purpose, train again, which took so many `seconds`, and return what came of them.

    Where examples are few, this is done several times.
    """
    data, seed = plan.prepared.data, plan.prepared.recipe.seed
    generator = torch.Generator().manual_seed(key(seed, "label check"))
    times = draws(len(data.train))
    if times * seconds > _LONG:
        log(f"label check: labels are changed on purpose, and trained on: {times:,} times, which takes about {times * seconds:,.0f} s")
    drawn = []
    for _ in range(times):
        labels, changed = changed_labels(data.train.targets, len(data.outputs), generator)
        again = _again(plan, labels)
        with using_threads(again.recipe.threads_per_step):
            history = fit(again.learner.model, again.learner.data, again.recipe, **vars(again.own))
        drawn.append((by_example(history.labels, len(data.train)), changed))
    return check_labels(drawn, len(data.outputs))


def _again(plan: CheckPlan, labels: Tensor) -> Prepared:
    """Return the run before its first step, with other labels of the training examples."""
    prepared = plan.prepared
    if plan.learner is None:
        data = replace(prepared.data, train=replace(prepared.data.train, targets=labels), described=None)
        return settle(prepared.asked, data, prepared.own, copy.deepcopy(plan.own), clock=Clock())
    # What a frozen trunk makes of the examples, and of copies of them, is known.
    features = prepared.learner.data
    train = replace(features.train, targets=labels.repeat(len(features.train) // len(labels)))
    learner = Learner(copy.deepcopy(plan.learner), replace(features, train=train, described=None))
    return replace(prepared, learner=learner, recipe=penalized(prepared.recipe, learner, prepared.own)[0])
