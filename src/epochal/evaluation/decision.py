"""Another rule of choosing: thresholds, or factors of classes, chosen on validation data and judged on test data.

The default answer is the most probable class, or each label with a probability of at least one half. That is best for accuracy; where
classes are uneven, it finds the rare ones seldom. Another rule changes no probability, so calibration stays as it is. What it would change
is measured in each run; with the setting thresholds = tuned, the model has it (`Task.thresholds`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from epochal.errors import RecipeError
from epochal.evaluation.comparison import SHOWN, Difference, compare_means
from epochal.evaluation.evaluate import Evaluation
from epochal.evaluation.uncertainty import Interval, f1_pulls, mean_interval
from epochal.recipe import Recipe
from epochal.tasks.base import Task
from epochal.tasks.labels import LabelTask

# How far class frequencies are taken out of probabilities: a little, wholly (1), or beyond.
_STRENGTHS = tuple(step / 10 for step in range(1, 21))

# With fewer validation examples of a class or a label, nothing is chosen for it.
_LEAST = 10

# The least threshold.
_TINY = 1e-30

# Classes are uneven if one has so many times as many training examples as another.
_UNEVEN = 3


@dataclass(frozen=True)
class Decision:
    """A rule of choosing that is best for a `goal` on `chosen_on` validation examples, and what that does to test data.

    Of two classes, and of several labels, `thresholds` has the least probability of the second class, or of each label, with which it is
    the answer; of more classes, `factors` multiply their probabilities before the largest is taken. `change` is the goal with this rule
    less that without, on the same examples; `before` and `after` are the intervals of both. `accuracy` is the share of right answers
    before and after.
    """

    goal: str
    chosen_on: int
    thresholds: Mapping[str, float]
    factors: Mapping[str, float]
    change: Difference
    before: Interval | None
    after: Interval | None
    accuracy: tuple[float, float]

    @property
    def is_shown(self) -> bool:
        """Whether the rule is shown to be better for its goal."""
        return self.change.value > 0 and self.change.p < SHOWN


def tuned(valid: Evaluation) -> Task:
    """Return the task with the thresholds that are best on validation data for balanced accuracy of classes, or for F1 of each label.

    Of classes, a power of their frequency is taken out of the probabilities (A. Menon and others, "Long-tail learning via logit
    adjustment", ICLR 2021); the power is chosen, which is one number, whatever the number of classes. Of labels, each has a threshold of
    its own. There are none where the best rule is the default, or a class has fewer than 10 validation examples.
    """
    task = _with(valid.task, ())
    return _tuned_classes(task, valid) if task.has_classes else _tuned_labels(task, valid)


def decide(valid: Evaluation, test: Evaluation) -> Decision | None:
    """Return the rule that is best on validation data, and what it does to test data: balanced accuracy (the mean recall) of classes, or
    macro F1 of labels; see `tuned`. `None` where the best rule is the default, or changes no answer of several labels."""
    plain, task, targets = _with(valid.task, ()), tuned(valid), test.targets
    old, new, least = plain.answers(test.predictions), task.answers(test.predictions), task.thresholds
    if not task.has_classes:
        truths, by_name = targets > 0.5, dict(zip(task.outputs, least, strict=bool(least)))
        scores, right = (f1_pulls(old, truths), f1_pulls(new, truths)), ((old == truths).all(1), (new == truths).all(1))
        return None if bool((old == new).all()) else _judged("macro F1", valid.count, by_name, {}, scores, right, test.groups)
    if not least or int(torch.bincount(targets, minlength=len(least)).min()) == 0:
        return None
    two = len(least) == 2
    return _judged(
        "balanced accuracy",
        valid.count,
        {task.outputs[1]: least[1]} if two else {},
        {} if two else {name: max(least) / threshold for name, threshold in zip(task.outputs, least, strict=True)},
        (_balanced(old, targets), _balanced(new, targets)),
        (old == targets, new == targets),
        test.groups,
    )


def _with(task: Task, thresholds: Sequence[float]) -> Task:
    return task.model_copy(update={"thresholds": tuple(thresholds)})


def _tuned_classes(task: Task, valid: Evaluation) -> Task:
    counts = torch.bincount(valid.targets, minlength=len(task.outputs))
    if int(counts.min()) < _LEAST:
        return task
    powers = [(counts.double() / counts.sum()) ** strength for strength in _STRENGTHS]
    tried = [task, *(_with(task, (power / power.sum()).tolist()) for power in powers)]
    # The first of equally good ones is nearest to the default.
    return max(tried, key=lambda one: _balanced(one.answers(valid.predictions), valid.targets)[0])


def _balanced(answers: Tensor, targets: Tensor) -> tuple[float, Tensor]:
    """Return the mean recall of all classes, and by how much each example pulls it, times n: float64 [n]."""
    right, counts = (answers == targets).double(), torch.bincount(targets).double()
    recalls = torch.zeros_like(counts).index_add_(0, targets, right) / counts
    return float(recalls.mean()), (right - recalls[targets]) * (len(targets) / (counts[targets] * len(counts)))


def _tuned_labels(task: Task, valid: Evaluation) -> Task:
    actual = valid.targets > 0.5
    found = [_best_threshold(valid.predictions[:, place], actual[:, place]) for place in range(len(task.outputs))]
    return task if found == [0.5] * len(found) else _with(task, found)


def _best_threshold(scores: Tensor, truths: Tensor) -> float:
    """Return the threshold of the largest F1; one half where there are too few examples, or none is better."""
    if not _LEAST <= int(truths.sum()) <= len(truths) - _LEAST:
        return 0.5
    order = scores.argsort(descending=True)
    ranked, hits = scores[order].double(), truths[order].double().cumsum(0)
    f1 = 2 * hits / (torch.arange(1, len(scores) + 1) + hits[-1])
    # Equal scores are on one side, and the threshold is in the middle between two.
    is_last = torch.cat([ranked[1:] != ranked[:-1], torch.tensor([True])])
    best = int(torch.where(is_last, f1, -1.0).argmax())
    usual = scores >= 0.5
    both = int(usual.sum() + truths.sum())
    if float(f1[best]) <= 2 * int((usual & truths).sum()) / both:
        return 0.5
    found = float(ranked[best] + ranked[best + 1]) / 2 if best + 1 < len(ranked) else float(ranked[best])
    # A probability may be so small that it is 0.
    return max(found, _TINY)


def _judged(
    goal: str,
    chosen_on: int,
    thresholds: Mapping[str, float],
    factors: Mapping[str, float],
    scores: tuple[tuple[float, Tensor], tuple[float, Tensor]],
    right: tuple[Tensor, Tensor],
    groups: Tensor | None,
) -> Decision:
    old, new = (score + pulls for score, pulls in scores)
    intervals = mean_interval(old, groups), mean_interval(new, groups)
    accuracy = float(right[0].double().mean()), float(right[1].double().mean())
    return Decision(goal, chosen_on, thresholds, factors, compare_means(old, new, groups), *intervals, accuracy)


def check_thresholds(recipe: Recipe, task: Task) -> None:
    """Raise `RecipeError` if thresholds are asked for that cannot be chosen, for a task whose examples are split."""
    if recipe.thresholds == "default":
        return
    if not isinstance(task, LabelTask):
        raise RecipeError(f"The setting thresholds = tuned is for classes and labels, not for {task.name} targets.", "Leave it out.")
    if recipe.folds is not None:
        raise RecipeError(
            "The setting thresholds = tuned does not work with folds, whose models have no thresholds.", "Leave one of the two out."
        )
    counts = task.class_counts.get("valid", ())
    if not counts:
        raise RecipeError(
            "The setting thresholds = tuned needs validation data, and there are none.",
            "Leave it out, or split some off: data.valid = 0.1.",
        )
    if (least := min(counts) if task.has_classes else max(counts)) < _LEAST:
        name = task.outputs[counts.index(least)]
        raise RecipeError(
            f"The setting thresholds = tuned takes {_LEAST} validation examples of each class, or of a label; '{name}' has {least}.",
            "Leave it out, add more examples, or split more off: data.valid.",
        )


def about_uneven(task: Task, recipe: Recipe, found: Decision | None) -> Iterator[str]:
    """Yield what thresholds change; without, what can be done where some classes have few training examples, unless the recipe does it."""
    if task.thresholds:
        yield "labels are named by thresholds that were chosen on validation data; probabilities stay as they are"
        if found is not None:
            first, second = (f"{100 * score:.1f} %" for score in (found.change.first, found.change.second))
            right = [f"{100 * share:.1f} %" for share in found.accuracy]
            yield f"with them, {found.goal} is {second} instead of {first}, and {right[1]} instead of {right[0]} are right"
        return
    counts = task.class_counts.get("train", ())
    if not task.has_classes or not counts or recipe.loss.class_weights != "equal" or recipe.data.sampling != "shuffled":
        return
    rare, common = min(counts), max(counts)
    if common < _UNEVEN * rare:
        return
    names = task.outputs[counts.index(rare)], task.outputs[counts.index(common)]
    yield (
        f"uneven classes ({rare:,} '{names[0]}', {common:,} '{names[1]}' in training): --class-weights balanced or --sampling balanced "
        "trains for rare ones, and makes them too probable; another rule of choosing changes no probability"
    )
    if found is not None and found.is_shown:
        first, second = (f"{100 * score:.1f} %" for score in (found.change.first, found.change.second))
        yield f"with --thresholds tuned, {found.goal} would be {second} instead of {first}: see the report"
