"""Inputs that are standardized for networks: minus a mean, divided by a standard deviation, both measured on training data.

Their dtypes are uint8 (pixels, which count as 0 to 1), int64 (whole numbers), float32, and float64 for numbers whose differences
float32 would lose: those far from zero relative to their spread, such as times. `Preprocess` subtracts the mean in full precision.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal, NamedTuple, Self

import torch
from pydantic import PositiveFloat, model_validator
from torch import Tensor

from epochal.data.inputs.base import InputRule, type_name
from epochal.data.inputs.preprocess import Preprocess
from epochal.data.inputs.values import Inputs, access, in_memory
from epochal.errors import DataError, RecipeError
from epochal.shown import counted

NumberType = Literal["uint8", "int64", "float32", "float64"]

# Statistics of inputs that are read one by one are measured on this many.
MEASURED = 10_000

# Statistics are computed on this many numbers at a time: 4 MB in float64, which fit in caches.
CHUNK = 500_000

# Numbers stay float64 if the error of rounding to float32 (root mean square) is more than this share of their spread; this
# happens if their mean is some 200 times their spread.
BLUR = 2.0**-17

# float32 cannot represent the reciprocal of smaller or larger spreads, nor float64 the squares of spreads below the least.
_SPREADS = (2.0**-110, 2.0**125)
_LEAST = 1e-140

# Inputs are reported to be of another scale if they vary this many times more or less than the training inputs.
_APART = 8


class ScaledRule(InputRule):
    """A rule with `mean` and `std` of training inputs, one for all or one for each of `scales`; uint8 counts as 0 to 1."""

    # The word in messages for what has its own mean and deviation, and how many axes of an input follow that one.
    scaled: ClassVar[str]
    behind: ClassVar[int] = 0
    measured: ClassVar[tuple[str, ...]] = ("mean", "std")

    dtype: NumberType = "float32"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[PositiveFloat, ...] = (1.0,)

    @model_validator(mode="after")
    def _check_scales(self) -> Self:
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, self.scales):
            raise ValueError(f"mean and std must have {self.scales} numbers, or one for all, for inputs of shape {self.shape}")
        return self

    @property
    @abstractmethod
    def scales(self) -> int:
        """The number of means and deviations."""

    @staticmethod
    @abstractmethod
    def axes(ndim: int) -> list[int]:
        """Return the axes that share a mean and deviation, of inputs with `ndim` axes including the batch."""

    @property
    def is_bytes(self) -> bool:
        """Whether numbers are uint8, which have a fixed scale."""
        return self.dtype == "uint8"

    def preprocess(self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> Preprocess:
        """Return the layer that standardizes inputs."""
        center = self._per_scale("data.mean", self.mean if mean is None else mean)
        spread = self._per_scale("data.std", self.std if std is None else std)
        if (spread <= 0).any():
            raise RecipeError("The setting data.std must be above 0.", "Leave it out to have it measured.")
        return Preprocess(center, spread, self.dtype)

    def _per_scale(self, name: str, values: Sequence[float]) -> Tensor:
        """Return `values` as float64 [scales, 1, ...], which broadcasts with one input."""
        tensor = torch.tensor(list(values), dtype=torch.float64)
        wanted = len(self.mean)
        if len(tensor) == 1:
            tensor = tensor.expand(wanted)
        if len(tensor) != wanted:
            raise RecipeError(
                f"The setting {name} has {counted(len(tensor), 'number')}, but the data have {wanted} {self.scaled}.",
                "Give one number, or one for each.",
            )
        return tensor.reshape(-1, *[1] * self.behind).clone()

    def learn(self, inputs: Inputs) -> Self:
        """Return the rule with the mean and deviation of `inputs`."""
        mean, std = measure(inputs, self.axes(inputs[torch.tensor([0])].ndim))
        # A constant channel or feature is only shifted.
        spread = std.where(std > 0, 1.0)
        return self.model_copy(update={"mean": tuple(mean.reshape(-1).tolist()), "std": tuple(spread.reshape(-1).tolist())})

    def cast(self, inputs: Tensor, given: str, asked: str) -> Tensor:
        """Return `inputs` as `dtype` if that keeps their meaning; else raise `DataError`.

        uint8 pixels are scaled from 0-255 to 0-1, so pictures of another dtype have another meaning.
        """
        fix, dtype = "", getattr(torch, self.dtype)
        if inputs.dtype == dtype:
            return inputs
        if dtype == torch.uint8:
            fix = "Pass pixels as they are in the file, as uint8 from 0 to 255."
        elif inputs.dtype == torch.uint8 and dtype != torch.int64 and inputs.ndim > 2:
            fix = "Scale them as in training."
        elif dtype == torch.int64 and inputs.is_floating_point() and not bool((inputs == inputs.round()).all()):
            fix = "Pass whole numbers."
        elif dtype == torch.float64 and inputs.is_floating_point():
            fix = "Pass them as float64: float32 cannot distinguish such numbers."
        if fix:
            raise DataError(f"{given} {type_name(inputs.dtype)}; {asked} {self.dtype}.", fix)
        return inputs.to(dtype)

    def differs(self, inputs: Inputs) -> str:
        """Describe how inputs differ in scale from those measured.

        uint8 inputs have a fixed scale, and inputs that are not in memory are not read for this. With fewer than ten examples only
        a larger scale is reported: a few may well be alike.
        """
        values = in_memory(inputs)
        if values is None or self.is_bytes:
            return ""
        own, usual = measure(values, self.axes(values.ndim)).std.reshape(-1), torch.tensor(self.std, dtype=torch.float64)
        varies = (own > 0) | (usual != 1)  # The deviation of constants was set to 1.
        ratio = float((own / usual)[varies].median()) if varies.any() else 1.0
        if ratio > _APART:
            return f"vary {ratio:,.0f} times more"
        return f"vary {1 / ratio:,.0f} times less" if 0 < ratio < 1 / _APART and len(values) >= 10 else ""


class Moments(NamedTuple):
    """Mean and standard deviation, float64; uint8 counts as 0 to 1."""

    mean: Tensor
    std: Tensor


def measure(inputs: Inputs, axes: list[int]) -> Moments:
    """Return the moments of inputs over `axes`, computed in chunks."""
    first = inputs[torch.tensor([0])]
    # Differences from an origin keep the squares small, so that the variance of values far from zero is not lost in rounding.
    # Differences of whole numbers are exact.
    exact = torch.int64 if first.dtype == torch.int64 else torch.float64
    origin = first.to(exact).amin(axes, keepdim=True)
    total = square = torch.zeros((), dtype=torch.float64)
    size = 0
    for chunk in chunks(inputs, first.numel()):
        off = (chunk.to(exact) - origin).double()
        total = total + off.sum(axes)
        square = square + off.square_().sum(axes)
        size += off.numel() // total.numel()
    unit = 255.0 if first.dtype == torch.uint8 else 1.0
    variance = (square / size - (total / size).square()).clamp(min=0)
    return Moments((total / size + origin.reshape(total.shape)) / unit, variance.sqrt() / unit)


def chunks(inputs: Inputs, numbers: int) -> Iterator[Tensor]:
    """Yield inputs of `numbers` values each in chunks that are small in float64; if they are read one by one, only a sample."""
    step = max(1, CHUNK // numbers)
    values = in_memory(inputs)
    if values is not None:
        yield from values.split(step)
        return
    places = torch.arange(0, len(inputs), -(-len(inputs) // MEASURED) if access(inputs) == "items" else 1)
    yield from (inputs[some] for some in places.split(step))


def choose_dtype(inputs: Tensor, axes: list[int], split: str) -> NumberType:
    """Return the dtype in which inputs in the rule's shape keep their values; `axes` share a mean and deviation."""
    if inputs.dtype in (torch.uint8, torch.bool):
        return "uint8" if inputs.dtype == torch.uint8 else "float32"
    if not inputs.is_floating_point():
        # Differences of integers must fit in int64 too. Beyond that range, the differences that float64 loses are small.
        return "int64" if int(inputs.max()) - int(inputs.min()) < 2**62 else "float64"
    wide = inputs if inputs.itemsize >= 4 else inputs.float()
    spread = wide.amax(axes).double() - wide.amin(axes).double()
    varied = spread[(spread > 0) & spread.isfinite()]
    extreme = varied[(varied < _SPREADS[0]) | (varied > _SPREADS[1])]
    if len(extreme) and (inputs.dtype != torch.float64 or float(extreme.min()) < _LEAST):
        raise DataError(f"There are inputs of {split} that differ by {float(extreme.min()):.2g}.", "Scale such numbers first.")
    if len(extreme) or inputs.dtype != torch.float64:
        return "float64" if len(extreme) else "float32"
    lost = torch.zeros_like(spread)
    for chunk in chunks(inputs, inputs[0].numel()):
        lost = lost + (chunk - chunk.float()).square_().sum(axes)
    lost = (lost / (inputs.numel() // spread.numel())).sqrt()
    is_blurred = (lost > BLUR * measure(inputs, axes).std) & (spread > 0)
    return "float64" if is_blurred.any() else "float32"
