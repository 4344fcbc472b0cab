"""Regression: predicting quantities in any unit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import ClassVar, Literal, Self

import torch
from pydantic import PositiveFloat, model_validator
from torch import Tensor, nn
from torch.nn import functional

from epochal.errors import DataError, RecipeError
from epochal.recipe import LossSettings
from epochal.tasks.base import CPU, Encoded, Judged, Prediction, Task, Where
from epochal.tasks.columns import name_columns
from epochal.tasks.ending import ending_of
from epochal.tasks.losses import Loss, LossFunction, alike, refuse_smoothing
from epochal.tasks.metrics import MetricFunction
from epochal.tasks.scores import Scores, plain, r2_words

# The name of a quantity without one.
UNNAMED = "y"

# The square of a larger quantity, or of a smaller standard deviation, is out of range for float64.
_LARGEST = 1e150

# A table with more distinct integers contains quantities.
_MANY = 100

# Targets this many standard deviations away from 0 need more than the 24 bits of float32, eight of which then only encode their common
# offset; and so do targets at the limits of its exponents.
_FAR = 256
_LARGE = 1e30

# Where a prediction is farther off than this, so many standard deviations are said.
_FARTHEST = 1e4


def _off(predictions: Tensor, targets: Tensor) -> Tensor:
    return predictions - targets.double().reshape(predictions.shape)


# Lower is better for all of these.
_METRICS: dict[str, MetricFunction] = {
    "mae": lambda predictions, targets: _off(predictions, targets).abs().mean(),
    "mse": lambda predictions, targets: _off(predictions, targets).square().mean(),
    "rmse": lambda predictions, targets: _off(predictions, targets).square().mean().sqrt(),
    "mape": lambda predictions, targets: (_off(predictions, targets).abs() / targets.double().abs().reshape(predictions.shape)).mean(),
    "median error": lambda predictions, targets: _off(predictions, targets).abs().median(0).values.mean(),
    "max error": lambda predictions, targets: _off(predictions, targets).abs().max(),
}


class Rescale(nn.Module):
    """outputs * std + mean: lets a network predict quantities of any size and unit from outputs near 0.

    Computed in `dtype`, which is also that of the outputs: float64 if float32 would lose too much of the differences between
    quantities, such as times.
    """

    scale: Tensor
    bias: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(std, dtype=dtype))
        self.register_buffer("bias", torch.tensor(mean, dtype=dtype))

    def forward(self, outputs: Tensor) -> Tensor:
        """Scale outputs back."""
        return torch.addcmul(self.bias, outputs.to(self.scale.dtype), self.scale)


class Regression(Task):
    """Quantities: targets are [n, outputs] of float32, or of float64 if float32 would round them.

    `mean` and `std` are those of each quantity among the training targets. `dtype` is the type that preserves the differences between
    targets: "float64" if their mean is large compared to their standard deviation.
    """

    name: Literal["regression"] = "regression"
    mean: tuple[float, ...] = ()
    std: tuple[PositiveFloat, ...] = ()
    dtype: Literal["float32", "float64"] = "float32"

    losses = ("mse", "l1", "huber")
    usual_metrics: ClassVar = _METRICS
    metric_inputs = "quantities [n, outputs] and what they should be"
    nouns = ("output", "outputs")
    score_name = "R²"
    has_accuracy = False
    allows_cutmix = False

    @model_validator(mode="after")
    def _check_scales(self) -> Self:
        if len(self.mean) != len(self.std) or len(self.mean) not in (0, len(self.outputs)):
            raise ValueError(f"mean and std do not fit {self.name} with {len(self.outputs)} outputs")
        return self

    @property
    def units(self) -> tuple[float, ...]:
        """The standard deviation of each quantity; of those far from 0, a hundredth of their mean, which float32 can tell apart."""
        return tuple(max(std, abs(mean) / 100) for mean, std in zip(self.mean, self.std, strict=True)) or super().units

    @property
    def needs_float64(self) -> bool:
        """Whether float32 would leave too little of the differences between targets."""
        return self.dtype == "float64"

    @classmethod
    def encode(
        cls, targets: dict[str, Tensor], names: tuple[str, ...] | None, like: Task | None, where: Where, *, is_chosen: bool
    ) -> Encoded:
        """Return numbers as [n, outputs], of float32 if that represents all of them exactly; see `Task.encode`."""
        columns, found = name_columns(_quantities(targets, where), names, None if like is None else like.outputs, UNNAMED)
        return Encoded(cls(outputs=found), columns, () if is_chosen else _about(targets["train"]))

    def learn(self, targets: Mapping[str, Tensor]) -> Self:
        """Return the same task with the mean, the standard deviation and the type of the training targets."""
        train = targets["train"].double()
        spread = train.std(0, correction=0)
        mean, std = train.mean(0), spread.where(spread > 0, 1.0)
        learned = {"mean": mean.tolist(), "std": std.tolist(), "dtype": _dtype(mean, std)}
        return type(self).model_validate({"outputs": self.outputs, **learned})

    def loss(self, settings: LossSettings, examples: int = 0, device: torch.device = CPU, units: Tensor | None = None) -> Loss:  # noqa: ARG002
        """Return the loss that training minimizes, in `units`; see `Task.loss`."""
        name = self.resolve_loss(settings)
        if settings.class_weights != "equal":
            raise RecipeError("The setting loss.class_weights does not work for regression.", "Leave it out.")
        refuse_smoothing(settings, name)
        one = torch.ones((), device=device) if units is None else units.detach().to(device)
        distances: dict[str, LossFunction] = {
            "mse": functional.mse_loss,
            "l1": functional.l1_loss,
            "huber": partial(functional.huber_loss, delta=settings.delta),
        }
        distance = distances[name]

        def distance_loss(outputs: Tensor, targets: Tensor) -> Tensor:
            outputs, targets = alike(outputs, targets)
            return distance(outputs / one, targets / one)

        return Loss(distance_loss)

    def check_ending(self, outputs: Tensor, targets: Tensor, loss: str | None) -> str:  # noqa: ARG002
        """Refuse quantities outside the range of the last function of the model; see `Task.check_ending`."""
        end = ending_of(outputs)
        low, high = float(targets.min()), float(targets.max())
        if end is None or end.low <= low <= high <= end.high:
            return ""
        raise RecipeError(
            f"The model ends in a {end.name}, whose values go from {end.low:g} to {end.high:g}; the targets go from {low:g} to {high:g}.",
            "Leave out its last layer, or bring the targets into that range.",
        )

    def output_layer(self) -> nn.Module:
        """Return the layer that converts outputs near 0 to the unit of the targets."""
        return Rescale(self.mean, self.std, getattr(torch, self.dtype))

    def output_units(self, model: nn.Module) -> Tensor | None:
        """Return the units [outputs] in which `model` computes its outputs; `None` if it does not end in `Rescale`."""
        return next((part.scale for part in model.modules() if isinstance(part, Rescale)), None)

    def decode(self, outputs: Tensor) -> Tensor:
        """Return the quantities: [n, outputs]."""
        return outputs.reshape(outputs.shape[0], -1)

    @property
    def agreements(self) -> int:
        """One number for each quantity; see `agreement`."""
        return len(self.outputs)

    def agreement(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return how far predictions are above the given quantities, in standard deviations of these, up to 10,000: [n, outputs]."""
        off = _off(self.decode(outputs), targets)
        return (off / torch.tensor(self._spreads, dtype=off.dtype, device=off.device)).clamp(-_FARTHEST, _FARTHEST).float()

    @property
    def usual(self) -> tuple[float, ...]:
        """The means of the training targets."""
        return self.mean

    def predict(self, values: Sequence[float]) -> Prediction:
        """Return the quantities, and as text with the significant digits."""
        return Prediction(self._words(values), None, None, dict(zip(self.outputs, values, strict=True)))

    @property
    def _spreads(self) -> Sequence[float]:
        return self.std or [1.0] * len(self.outputs)

    def _words(self, values: Iterable[float]) -> str:
        written = [_quantity(float(value), spread) for value, spread in zip(values, self._spreads, strict=True)]
        return written[0] if len(written) == 1 else ", ".join(map(" ".join, zip(self.outputs, written, strict=True)))

    def judge(self, predictions: Tensor, targets: Tensor, names: Sequence[str]) -> Judged:  # noqa: ARG002
        """Return the quantities, and how far off they are."""
        true = targets.double().reshape(predictions.shape)
        off = predictions.double() - true
        weight = (off.abs() / torch.tensor(self._spreads, dtype=torch.float64)).amax(1)

        def note(place: int) -> str:
            if off.shape[1] > 1:
                return f"off by {weight[place]:.1f} std"
            return f"off by {'+' * bool(off[place] > 0)}{plain(float(off[place]), 4)}"

        return Judged(lambda place: self._words(predictions[place]), lambda place: self._words(true[place]), note, weight, None)

    def score(self, outputs: Tensor, predictions: Tensor, targets: Tensor, loss: float) -> Scores:  # noqa: ARG002
        """Return mean squared and mean absolute error, and R²."""
        # Compared with the original targets: in float32 both sides could be rounded to the same number.
        error = predictions.double() - targets.double()
        spread = (targets.double() - targets.double().mean(0)).square().sum(0)
        # The share of the variance that is explained, averaged over the outputs; without any variance there is none to explain.
        left = error.square().sum(0)
        unexplained = torch.where(spread > 0, left / spread.where(spread > 0, 1.0), (left > 0).double())
        return Scores(
            len(targets), loss, mse=error.square().mean().item(), mae=error.abs().mean().item(), r2=(1 - unexplained).mean().item()
        )

    def headline(self, scores: Scores, remarks: str = "") -> str:
        """Return R² and the mean errors, which have the unit of the targets."""
        assert scores.mae is not None
        assert scores.mse is not None
        errors = f"mean absolute error {plain(scores.mae, 4)}, root mean squared error {plain(math.sqrt(scores.mse), 4)}"
        what = f" of {self.outputs[0]}" if len(self.outputs) == 1 and self.outputs[0] != UNNAMED else ""
        return f"R²{what} {r2_words(self.score_value(scores))}, {errors}, {scores.counted(remarks)}"

    def score_value(self, scores: Scores) -> float:
        """Return R²."""
        return scores.r2 or 0.0

    def score_words(self, value: float) -> str:
        """Format R²."""
        return r2_words(value)

    def sample_predictions(self, targets: Tensor) -> Tensor:
        """Return the targets in another order."""
        return self.decode(targets).flip(0)


