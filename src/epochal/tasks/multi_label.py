"""Several labels per example: each applies or not, independently of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from epochal.errors import DataError
from epochal.recipe import LossSettings
from epochal.tasks.base import CPU, Encoded, Judged, Prediction, Task, Where
from epochal.tasks.columns import is_binary, name_columns
from epochal.tasks.ending import Ending
from epochal.tasks.labels import LabelTask, label_scores, logarithms
from epochal.tasks.losses import Loss, refuse_smoothing
from epochal.tasks.metrics import AREAS, MEANS, by_class, label_accuracy, micro_f1
from epochal.tasks.scores import Baseline, Scores, percent


class MultiLabel(LabelTask):
    """Several labels: targets are 0 and 1 (float32 [n, labels]), and scores [n, labels] become probabilities by sigmoid."""

    name: Literal["multi-label"] = "multi-label"

    losses = ("bce",)
    usual_metrics: ClassVar = {**MEANS, "micro f1": micro_f1, **AREAS, "label accuracy": label_accuracy}
    metric_inputs = "probabilities [n, labels] and a table of 0 and 1"
    nouns = ("label", "labels")
    torch_loss = "BCEWithLogitsLoss"
    right = "All labels right"

    @classmethod
    def encode(
        cls,
        targets: dict[str, Tensor],
        names: tuple[str, ...] | None,
        like: Task | None,
        where: Where,  # noqa: ARG003
        *,
        is_chosen: bool,
    ) -> Encoded:
        """Return a table of 0 and 1 as float32 [n, labels]; see `Task.encode`."""
        if not is_binary(targets):
            raise DataError("Multi-label targets must be a table of 0 and 1 with a column for each label.", "Or choose another task.")
        columns = {name: tensor.float().reshape(len(tensor), -1) for name, tensor in targets.items()}
        columns, found = name_columns(columns, names, None if like is None else like.outputs)
        note = f"targets are a table of 0 and 1: {len(found)} labels that can be true together"
        return Encoded(cls(outputs=found), columns, () if is_chosen else (note,))

    def count(self, targets: Tensor) -> Tensor:
        """Return how many of encoded `targets` have each label: int64 [labels]."""
        return targets.sum(0).long()

    def balanced_weights(self, counts: Tensor, examples: int) -> Tensor:
        """Return the ratio of examples without each label to those with it."""
        return ((examples - counts) / counts).clamp(min=1e-6)

    def loss(self, settings: LossSettings, examples: int = 0, device: torch.device = CPU, units: Tensor | None = None) -> Loss:  # noqa: ARG002
        """Return the loss that training minimizes; see `Task.loss`."""
        name = self.resolve_loss(settings)
        weights = self.class_weights(settings, examples, device)
        refuse_smoothing(settings, name)
        return Loss(lambda outputs, targets: functional.binary_cross_entropy_with_logits(outputs, targets, pos_weight=weights))

    def spoiled_by(self, outputs: Tensor, end: Ending | None) -> str:  # noqa: ARG002
        """Return the name of a function that must not come before sigmoids.

        With scores that are never negative all labels would always apply, and with scores that are never positive none.
        """
        return end.name if end is not None and (end.low >= 0 or end.high <= 0) else ""

    def decode(self, outputs: Tensor) -> Tensor:
        """Return the probability of each label: [n, labels]."""
        return outputs.sigmoid()

    @property
    def agreements(self) -> int:
        """One number for each label; see `agreement`."""
        return len(self.outputs)

    def agreement(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the probability of what is given of each label, that it applies or not: [n, labels]."""
        return torch.where(targets > 0.5, outputs, -outputs).sigmoid()

    def average(self, outputs: Tensor, shares: Tensor) -> Tensor:
        """Return the logarithms of the mean odds: a label that is heard in one window is one of the recording."""
        return (outputs + logarithms(shares)).logsumexp(1)

    def answers(self, predictions: Tensor) -> Tensor:
        """Return the answers in probabilities [n, labels]: bool [n, labels]."""
        return predictions >= (torch.tensor(self.thresholds, dtype=torch.float64) if self.thresholds else 0.5)

    def predict(self, values: Sequence[float]) -> Prediction:
        """Return the labels that are at least as probable as not; with thresholds, as these."""
        least = self.thresholds or (0.5,) * len(self.outputs)
        there = [value >= threshold for value, threshold in zip(values, least, strict=True)]
        return Prediction(_joined(self.outputs, there), None, None, dict(zip(self.outputs, values, strict=True)))

    def judge(self, predictions: Tensor, targets: Tensor, names: Sequence[str]) -> Judged:
        """Return whether all labels are right, and their joint probability, as if they were independent."""
        found, there = self.answers(predictions), targets > 0.5
        sure = torch.maximum(predictions, 1 - predictions).prod(1)
        return Judged(
            lambda place: _joined(names, found[place].tolist()),
            lambda place: _joined(names, there[place].tolist()),
            lambda place: percent(float(sure[place])),
            sure,
            (found == there).all(1),
        )

    def score(self, outputs: Tensor, predictions: Tensor, targets: Tensor, loss: float) -> Scores:  # noqa: ARG002
        """Return the share of examples with all labels right, and precision, recall and F1 of each label."""
        actual = targets > 0.5
        right = int((self.answers(predictions) == actual).all(1).sum())
        sets, counts = actual.unique(dim=0, return_counts=True)
        most = int(counts.argmax())
        baseline = Baseline(_joined(self.outputs, sets[most].tolist()), int(counts[most]) / len(targets))
        return label_scores(right, len(targets), loss, by_class(self.as_usual(predictions), targets, self.outputs), baseline)


def _joined(names: Sequence[str], there: Sequence[bool]) -> str:
    return ", ".join(name for name, is_there in zip(names, there, strict=True) if is_there) or "none"
