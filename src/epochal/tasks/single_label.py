"""One label per example: it belongs to exactly one class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from epochal.errors import DataError, RecipeError
from epochal.recipe import LossSettings
from epochal.tasks.base import CPU, Encoded, Judged, Prediction, Task, Where
from epochal.tasks.columns import is_one_hot, match_names
from epochal.tasks.ending import Ending
from epochal.tasks.labels import LabelTask, label_scores, logarithms
from epochal.tasks.losses import Loss, refuse_smoothing
from epochal.tasks.metrics import AREAS, MEANS, balanced_accuracy, by_class, confusion_matrix, kappa, mcc, top_k_accuracy
from epochal.tasks.scores import Baseline, Scores, percent

# More distinct integers may be quantities.
_MANY = 100


class SingleLabel(LabelTask):
    """One label: targets are classes (int64 [n]), and scores [n, classes] become probabilities by softmax."""

    name: Literal["single-label"] = "single-label"

    losses = ("cross-entropy", "nll")
    usual_metrics: ClassVar = {"balanced accuracy": balanced_accuracy, **MEANS, **AREAS, "kappa": kappa, "mcc": mcc}
    metric_inputs = "probabilities [n, classes] and classes [n]"
    nouns = ("class", "classes")
    least_outputs = 2
    has_classes = True
    torch_loss = "CrossEntropyLoss"
    right = "Accuracy"

    @classmethod
    def encode(
        cls, targets: dict[str, Tensor], names: tuple[str, ...] | None, like: Task | None, where: Where, *, is_chosen: bool
    ) -> Encoded:
        """Return labels, or one-hot rows of them, as classes: int64 [n]; see `Task.encode`."""
        notes: tuple[str, ...] = ()
        if targets["train"].ndim == 2:
            if not is_one_hot(targets):
                raise DataError(
                    "The targets are a table in which some rows do not have exactly one 1.", "Use task multi-label, or one label each."
                )
            targets = {name: table.int().argmax(1) for name, table in targets.items()}
            notes += ("targets are one-hot rows: one label per example",)
        codes, found = _codes(targets, names, where, is_chosen=is_chosen)
        notes += _about_codes(found if names is None else ())
        if like is None:
            _check_classes(codes, found)
            return Encoded(cls(outputs=found), codes, notes)
        number = torch.tensor(match_names(found, like.outputs, "class", "Remove those examples, or name the class as in training."))
        return Encoded(cls(outputs=like.outputs), {name: number[code] for name, code in codes.items()}, notes)

    def count(self, targets: Tensor) -> Tensor:
        """Return how many of encoded `targets` have each class: int64 [classes]."""
        return torch.bincount(targets, minlength=len(self.outputs))

    def balanced_weights(self, counts: Tensor, examples: int) -> Tensor:
        """Return n / (classes * count), as scikit-learn does."""
        return examples / (len(counts) * counts)

    def loss(self, settings: LossSettings, examples: int = 0, device: torch.device = CPU, units: Tensor | None = None) -> Loss:  # noqa: ARG002
        """Return the loss that training minimizes; see `Task.loss`."""
        name = self.resolve_loss(settings)
        weights = self.class_weights(settings, examples, device)
        if name == "nll":
            refuse_smoothing(settings, name)

        def label_loss(outputs: Tensor, targets: Tensor) -> Tensor:
            if targets.ndim == 2:
                return _mixed_loss(name, outputs, targets, weights, settings.smoothing)
            if name == "nll":
                return functional.nll_loss(outputs, targets, weights)
            return functional.cross_entropy(outputs, targets, weights, label_smoothing=settings.smoothing)

        return Loss(label_loss, weights)

    def check_ending(self, outputs: Tensor, targets: Tensor, loss: str | None) -> str:
        """Refuse plain scores before nll, and probabilities before any other loss; see `Task.check_ending`."""
        if loss != "nll":
            return super().check_ending(outputs, targets, loss)
        if (outputs.logsumexp(1).abs() > 1e-3).any():
            raise RecipeError(
                "The loss nll needs log-probabilities, but the model gives plain scores.",
                "Use cross-entropy, or end the model with LogSoftmax.",
            )
        return ""

    def spoiled_by(self, outputs: Tensor, end: Ending | None) -> str:
        """Return the name of a function that must not precede softmax."""
        if (outputs >= 0).all() and ((outputs.sum(1) - 1).abs() < 1e-3).all():
            return "softmax"
        return end.name if end is not None and end.name in ("softmax", "sigmoid", "log-sigmoid") else ""

    def decode(self, outputs: Tensor) -> Tensor:
        """Return probabilities [n, classes]. Log-probabilities give the same ones as scores, as softmax ignores a constant."""
        return outputs.softmax(1)

    @property
    def agreements(self) -> int:
        """Two numbers; see `agreement`."""
        return 2

    def agreement(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the probability of the given class, and its distance to that of the best other: [n, 2]."""
        # PyTorch's softmax takes four times as long for rows of ten: this is a part of each training step.
        powers, index = (outputs - outputs.amax(1, keepdim=True)).exp(), targets[:, None]
        chances = powers / powers.sum(1, keepdim=True)
        given = chances.gather(1, index)
        return torch.cat((given, given - chances.scatter(1, index, -torch.inf).amax(1, keepdim=True)), 1)

    def average(self, outputs: Tensor, shares: Tensor) -> Tensor:
        """Return the logarithms of the mean evidence, which is the exponential of outputs: one window that is sure outweighs many in which
        nothing is heard. The mean of probabilities would be what those say."""
        return (outputs + logarithms(shares)).logsumexp(1)

    def answers(self, predictions: Tensor) -> Tensor:
        """Return the answers in probabilities [n, classes]: int64 [n]."""
        if self.thresholds:
            predictions = predictions / torch.tensor(self.thresholds, dtype=torch.float64)
        return predictions.argmax(1)

    def predict(self, values: Sequence[float]) -> Prediction:
        """Return the most probable class, and the second; with thresholds, those with the largest probabilities in proportion to them."""
        named = dict(zip(self.outputs, values, strict=True))
        ranks = values if not self.thresholds else [value / least for value, least in zip(values, self.thresholds, strict=True)]
        ranked = dict(zip(self.outputs, ranks, strict=True))
        first, second = sorted(ranked, key=ranked.__getitem__, reverse=True)[:2]
        return Prediction(first, named[first], (second, named[second]), named)

    def judge(self, predictions: Tensor, targets: Tensor, names: Sequence[str]) -> Judged:
        """Return whether the class that is the answer is the true one, and its probability."""
        best = self.answers(predictions)
        sure = predictions.gather(1, best[:, None])[:, 0]
        return Judged(
            lambda place: names[int(best[place])],
            lambda place: names[int(targets[place])],
            lambda place: percent(float(sure[place])),
            sure,
            best == targets,
        )

    def score(self, outputs: Tensor, predictions: Tensor, targets: Tensor, loss: float) -> Scores:
        """Return accuracy, top-k accuracy, and precision, recall and F1 of each class."""
        per_class = by_class(self.as_usual(predictions), targets, self.outputs)
        commonest = max(per_class, key=lambda score: score.support)
        baseline = Baseline(commonest.name, commonest.support / len(targets))
        scores = label_scores(int((self.answers(predictions) == targets).sum()), len(targets), loss, per_class, baseline)
        # Top-k is only of interest if k is small compared to the number of classes.
        return replace(scores, top_k={k: top_k_accuracy(outputs, targets, k) for k in (2, 3, 5) if 2 * k <= len(self.outputs)})

    def confusion(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Return the confusion matrix (row: true class, column: predicted): int64 [classes, classes]."""
        return confusion_matrix(self.answers(predictions), targets, len(self.outputs))

    def soft_targets(self, targets: Tensor) -> Tensor:
        """Return classes [n] as probabilities, float32 [n, classes]."""
        return functional.one_hot(targets, len(self.outputs)).float()


def _mixed_loss(name: str, outputs: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """The loss for probabilities [batch, classes] of one label; if they are all 0 and 1, it equals that of the classes.

    With class weights PyTorch's mean over classes divides by the sum of weights, but its mean over probabilities by the number
    of examples. Here both divide by the sum.
    """
    whole = len(targets) if weights is None else (targets * weights).sum()
    if name == "nll":
        chances = targets if weights is None else targets * weights
        return -(chances * outputs).sum() / whole
    return functional.cross_entropy(outputs, targets, weights, reduction="sum", label_smoothing=smoothing) / whole


def _about_codes(names: Sequence[str]) -> tuple[str, ...]:
    """Return a note on classes that may mean "no label": numbers below 0, if the others count from 0."""
    below = [name for name in names if name.startswith("-")]
    if not below or "0" not in names:
        return ()
    return (f"labels below 0 are classes too ({', '.join(below[:5])}): leave their examples out if they mean that there is no label",)


def _codes(
    tensors: Mapping[str, Tensor], classes: tuple[str, ...] | None, where: Where, *, is_chosen: bool
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Number the labels from 0 and name them."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            _check_whole(tensor, name, where)
    is_truth = all(tensor.dtype == torch.bool for tensor in tensors.values())
    codes = {name: tensor.long() for name, tensor in tensors.items()}
    if classes is not None:
        for name, tensor in codes.items():
            outside = (tensor < 0) | (tensor >= len(classes))
            if outside.any():
                bad = int(outside.nonzero()[0])
                raise DataError(
                    f"The label of {where(name, bad)} is {int(tensor[bad])}, but there are {len(classes)} classes.",
                    "Fix or remove that example.",
                )
        return codes, classes
    labels = torch.cat(list(codes.values()))
    values = labels.unique()
    if not is_chosen and len(values) > _MANY and len(values) > len(labels) / 2:
        raise DataError(
            f"The targets are {len(values)} different whole numbers for {len(labels)} examples: quantities rather than labels?",
            "Say so: data.task = regression, or single-label if each really is a class.",
        )
    names = tuple(str(bool(value) if is_truth else value) for value in values.tolist())
    return {name: torch.searchsorted(values, tensor) for name, tensor in codes.items()}, names


def _check_whole(labels: Tensor, name: str, where: Where) -> None:
    """Refuse labels with a fraction, and labels that may have been rounded by their type: two classes would be merged."""
    fraction = labels != labels.round()
    if fraction.any():
        bad = int(fraction.nonzero()[0])
        raise DataError(
            f"The label of {where(name, bad)} is {labels[bad].item():g}, which has a fraction.",
            "Use whole numbers or words as labels, or task regression.",
        )
    whole = 2 / torch.finfo(labels.dtype).eps
    beyond = labels.abs() > whole
    if beyond.any():
        bad = int(beyond.nonzero()[0])
        kind = str(labels.dtype).removeprefix("torch.")
        raise DataError(
            f"The label of {where(name, bad)} is {labels[bad].item():.0f}, but {kind} has not all whole numbers beyond {whole:.0f}: "
            "others may have been rounded to it.",
            "Give labels as whole numbers (int64) or words from the start.",
        )


def _check_classes(codes: Mapping[str, Tensor], names: tuple[str, ...]) -> None:
    is_there = {split: tensor.bincount(minlength=len(names)) > 0 for split, tensor in codes.items()}
    trained = is_there["train"]
    for split, found in is_there.items():
        strange = (found & ~trained).nonzero().flatten().tolist()
        if strange:
            raise DataError(
                f"The class '{names[strange[0]]}' is in {split} but not in train.",
                "Add training examples of it, or remove it from the others.",
            )
    if int(trained.sum()) < 2:
        name = names[int(trained.nonzero()[0])]
        raise DataError(f"All training examples are of one class, '{name}'.", "Provide examples of at least two classes.")
