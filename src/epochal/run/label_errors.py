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
from epochal.evaluation.label_check import MOST_DRAWS, LabelCheck, changed_labels, check_labels
from epochal.evaluation.label_errors import LabelErrors, label_errors
from epochal.evaluation.wrong_values import wrong_labels, wrong_quantities
from epochal.inference import infer
from epochal.random import key
from epochal.run.learner import Learner
from epochal.run.prepare import Clock, Prepared, penalized, settle
from epochal.training.loop import fit

# Training that takes longer than so many seconds is announced.
_LONG = 2.0


def find_label_errors(prepared: Prepared, means: Tensor, check: LabelCheck | None = None) -> LabelErrors | None:
    """Return the training labels that are likely wrong, by what training kept of each (see `TrainingHistory.labels`).

    Of an example of which changed copies were trained on, all copies count. Returns `None` if nothing was trained on.
    """
    recipe, data, (model, learned) = prepared.recipe, prepared.data, prepared.learner
    task, train = data.spec.task, data.train

    def outputs_of(places: Tensor) -> Tensor:
        some = feed(learned.train.take(places), recipe.eval_batch_size, prepared.device)
        return infer(model, some, prepared.device, recipe.precision)

    means = by_example(means, len(train))
    if task.has_classes:
        return label_errors(means, train.targets, data.outputs, train.where, outputs_of, check)
    if task.has_accuracy:
        return wrong_labels(task, means, train.targets, train.where, check)
    return wrong_quantities(task, means, train.targets, train.where, outputs_of)


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

    Raises `DataError` for quantities: how many of those that are changed come back depends on how far.
    """
    task = prepared.data.spec.task
    if not task.has_accuracy:
        raise DataError(
            f"Labels of the task {task.name} cannot be checked: how many wrong values come back depends on how far off they are.",
            "Leave the check out; values that look wrong are listed all the same.",
        )
    learner = None if prepared.learner.data is prepared.data else copy.deepcopy(prepared.learner.model)
    return CheckPlan(prepared, learner, copy.deepcopy(model))


def check(plan: CheckPlan, means: Tensor, seconds: float, log: Callable[[str], object]) -> LabelCheck:
    """Change some labels on purpose, train again, which took so many `seconds`, and return what came of them.

    `means` are what the run's own training kept of each label. Labels are changed and trained on again until standard errors are small.
    """
    data, seed = plan.prepared.data, plan.prepared.recipe.seed
    has_classes = data.spec.task.has_classes
    classes = len(data.outputs) if has_classes else 2
    means = by_example(means, len(data.train))
    before, examples = _of_labels(means, has_classes=has_classes)[:, 0], int(means[:, 0].isfinite().sum())
    generator = torch.Generator().manual_seed(key(seed, "label check"))
    if MOST_DRAWS * seconds > _LONG:
        log(
            f"label check: labels are changed on purpose, and trained on: up to {MOST_DRAWS:,} times, "
            f"each of which takes about {seconds:,.0f} s"
        )
    drawn = list[tuple[Tensor, Tensor]]()
    while True:
        labels, changed = changed_labels(data.train.targets, classes, generator)
        again = _again(plan, labels)
        with using_threads(again.recipe.threads_per_step):
            history = fit(again.learner.model, again.learner.data, again.recipe, **vars(again.own))
        after = _of_labels(by_example(history.labels, len(data.train)), has_classes=has_classes)
        drawn.append((after, changed.flatten()))
        found = check_labels(before, drawn, classes, examples)
        if found.is_precise or len(drawn) == MOST_DRAWS:
            return found


def _of_labels(means: Tensor, *, has_classes: bool) -> Tensor:
    """Return for each label the mean probability of what is given, and its distance to the best other: [labels, 2].

    That is what `means` are of classes, [n, 2]; of a table of labels they are probabilities of what is given, [n, labels].
    """
    return means if has_classes else torch.stack((means.flatten(), 2 * means.flatten() - 1), 1)


def _again(plan: CheckPlan, labels: Tensor) -> Prepared:
    """Return the run before its first step, with other labels of the training examples."""
    prepared = plan.prepared
    if plan.learner is None:
        data = replace(prepared.data, train=replace(prepared.data.train, targets=labels), described=None)
        return settle(prepared.asked, data, prepared.own, copy.deepcopy(plan.own), clock=Clock())
    # What a frozen trunk makes of the examples, and of copies of them, is known.
    features = prepared.learner.data
    copies = len(features.train) // len(labels)
    train = replace(features.train, targets=labels.repeat(copies, *[1] * (labels.ndim - 1)))
    learner = Learner(copy.deepcopy(plan.learner), replace(features, train=train, described=None))
    return replace(prepared, learner=learner, recipe=penalized(prepared.recipe, learner, prepared.own)[0])
