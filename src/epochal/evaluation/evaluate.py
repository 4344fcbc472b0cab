"""Evaluation = inference + scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from epochal.data.examples import Examples
from epochal.data.feed import feed
from epochal.data.spec import DataSpec
from epochal.distributed.ranks import ALONE, Ranks
from epochal.evaluation.by_example import as_answers
from epochal.evaluation.named import Metrics, as_metrics, measure
from epochal.evaluation.slices import Slices
from epochal.evaluation.uncertainty import share_of
from epochal.inference import infer
from epochal.shown import Rows, Shown, counted
from epochal.tasks.base import Task
from epochal.tasks.losses import Loss
from epochal.tasks.scores import Scores

# The most classes whose scores a notebook shows.
_SHOWN = 30

# A confusion matrix of more classes is unreadable as text, and is not written.
_WRITTEN = 100


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Evaluation(Shown, Scores):
    """The evaluation of a model on one split: scores, and the tensors that they are computed from.

    `outputs` [n, outputs] are those of the network, `predictions` [n, outputs] the decoded probabilities or quantities, and `targets`
    the truth. `unreadable` names files that could not be read and are not included; `left_out` is the number of examples that are not
    included because they were used in training, and `known` that of included ones that were. `slices` are parts of the examples, where
    these were compared. `groups` int64 [n] says which examples belong together, where that is known: intervals are then as wide as that
    makes them.
    """

    task: Task
    outputs: Tensor
    predictions: Tensor
    targets: Tensor
    unreadable: tuple[str, ...] = ()
    left_out: int = 0
    known: int = 0
    slices: Slices | None = None
    groups: Tensor | None = None

    @property
    def scores(self) -> Scores:
        """Only the plain numbers."""
        return Scores(**{one.name: getattr(self, one.name) for one in fields(Scores)})

    @property
    def confusion(self) -> Tensor | None:
        """The confusion matrix (row: true class, column: predicted): int64 [classes, classes]; `None` without classes."""
        return self.task.confusion(self.predictions, self.targets)

    def __str__(self) -> str:
        remarks = "" if self.groups is None else f", in {counted(len(self.groups.unique()), 'group')} that count together"
        if self.task.thresholds:
            remarks += ", labels by tuned thresholds"
        if self.unreadable:
            remarks += f", without {len(self.unreadable):,} file{'s' * (len(self.unreadable) > 1)} that cannot be read"
        if self.left_out:
            remarks += f", without {self.left_out:,} known from training"
        if self.known:
            remarks += f", {self.known:,} of them known from training"
        return self.task.headline(self, remarks)

    def _title(self) -> str:
        return str(self)

    def _table(self) -> tuple[Sequence[str], Rows]:
        scores = (*self.per_class[:_SHOWN], *(score for score in (self.macro, self.weighted) if score is not None))
        return ("class", "precision", "recall", "F1", "examples"), [score.row() for score in scores]

    def to_json(self) -> dict[str, Any]:
        """Return every number by its name, without those of single examples; what does not apply is left out.

        The confusion matrix of more than 100 classes is left out too.
        """
        values = self.scores.to_json()
        confusion = self.confusion
        if confusion is not None and len(confusion) <= _WRITTEN:
            values["confusion"] = confusion.tolist()
        slices = None if self.slices is None else self.slices.to_json()
        groups = 0 if self.groups is None else len(self.groups.unique())
        more = {
            "groups": groups, "left_out": self.left_out, "known": self.known, "unreadable": list(self.unreadable), "slices": slices
        }  # fmt: skip
        return values | {name: value for name, value in more.items() if value}


def evaluate(
    model: nn.Module,
    examples: Examples,
    spec: DataSpec,
    loss: Loss | None = None,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 1000,
    precision: str = "fp32",
    label: str = "",
    metrics: Metrics = None,
    groups: Tensor | None = None,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """Return the evaluation of `model` on `examples`: the mean loss (by default the task's), the task's scores, and `metrics`.

    With a `label`, a progress bar of that name is shown. `groups` int64 [n] are those of the examples, if they are to count together.
    Several `ranks` share the work, and all have the whole result.
    """
    device = torch.device(device)
    outputs = infer(model, feed(examples, batch_size, device), device, precision, label, ranks)
    return score(outputs, examples.targets, spec.task, loss or spec.task.reported_loss(model), metrics, groups)


def score(outputs: Tensor, targets: Tensor, task: Task, loss: Loss, metrics: Metrics = None, groups: Tensor | None = None) -> Evaluation:
    """Return the evaluation of `outputs` [n, outputs] for `targets`; examples of one of `groups` int64 [n] count together."""
    predictions = task.decode(outputs)
    scores = task.score(outputs, predictions, targets, float(loss(outputs, targets)))
    measured = measure(as_metrics(metrics, task), predictions, targets, task)
    found = {**vars(scores), "metrics": measured}
    if groups is not None and scores.interval is not None:
        found["interval"] = share_of(as_answers(task, outputs, targets).right, groups)
    return Evaluation(**found, task=task, outputs=outputs, predictions=predictions, targets=targets, groups=groups)
