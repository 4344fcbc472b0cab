"""What another rule of choosing would change: a threshold, or factors of classes, chosen on validation data and judged on test data.

The default answer is the most probable class, or each label with a probability of at least one half. That is best for accuracy; where
classes are uneven, it finds the rare ones seldom. Another rule changes no probability, so calibration stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from epochal.evaluation.comparison import SHOWN, Difference, compare_means
from epochal.evaluation.evaluate import Evaluation
from epochal.evaluation.uncertainty import Interval, f1_pulls, mean_interval
from epochal.recipe import Recipe
from epochal.tasks.base import Task

# How far class frequencies are taken out of probabilities: not at all, wholly, or beyond.
_STRENGTHS = tuple(step / 10 for step in range(21))

# With fewer validation examples of a class or a label, nothing is chosen for it.
_LEAST = 10

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


def decide(valid: Evaluation, test: Evaluation) -> Decision | None:
    """Return the rule that is best on validation data for balanced accuracy (the mean recall) of classes, or macro F1 of labels.

    Of classes, a power of their frequency is taken out of the probabilities (A. Menon and others, "Long-tail learning via logit
    adjustment", ICLR 2021); the power is chosen, which is one number, whatever the number of classes. Of labels, each has a threshold of
    its own. `None` where the best rule is the default, or a class has fewer than 10 validation examples.
    """
    return _of_classes(valid, test) if test.task.has_classes else _of_labels(valid, test)


def _of_classes(valid: Evaluation, test: Evaluation) -> Decision | None:
    names = test.task.outputs
    counts = torch.bincount(valid.targets, minlength=len(names))
    if int(counts.min()) < _LEAST or int(torch.bincount(test.targets, minlength=len(names)).min()) == 0:
        return None
    shares = counts.double() / counts.sum()
    rules = [shares.max() ** strength / shares**strength for strength in _STRENGTHS]
    scores = [_balanced(_answers(valid.predictions, rule), valid.targets)[0] for rule in rules]
    # The first of equally good ones is nearest to the default.
    best = max(range(len(rules)), key=lambda place: scores[place])
    if best == 0:
        return None
    factors = rules[best].tolist()
    old, new = _answers(test.predictions, rules[0]), _answers(test.predictions, rules[best])
    two = len(names) == 2
    return _judged(
        "balanced accuracy",
        valid.count,
        {names[1]: factors[0] / sum(factors)} if two else {},
        {} if two else dict(zip(names, factors, strict=True)),
        (_balanced(old, test.targets), _balanced(new, test.targets)),
        (old == test.targets, new == test.targets),
        test.groups,
    )


def _answers(predictions: Tensor, factors: Tensor) -> Tensor:
    return (predictions * factors).argmax(1)


def _balanced(answers: Tensor, targets: Tensor) -> tuple[float, Tensor]:
    """Return the mean recall of all classes, and by how much each example pulls it, times n: float64 [n]."""
    right, counts = (answers == targets).double(), torch.bincount(targets).double()
    recalls = torch.zeros_like(counts).index_add_(0, targets, right) / counts
    return float(recalls.mean()), (right - recalls[targets]) * (len(targets) / (counts[targets] * len(counts)))


def _of_labels(valid: Evaluation, test: Evaluation) -> Decision | None:
    actual, names = valid.targets > 0.5, test.task.outputs
    thresholds = torch.tensor([_best_threshold(valid.predictions[:, place], actual[:, place]) for place in range(len(names))])
    old, new, truths = test.predictions >= 0.5, test.predictions >= thresholds, test.targets > 0.5
    if bool((old == new).all()):
        return None
    return _judged(
        "macro F1",
        valid.count,
        dict(zip(names, thresholds.tolist(), strict=True)),
        {},
        (f1_pulls(old, truths), f1_pulls(new, truths)),
        ((old == truths).all(1), (new == truths).all(1)),
        test.groups,
    )


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
    return float(ranked[best] + ranked[best + 1]) / 2 if best + 1 < len(ranked) else float(ranked[best])


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


def about_uneven(task: Task, recipe: Recipe, found: Decision | None) -> Iterator[str]:
    """Yield what can be done where some classes have few training examples, unless the recipe does it already."""
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
        yield f"with another rule of choosing, {found.goal} would be {second} instead of {first}: see the report"
