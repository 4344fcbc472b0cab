"""Evaluation = inference + metrics.

Where there is a `label`, a progress bar of that name is shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from epochal.data.examples import Examples
from epochal.data.feed import feed
from epochal.data.spec import DataSpec, Task
from epochal.evaluation.intervals import wilson
from epochal.evaluation.metrics import ClassScore, class_scores, confusion_matrix, macro, plain, r2_words, top_k_accuracy, weighted
from epochal.evaluation.named import ALWAYS, Metrics, as_metrics, measure, plain_name
from epochal.inference import infer
from epochal.shown import Rows, Shown
from epochal.tasks import Loss, answers, reported_loss

# A notebook shows the scores of so many classes.
_SHOWN = 30


@dataclass(frozen=True, repr=False)
class Evaluation(Shown):
    """How good a model is on one split.

    `loss` is the mean per example. `accuracy` (0 to 1, with its 95 % `interval`) is the share of examples that are right; with
    several labels, of those with all labels right. `top_k` maps k to top-k accuracy. `per_class`, `macro` and `weighted` hold
    precision, recall and F1, and the two means leave out classes that are neither there nor predicted; `confusion` has a row for
    each true class. Regression has `mse`, `mae` and `r2`, means over the outputs, computed in float64 against the targets as they
    were brought. `baseline` is the commonest class (or set of labels) and the accuracy of always answering it. What does not apply is
    `None` or empty. `answers` [n, outputs] are the probabilities or quantities themselves. `metrics` are further numbers by name
    (`evaluation/named.py`). `outputs` are what the network gave, before they were made answers.
    `unreadable` names the files that are not among the examples because they cannot be read; `left_out` examples are not among them
    because the model knows them from training, and `known` are among them although it does.
    """

    task: Task
    count: int
    loss: float
    answers: Tensor
    targets: Tensor
    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    top_k: dict[int, float] | None = None
    per_class: tuple[ClassScore, ...] = ()
    macro: ClassScore | None = None
    weighted: ClassScore | None = None
    confusion: Tensor | None = None
    mse: float | None = None
    mae: float | None = None
    r2: float | None = None
    baseline: tuple[str, float] | None = None
    unreadable: tuple[str, ...] = ()
    left_out: int = 0
    known: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    outputs: Tensor = field(default_factory=lambda: torch.empty(0))

    def __str__(self) -> str:
        count = f"n = {self.count:,}"
        if self.unreadable:
            files = f"{len(self.unreadable):,} file{'s' * (len(self.unreadable) > 1)}"
            count += f", without {files} that cannot be read"
        if self.left_out:
            count += f", without {self.left_out:,} known from training"
        if self.known:
            count += f", {self.known:,} of them known from training"
        count += "".join(f"; {name} {value:.4g}" for name, value in self.metrics.items())
        if self.accuracy is None or self.interval is None:
            assert self.r2 is not None
            assert self.mae is not None
            assert self.mse is not None
            return f"R² {r2_words(self.r2)}, mean absolute error {plain(self.mae, 4)}, mean squared error {plain(self.mse, 4)}, {count}"
        low, high = self.interval
        right = "All labels right" if self.task == "multi-label" else "Accuracy"
        always = "" if self.baseline is None else f"; always '{self.baseline[0]}' would be {100 * self.baseline[1]:.1f} %"
        return f"{right} {100 * self.accuracy:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f}), {count}{always}"

    def number(self, name: str) -> float:
        """Return the score of that name: loss, accuracy, or one of the metrics (a usual one in any way of writing it)."""
        if name in ALWAYS:
            found = self.loss if name == "loss" else self.accuracy
            return math.nan if found is None else found
        return self.metrics[name] if name in self.metrics else self.metrics[plain_name(name)]

    def _title(self) -> str:
        return str(self)

    def _table(self) -> tuple[Sequence[str], Rows]:
        scores = (*self.per_class[:_SHOWN], *(score for score in (self.macro, self.weighted) if score is not None))
        return ("class", "precision", "recall", "F1", "examples"), [score.row() for score in scores]

    def numbers(self) -> Evaluation:
        """Return the same numbers without the answers and targets of each example, which would fill the memory over many epochs."""
        return replace(self, answers=torch.empty(0), targets=torch.empty(0), outputs=torch.empty(0))

    def to_json(self) -> dict[str, Any]:
        """Return every number by its name, without the answers themselves; what does not apply is left out.

        The confusion matrix of more than 100 classes, which nobody reads as text, is left out too.
        """
        values: dict[str, Any] = {"count": self.count, "loss": self.loss}
        for name in ("accuracy", "interval", "mse", "mae", "r2"):
            if getattr(self, name) is not None:
                values[name] = getattr(self, name)
        if self.baseline is not None:
            values["baseline"] = {"answer": self.baseline[0], "accuracy": self.baseline[1]}
        if self.top_k:
            values["top_k"] = {str(k): share for k, share in self.top_k.items()}
        if self.macro is not None and self.weighted is not None:
            values["macro"] = asdict(self.macro)
            values["weighted"] = asdict(self.weighted)
            values["per_class"] = [asdict(score) for score in self.per_class]
        if self.confusion is not None and len(self.confusion) <= 100:
            values["confusion"] = self.confusion.tolist()
        if self.metrics:
            values["metrics"] = dict(self.metrics)
        for name in ("left_out", "known"):
            if getattr(self, name):
                values[name] = getattr(self, name)
        if self.unreadable:
            values["unreadable"] = list(self.unreadable)
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Evaluation:
        """Return the numbers that `to_json` gave, beside which `values` has the `task`; there are no answers of each example."""
        numbers: dict[str, Any] = {name: float(values[name]) for name in ("loss", "accuracy", "mse", "mae", "r2") if name in values}
        return cls(
            task=values["task"],
            count=values["count"],
            **numbers,
            macro=ClassScore(**values["macro"]) if "macro" in values else None,
            weighted=ClassScore(**values["weighted"]) if "weighted" in values else None,
            answers=torch.empty(0),
            targets=torch.empty(0),
            interval=tuple(values["interval"]) if "interval" in values else None,
            baseline=(values["baseline"]["answer"], float(values["baseline"]["accuracy"])) if "baseline" in values else None,
            metrics={name: float(value) for name, value in values.get("metrics", {}).items()},
            top_k={int(k): share for k, share in values["top_k"].items()} if "top_k" in values else None,
            per_class=tuple(ClassScore(**found) for found in values.get("per_class", ())),
            confusion=torch.tensor(values["confusion"]) if "confusion" in values else None,
        )


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
) -> Evaluation:
    """Return how good `model` is on `examples`: the mean loss (the task's usual one, unless given), the task's scores, and `metrics`.

    Where there is a `label`, a progress bar of that name is shown.
    """
    device = torch.device(device)
    outputs = infer(model, feed(examples, batch_size, device), device, precision, label)
    return score(outputs, examples.targets, spec, loss or reported_loss(spec, model), metrics)


def score(outputs: Tensor, targets: Tensor, spec: DataSpec, loss: Loss, metrics: Metrics = None) -> Evaluation:
    """Return how good `outputs` [n, outputs] are for `targets`."""
    found = _scored(outputs, targets, spec, loss)
    return replace(found, outputs=outputs, metrics=measure(as_metrics(metrics, spec), found.answers, targets, spec.task))


def _scored(outputs: Tensor, targets: Tensor, spec: DataSpec, loss: Loss) -> Evaluation:
    mean_loss = float(loss(outputs, targets))
    found = answers(outputs, spec.task)
    if spec.task == "regression":
        return _score_quantities(found, targets, mean_loss)
    names = spec.outputs
    if spec.task == "multi-label":
        predicted, actual = found >= 0.5, targets > 0.5
        right = int((predicted == actual).all(1).sum())
        scores = class_scores(names, (predicted & actual).sum(0), predicted.sum(0), actual.sum(0))
        sets, counts = actual.unique(dim=0, return_counts=True)
        most = int(counts.argmax())
        commonest = ", ".join(name for name, there in zip(names, sets[most].tolist(), strict=True) if there) or "none"
        extra: dict[str, Any] = {"baseline": (commonest, int(counts[most]) / len(targets))}
    else:
        matrix = confusion_matrix(found.argmax(1), targets, len(names))
        right = int(matrix.diagonal().sum())
        scores = class_scores(names, matrix.diagonal(), matrix.sum(0), matrix.sum(1))
        commonest = names[int(matrix.sum(1).argmax())]
        extra = {"baseline": (commonest, int(matrix.sum(1).max()) / len(targets))}
        extra |= {"confusion": matrix, "top_k": {k: top_k_accuracy(outputs, targets, k) for k in _useful_k(names)}}
    return Evaluation(
        task=spec.task,
        count=len(targets),
        loss=mean_loss,
        answers=found,
        targets=targets,
        accuracy=right / len(targets),
        interval=wilson(right, len(targets)),
        per_class=scores,
        macro=macro(scores),
        weighted=weighted(scores),
        **extra,
    )


def _score_quantities(found: Tensor, targets: Tensor, mean_loss: float) -> Evaluation:
    # Against the targets as they were brought: in float32 both sides could be rounded to the same number.
    error = found.double() - targets.double()
    spread = (targets.double() - targets.double().mean(0)).square().sum(0)
    # The share of the variance that is explained, averaged over the outputs; without any variance there is none to explain.
    unexplained = torch.where(spread > 0, error.square().sum(0) / spread.where(spread > 0, 1.0), (error.square().sum(0) > 0).double())
    return Evaluation(
        task="regression",
        count=len(targets),
        loss=mean_loss,
        answers=found,
        targets=targets,
        mse=error.square().mean().item(),
        mae=error.abs().mean().item(),
        r2=(1 - unexplained).mean().item(),
    )


def _useful_k(names: Sequence[str]) -> list[int]:
    """Top-k is of interest where k leaves most classes out."""
    return [k for k in (2, 3, 5) if 2 * k <= len(names)]
