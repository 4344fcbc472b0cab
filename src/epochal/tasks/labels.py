"""What one label and several labels have in common: classes with counts and weights, and examples that are right or wrong."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from pydantic import Field, NonNegativeInt
from torch import Tensor

from epochal.errors import RecipeError
from epochal.recipe import LossSettings
from epochal.shown import counted
from epochal.tasks.base import Task
from epochal.tasks.ending import Ending, ending_of
from epochal.tasks.intervals import share_interval
from epochal.tasks.scores import Baseline, ClassScore, Scores, macro, weighted

# What a share of 0 counts as, so that it has a logarithm.
_NOTHING = 1e-30


class LabelTask(Task):
    """A task whose outputs are classes or labels; `counts` is the number of examples with each of them, by split."""

    counts: dict[str, tuple[NonNegativeInt, ...]] = Field(default_factory=dict)

    # PyTorch's loss for scores, and how accuracy is worded.
    torch_loss: ClassVar[str]
    right: ClassVar[str]

    @property
    def class_counts(self) -> Mapping[str, tuple[int, ...]]:
        """The number of examples with each class or label, by split."""
        return self.counts

    def learn(self, targets: Mapping[str, Tensor]) -> Self:
        """Return the same task with the counts of the encoded targets, by split."""
        counts = {name: self.count(tensor).tolist() for name, tensor in targets.items()}
        return type(self).model_validate({"outputs": self.outputs, "counts": counts})

    @abstractmethod
    def count(self, targets: Tensor) -> Tensor:
        """Return how many of encoded `targets` have each class or label: int64 [outputs]."""

    @abstractmethod
    def balanced_weights(self, counts: Tensor, examples: int) -> Tensor:
        """Return weights [outputs] that compensate for these `counts` (float32 [outputs], above 0) among `examples`."""

    def class_weights(self, settings: LossSettings, examples: int, device: torch.device) -> Tensor | None:
        """Return the weights [outputs] that `settings` specify; `None` if all are equal. Raises `RecipeError`."""
        if settings.class_weights == "equal":
            return None
        if settings.class_weights == "balanced":
            counts = torch.tensor(self.counts["train"], dtype=torch.float32).clamp(min=1)
            return self.balanced_weights(counts, examples).to(device)
        if len(settings.class_weights) != len(self.outputs):
            raise RecipeError(
                f"The setting loss.class_weights has {counted(len(settings.class_weights), 'number')} for {len(self.outputs)} classes.",
                "Give one for each.",
            )
        return torch.tensor(settings.class_weights, device=device)

    def check_ending(self, outputs: Tensor, targets: Tensor, loss: str | None) -> str:  # noqa: ARG002
        """Refuse probabilities, and other values that cannot be scores; see `Task.check_ending`."""
        end = ending_of(outputs)
        if last := self.spoiled_by(outputs, end):
            what = "probabilities" if last in ("softmax", "sigmoid") else f"values that went through a {last}"
            if loss is not None:
                raise RecipeError(
                    f"The loss {loss} needs plain scores, but the model gives {what}.", f"Leave out its last layer, the {last}."
                )
            raise RecipeError(
                f"The model gives {what}, but predictions are read from plain scores.",
                f"Leave out its last layer, the {last}, and put it into your loss, or use one that takes scores, such as "
                f"nn.{self.torch_loss}.",
            )
        # A log-softmax before cross-entropy changes nothing.
        if end is None or end.name == "log-softmax":
            return ""
        return f"the model ends in a {end.name}, which bounds its scores: it may learn worse than without"

    @abstractmethod
    def spoiled_by(self, outputs: Tensor, end: Ending | None) -> str:
        """Return the last function of the model if it must not precede the decoding of scores, else ""."""

    def score_value(self, scores: Scores) -> float:
        """Return the accuracy."""
        return scores.accuracy or 0.0

    def score_words(self, value: float) -> str:
        """Format an accuracy in percent."""
        return f"{100 * value:.2f} %"

    def headline(self, scores: Scores, remarks: str = "") -> str:
        """Return the accuracy with its interval, and that of always answering the same."""
        assert scores.interval is not None
        low, high = scores.interval
        always = scores.baseline
        more = "" if always is None else f"; always '{always.answer}' would be {100 * always.accuracy:.1f} %"
        share, count = 100 * self.score_value(scores), scores.counted(remarks)
        return f"{self.right} {share:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f}), {count}{more}"


def logarithms(shares: Tensor) -> Tensor:
    """Return the logarithms of shares from 0 to 1; that of 0 is low, but finite."""
    return shares.clamp(min=_NOTHING).log()


def label_scores(right: int, count: int, loss: float, per_class: tuple[ClassScore, ...], baseline: Baseline) -> Scores:
    """Return the scores that one label and several have in common; `right` is how many examples of `count` are."""
    return Scores(
        count,
        loss,
        accuracy=right / count,
        interval=share_interval(right, count),
        per_class=per_class,
        macro=macro(per_class),
        weighted=weighted(per_class),
        baseline=baseline,
    )
