"""A score as the mean of what single examples add to it: so it has an interval, and models can be compared example by example."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from epochal.errors import DataError
from epochal.evaluation.comparison import Difference, compare_recalls, compare_shares
from epochal.evaluation.uncertainty import (
    Interval,
    f1_pulls,
    macro_f1_interval,
    mean_interval,
    one_label,
    recall_interval,
    recall_pulls,
    share_of,
)
from epochal.tasks.base import Task


@dataclass(frozen=True)
class ByExample:
    """A score with its 95 % `interval` (`None` where nothing is known of it), and what each example adds: float64 [n], of mean `value`."""

    value: float
    interval: Interval | None
    values: Tensor


@dataclass(frozen=True)
class Answers:
    """What a model says of examples: `outputs` [n, outputs] of the network, `predictions` decoded from them, and the truth.

    `groups` int64 [n] says which examples belong together.
    """

    task: Task
    outputs: Tensor
    predictions: Tensor
    targets: Tensor
    groups: Tensor | None = None

    @property
    def right(self) -> Tensor:
        """Which answers are right: bool [n]."""
        judged = self.task.judge(self.predictions, self.targets, self.task.outputs)
        assert judged is not None
        assert judged.right is not None
        return judged.right


Measure: TypeAlias = Callable[[Answers], ByExample]


@dataclass(frozen=True)
class Paired:
    """How two models are compared by which answers are right, from those of both and the p below which one is shown; and its name."""

    compare: Callable[[Answers, Answers, float], Difference]
    name: str


@dataclass(frozen=True)
class Score:
    """A score that models can be compared by: its name in words, whether more is better, and how it is measured and worded.

    `is_share` means that each example adds 0 or 1. `suits` says which tasks have it. `paired` is how two models are compared on independent
    examples where that can be done better than by means.
    """

    words: str
    measure: Measure
    suits: Callable[[Task], bool]
    higher_is_better: bool = False
    is_share: bool = False
    paired: Paired | None = None


def _accuracy(answers: Answers) -> ByExample:
    right = answers.right
    return ByExample(float(right.double().mean()), share_of(right, answers.groups), right.double())


def _macro_f1(answers: Answers) -> ByExample:
    if answers.task.has_classes:
        count = len(answers.task.outputs)
        both = one_label(answers.task.answers(answers.predictions), count), one_label(answers.targets, count)
    else:
        both = answers.task.answers(answers.predictions), answers.targets > 0.5
    value, interval = macro_f1_interval(*both, answers.groups)
    return ByExample(value, interval, value + f1_pulls(*both)[1])


def _balanced_accuracy(answers: Answers) -> ByExample:
    right = answers.right
    value, interval = recall_interval(right, answers.targets, answers.groups)
    return ByExample(value, interval, value + recall_pulls(right, answers.targets)[1])


def _log_loss(answers: Answers) -> ByExample:
    outputs = answers.outputs.double()
    if answers.task.has_classes:
        return _mean(functional.cross_entropy(outputs, answers.targets, reduction="none"), answers)
    return _mean(functional.binary_cross_entropy_with_logits(outputs, answers.targets.double(), reduction="none").mean(1), answers)


def _mean_absolute(answers: Answers) -> ByExample:
    return _mean(_errors(answers).abs().mean(1), answers)


def _root_mean_squared(answers: Answers) -> ByExample:
    squares = _errors(answers).square().mean(1)
    value = float(squares.mean()) ** 0.5
    if value == 0:
        return _mean(squares, answers)
    # The derivative of the root of a mean: what each example adds, to first order.
    found = _mean(value + (squares - squares.mean()) / (2 * value), answers)
    return ByExample(value, None if found.interval is None else (max(0.0, found.interval[0]), found.interval[1]), found.values)


def _errors(answers: Answers) -> Tensor:
    return answers.predictions.double() - answers.targets.double().reshape(answers.predictions.shape)


def _mean(values: Tensor, answers: Answers) -> ByExample:
    return ByExample(float(values.mean()), mean_interval(values, answers.groups), values)


# By what people write; the first that suits a task is the one that its models are compared by.
SCORES: Mapping[str, Score] = {
    "accuracy": Score(
        "accuracy",
        _accuracy,
        lambda task: task.has_accuracy,
        higher_is_better=True,
        is_share=True,
        paired=Paired(
            lambda one, other, shown: compare_shares(one.right, other.right, shown),
            "p by McNemar's test (mid-P), intervals of differences by Tango's method; detectable with a power of 80 %",
        ),
    ),
    "balanced-accuracy": Score(
        "balanced accuracy",
        _balanced_accuracy,
        lambda task: task.has_classes,
        higher_is_better=True,
        paired=Paired(
            lambda one, other, shown: compare_recalls(one.right, other.right, one.targets, shown),
            "p and intervals of differences by McNemar's test with examples weighted by their class; detectable with a power of 80 %",
        ),
    ),
    "macro-f1": Score("macro F1", _macro_f1, lambda task: task.has_accuracy, higher_is_better=True),
    "log-loss": Score("log-loss", _log_loss, lambda task: task.has_accuracy),
    "mae": Score("mean absolute error", _mean_absolute, lambda task: not task.has_accuracy),
    "rmse": Score("root mean squared error", _root_mean_squared, lambda task: not task.has_accuracy),
}


def score_for(name: str | None, task: Task) -> Score:
    """Return the score of this name, or the one that `task` is compared by. Raises `DataError` if it is unknown, or not for this task."""
    fitting = [known for known, score in SCORES.items() if score.suits(task)]
    if name is None:
        return SCORES[fitting[0]]
    if name not in SCORES:
        raise DataError(f"There is no score '{name}'.", f"Use one of {', '.join(SCORES)}.")
    if name not in fitting:
        raise DataError(f"The score {name} is not for {task.name} targets.", f"Use one of {', '.join(fitting)}.")
    return SCORES[name]


def take(answers: Answers, index: Tensor) -> Answers:
    """Return the answers on the examples at `index` (int64)."""
    groups = None if answers.groups is None else answers.groups[index]
    return Answers(answers.task, answers.outputs[index], answers.predictions[index], answers.targets[index], groups)


def as_answers(task: Task, outputs: Tensor, targets: Tensor, groups: Tensor | None = None) -> Answers:
    """Return what outputs [n, outputs] of a network say of examples with these targets."""
    return Answers(task, outputs, task.decode(outputs), targets, groups)


def same_order(outputs: Tensor, names: tuple[str, ...], wanted: tuple[str, ...]) -> Tensor:
    """Return the columns of `outputs` [n, outputs], called `names`, in the order of `wanted`, which are the same names."""
    places = {name: place for place, name in enumerate(names)}
    return outputs[:, torch.tensor([places[name] for name in wanted])]