def _about(train: Tensor) -> tuple[str, ...]:
    """Yield notes on training targets that may not be quantities."""
    if train.ndim == 2 and _are_shares(train):
        return (
            f"targets are rows that add up to 1, taken as {train.shape[1]} quantities: regression; if they are probabilities of "
            "classes, give the most probable class of each example instead",
        )
    if (train != train.round()).any():
        return ()
    values = train.unique().tolist()
    if train.ndim == 2 and len(values) == 2:
        low, high = (f"{value:.15g}" for value in values)
        return (
            f"targets are a table of {low} and {high}, taken as {train.shape[1]} quantities: regression; if they are labels, "
            "write them as 0 and 1",
        )
    if train.ndim == 2 and len(values) <= _MANY:
        return (
            f"targets are a table of whole numbers, taken as {train.shape[1]} quantities: regression; if its columns are labels, "
            "train on one of them at a time",
        )
    if train.is_floating_point() and len(values) <= _MANY:
        return ("targets are whole numbers written as decimals: regression; data.task = single-label if they are labels",)
    return ()


def _are_shares(table: Tensor) -> bool:
    return table.shape[1] > 1 and bool((table >= 0).all()) and bool(((table.double().sum(1) - 1).abs() < 1e-3).all())


def _quantities(tensors: Mapping[str, Tensor], where: Where) -> dict[str, Tensor]:
    """Return quantities as tables of numbers that are exact, or as exact as float64 is over their whole range."""
    exact = {name: tensor.double().reshape(len(tensor), -1) for name, tensor in tensors.items()}
    for name, table in exact.items():
        far = (table.abs() > _LARGEST).any(1)
        if far.any():
            bad = int(far.nonzero()[0])
            raise DataError(f"The target of {where(name, bad)} is larger than {_LARGEST:g}.", "Use a larger unit.")
        if not tensors[name].is_floating_point():
            _check_rounding(tensors[name].reshape(table.shape), table, name, where)
    spread = exact["train"].amax(0) - exact["train"].amin(0)
    if ((spread > 0) & (spread < 1 / _LARGEST)).any():
        raise DataError(f"The targets differ by less than {1 / _LARGEST:g}.", "Use a smaller unit.")
    if all(bool((table.float() == table).all()) for table in exact.values()):
        return {name: table.float() for name, table in exact.items()}
    return exact


