"""The interface of a task: how targets are read, which loss trains, what outputs mean, and how good they are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeAlias

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from epochal.errors import RecipeError
from epochal.recipe import LossSettings
from epochal.shown import are, counted
from epochal.tasks.losses import Loss, LossFunction, own_loss
from epochal.tasks.metrics import MetricFunction
from epochal.tasks.scores import Scores

TaskName: TypeAlias = Literal["single-label", "multi-label", "regression"]

# Names an example by its split and its place there.
Where: TypeAlias = Callable[[str, int], str]

CPU = torch.device("cpu")


@dataclass(frozen=True, repr=False)
class Prediction:
    """The prediction of a model for one input.

    `values` holds every output by name: the probability (0 to 1) of each class or label, or the predicted quantities. `label`
    is the most probable class; with several labels those of at least 0.5, joined by ", "; for quantities their values as text. With
    thresholds (see `Task`), it is what they say.
    `probability` is that of the label; `runner_up` the second class and its probability. Both are `None` if they do not apply.
    """

    label: str
    probability: float | None
    runner_up: tuple[str, float] | None
    values: Mapping[str, float]

    def __repr__(self) -> str:
        return f"Prediction({self.label!r}" + (")" if self.probability is None else f", {self.probability:.3f})")

    def __str__(self) -> str:
        return self.label if self.probability is None else f"{self.label} ({100 * self.probability:.1f} %)"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        runner_up = None if self.runner_up is None else {"label": self.runner_up[0], "probability": self.runner_up[1]}
        return {"label": self.label, "probability": self.probability, "runner_up": runner_up, "values": dict(self.values)}


class Judged(NamedTuple):
    """What is said of single examples, by index: the prediction, the truth, and how sure the model is, or how far off.

    `right` (bool [n]) says which predictions are right; it is `None` for quantities, which are neither right nor wrong. `weight` [n] is
    largest for the mistakes to look at first: the confidence (0 to 1), or the error in standard deviations.
    """

    predicted: Callable[[int], str]
    true: Callable[[int], str]
    note: Callable[[int], str]
    weight: Tensor
    right: Tensor | None


@dataclass(frozen=True)
class Encoded:
    """Targets by split as training uses them (see `Examples.targets`), and the task, which names the outputs."""

    task: Task
    targets: dict[str, Tensor]
    notes: tuple[str, ...] = ()


class Task(BaseModel):
    """What the targets mean, with the names of the outputs and statistics of the targets.

    `outputs` names the outputs of a model: the classes, the labels or the quantities. With `thresholds`, one for each output, the answer
    is the class whose probability is largest in proportion to its threshold, or the labels with at least theirs; without, the most
    probable class, or labels of at least one half. Class variables: `losses` are the names of the
    losses that fit, the default first; `usual_metrics` the metrics that a recipe can name, and `metric_inputs` says what they take;
    `nouns` are the words for one output and for several; `score_name` is the name of the main score. `has_accuracy` means that an
    example is right or wrong; `has_classes`, that it has exactly one of the outputs; `allows_cutmix`, that the target of a part of an
    input is weighted by its share.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    outputs: tuple[str, ...]
    thresholds: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()

    losses: ClassVar[tuple[str, ...]]
    usual_metrics: ClassVar[Mapping[str, MetricFunction]]
    metric_inputs: ClassVar[str]
    nouns: ClassVar[tuple[str, str]]
    score_name: ClassVar[str] = "accuracy"
    least_outputs: ClassVar[int] = 1
    has_accuracy: ClassVar[bool] = True
    has_classes: ClassVar[bool] = False
    allows_cutmix: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check_outputs(self) -> Self:
        """Refuse a contradictory description: it may come from an untrusted file."""
        if (there := len(self.outputs)) < self.least_outputs:
            raise ValueError(f"there {are(there)} {counted(there, 'output')}, but {self.name} takes at least {self.least_outputs}")
        if len(set(self.outputs)) < len(self.outputs):
            raise ValueError("some outputs have the same name")
        if self.thresholds and not (self.has_accuracy and len(self.thresholds) == len(self.outputs)):
            raise ValueError(
                f"there {are(len(self.thresholds))} {counted(len(self.thresholds), 'threshold')} for {len(self.outputs)} {self.noun}"
            )
        return self

    @property
    def class_counts(self) -> Mapping[str, tuple[int, ...]]:
        """The number of examples with each class or label, by split; empty for quantities."""
        return {}

    @property
    def needs_float64(self) -> bool:
        """Whether float32 would lose too much of the differences between targets."""
        return False

    @property
    def noun(self) -> str:
        """The noun for the outputs, singular or plural: "classes"."""
        return self.nouns[len(self.outputs) != 1]

    @classmethod
    @abstractmethod
    def encode(
        cls, targets: dict[str, Tensor], names: tuple[str, ...] | None, like: Task | None, where: Where, *, is_chosen: bool
    ) -> Encoded:
        """Return the raw `targets` of all splits as training uses them.

        `names` are those of the outputs, if they are known. With `like`, targets are for an existing model, and are matched by name.
        `is_chosen` means that the user chose the task: then there are no notes about it. Raises `DataError`.
        """

    @abstractmethod
    def learn(self, targets: Mapping[str, Tensor]) -> Self:
        """Return the same task with statistics of the encoded targets, by split."""

    def resolve_loss(self, settings: LossSettings) -> str:
        """Return the name of the loss, with "auto" replaced by the default. Raises `RecipeError` if it does not fit."""
        if settings.name == "auto":
            return self.losses[0]
        if settings.name not in self.losses:
            raise RecipeError(f"The loss {settings.name} is not for {self.name} targets.", f"Use {' or '.join(self.losses)}.")
        return settings.name

    @abstractmethod
    def loss(self, settings: LossSettings, examples: int = 0, device: torch.device = CPU, units: Tensor | None = None) -> Loss:
        """Return the loss that training minimizes. Raises `RecipeError` if the settings do not fit the task.

        `examples` is the number of training examples, for balanced weights. Errors of quantities are measured in `units` [outputs], if
        given: then neither the size of gradients nor the result depends on whether a length is in metres or miles.
        """

    def reported_loss(self, model: nn.Module, settings: LossSettings | None = None, own: LossFunction | None = None) -> Loss:
        """Return the loss that evaluation of `model` reports: the user's `own`, or that of `settings` without smoothing and weights."""
        if own is not None:
            return own_loss(own)
        settings = settings or LossSettings()
        return self.loss(LossSettings(name=settings.name, delta=settings.delta), units=self.output_units(model))

    @abstractmethod
    def check_ending(self, outputs: Tensor, targets: Tensor, loss: str | None) -> str:
        """Check whether `outputs` of a few examples, which have a gradient function, can be decoded and fit the loss of that name.

        `loss` is `None` for the user's own; `targets` are all training targets. Returns a note, or "". Raises `RecipeError` if the last
        function of the model is wrong for what follows: probabilities instead of scores, or a limited range.
        """

    def output_layer(self) -> nn.Module | None:
        """Return the layer that converts the outputs of a network to the scale of the targets, if there is one."""
        return None

    def output_units(self, model: nn.Module) -> Tensor | None:  # noqa: ARG002
        """Return the units [outputs] in which `model` computes its outputs; `None` if it has no `output_layer`."""
        return None

    @abstractmethod
    def decode(self, outputs: Tensor) -> Tensor:
        """Return predictions from outputs [n, outputs]: probabilities of classes or labels, or the quantities themselves."""

    def answers(self, predictions: Tensor) -> Tensor:
        """Return the answers in predictions [n, outputs]: classes (int64 [n]), labels (bool [n, labels]), or the quantities themselves."""
        return predictions

    def as_usual(self, predictions: Tensor) -> Tensor:
        """Return predictions [n, outputs] in which one who knows no thresholds sees the same answers: 1 for an answer, else 0."""
        return self.soft_targets(self.answers(predictions)).to(predictions.dtype) if self.thresholds else predictions

    def average(self, outputs: Tensor, shares: Tensor) -> Tensor:
        """Return outputs [n, outputs] for recordings of which a network saw several windows, and gave `outputs` [n, windows, outputs].

        `shares` [n, windows, 1], which add up to 1, are how much each counts. Windows alike have the outputs of one.
        """
        return (outputs * shares).sum(1)

    def decoder(self) -> nn.Module:
        """Return `decode` as a layer, to be exported behind a model."""
        return _Decoder(self)

    @property
    def agreements(self) -> int:
        """How many numbers `agreement` gives for each example; 0 where labels are not followed along training."""
        return 0

    def agreement(self, outputs: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG002
        """Return how far outputs [n, outputs], float32, agree with the given targets: float32 [n, agreements]."""
        return outputs[:, :0]

    @property
    def units(self) -> tuple[float, ...]:
        """What is a difference of 1 in each value of a prediction: 1 for probabilities, the spread for quantities."""
        return (1.0,) * len(self.outputs)

    @property
    def usual(self) -> tuple[float, ...]:
        """What is best predicted of quantities without looking at inputs: their means in the training data; nothing for other tasks."""
        return ()

    @abstractmethod
    def predict(self, values: Sequence[float]) -> Prediction:
        """Return the prediction in one row of predictions."""

    def judge(self, predictions: Tensor, targets: Tensor, names: Sequence[str]) -> Judged | None:  # noqa: ARG002
        """Return what is said of single predictions, with these `names` of the outputs; `None` if they are not shown."""
        return None

    @abstractmethod
    def score(self, outputs: Tensor, predictions: Tensor, targets: Tensor, loss: float) -> Scores:
        """Return the scores of outputs [n, outputs], whose mean `loss` is given, for `targets`."""

    def confusion(self, predictions: Tensor, targets: Tensor) -> Tensor | None:  # noqa: ARG002
        """Return the confusion matrix (row: true class, column: predicted): int64 [classes, classes]; `None` without classes."""
        return None

    @abstractmethod
    def headline(self, scores: Scores, remarks: str = "") -> str:
        """Return scores in one line, with `remarks` on the examples after their number."""

    @abstractmethod
    def score_value(self, scores: Scores) -> float:
        """Return the score of `score_name`."""

    @abstractmethod
    def score_words(self, value: float) -> str:
        """Format that score in at most eight characters."""

    def soft_targets(self, targets: Tensor) -> Tensor:
        """Return targets that can be mixed: probabilities [n, classes] for classes, others unchanged."""
        return targets

    def sample_predictions(self, targets: Tensor) -> Tensor:
        """Return invented predictions for examples with these targets, the same each time."""
        return self.decode(torch.randn((len(targets), len(self.outputs)), generator=torch.Generator().manual_seed(0)))


class _Decoder(nn.Module):
    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def forward(self, outputs: Tensor) -> Tensor:
        return self.task.decode(outputs)