def _check_rounding(whole: Tensor, rounded: Tensor, name: str, where: Where) -> None:
    """Refuse integers whose differences float64 preserves less well than float32 does near 0."""
    step = 2.0 ** (math.frexp(float(rounded.abs().max()))[1] - 53)
    spread = float((rounded.amax(0) - rounded.amin(0)).min())
    is_lost = (rounded.long() != whole).any(1)
    if spread < 2.0**24 * step and is_lost.any():
        bad = int(is_lost.nonzero()[0])
        target = f"The target of {where(name, bad)} is {', '.join(map(str, whole[bad].tolist()))}"
        raise DataError(f"{target}: the targets differ too little for float64, relative to their size.", "Subtract the smallest from all.")


def _dtype(mean: Tensor, std: Tensor) -> str:
    """Return the type of outputs in which predictions are as precise as float32 is near 0."""
    size = mean.abs().maximum(std)
    is_enough = (mean.abs() <= _FAR * std) & (size < _LARGE) & (std > 1 / _LARGE)
    return "float32" if is_enough.all() else "float64"


def _quantity(value: float, spread: float) -> str:
    """Format a quantity in six digits, or in more if they are needed to show a thousandth of the targets' standard deviation."""
    digits = math.ceil(math.log10(abs(value)) - math.log10(spread)) + 4 if value and math.isfinite(value) else 0
    return plain(value, min(max(6, digits), 17))
