"""Inputs that networks take scaled: each number less a mean, divided by a deviation, both measured on training data.

Their types are uint8 (pixels, which count 0 to 1), int64 (whole numbers), float32, and float64 for numbers that float32 would blur:
those far from zero for their spread, such as times. `Preprocess` takes their offset off in full precision.
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

NumberType = Literal["uint8", "int64", "float32", "float64"]

# Statistics of inputs that are read one by one come from so many of them.
_MEASURED = 10_000

# Statistics are taken of so many numbers at a time: 4 MB in float64, which caches hold.
_CHUNK = 500_000

# Numbers are kept as float64 where rounding to float32 moves them (root mean square) by more than this share of their spread: where
# their mean is some 200 times as large as that.
BLUR = 2.0**-17

# Nor does float32 hold the reciprocal of spreads that are smaller or larger than this, nor float64 the squares of the least.
_SPREADS = (2.0**-110, 2.0**125)
_LEAST = 1e-140

# Inputs are told to be of another scale where they vary so many times more or less than those of training.
_APART = 8


class ScaledRule(InputRule):
    """A rule with `mean` and `std` of training inputs, one for all or one for each of `scales`; uint8 counts 0 to 1."""

    # What has a mean and deviation of its own, in the words of messages; and how many axes of an input lie behind it.
    scaled: ClassVar[str]
    behind: ClassVar[int] = 0

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
        """How many means and deviations there are."""

    @staticmethod
    @abstractmethod
    def axes(ndim: int) -> list[int]:
        """Return the axes that share a mean and deviation, of inputs of so many with the batch."""

    @property
    def is_bytes(self) -> bool:
        """Whether numbers are uint8, of which every value has its meaning."""
        return self.dtype == "uint8"

    def preprocess(self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> Preprocess:
        """Return the layer that scales."""
        center = self._per_scale("data.mean", self.mean if mean is None else mean)
        spread = self._per_scale("data.std", self.std if std is None else std)
        if (spread <= 0).any():
            raise RecipeError("The setting data.std must be above 0.", "Leave it out to have it measured.")
        return Preprocess(center, spread, self.dtype)

    def _per_scale(self, name: str, values: Sequence[float]) -> Tensor:
        """Return numbers in float64 [scales, 1, ...], so that they stand at the axis that they are for."""
        tensor = torch.tensor(list(values), dtype=torch.float64)
        count = len(self.mean)
        if len(tensor) == 1:
            tensor = tensor.expand(count)
        if len(tensor) != count:
            raise RecipeError(
                f"The setting {name} has {len(tensor)} numbers, but the data have {count} {self.scaled}.",
                "Give one number, or one for each.",
            )
        return tensor.reshape(-1, *[1] * self.behind).clone()

    def learn(self, inputs: Inputs) -> Self:
        """Return the rule with the mean and deviation of `inputs`."""
        mean, std = measure(inputs, self.axes(inputs[torch.tensor([0])].ndim))
        # A channel or feature that never changes is only shifted.
        spread = std.where(std > 0, 1.0)
        return self.model_copy(update={"mean": tuple(mean.reshape(-1).tolist()), "std": tuple(spread.reshape(-1).tolist())})

    def cast(self, inputs: Tensor, given: str, asked: str) -> Tensor:
        """Return `inputs` as `dtype`, where they mean the same.

        Pixels of uint8 count from 0 to 255 and are scaled by that, so pictures of another type are other pictures.
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
        """Say how inputs differ in scale from those that were measured.

        Of uint8 every value has its meaning, and inputs that are not in memory are not read for this. Of fewer than ten examples only
        larger ones are told: a few may well be alike.
        """
        values = in_memory(inputs)
        if values is None or self.is_bytes:
            return ""
        own, usual = measure(values, self.axes(values.ndim)).std.reshape(-1), torch.tensor(self.std, dtype=torch.float64)
        varies = (own > 0) | (usual != 1)  # What never changed counts as 1.
        ratio = float((own / usual)[varies].median()) if varies.any() else 1.0
        if ratio > _APART:
            return f"vary {ratio:,.0f} times more"
        return f"vary {1 / ratio:,.0f} times less" if 0 < ratio < 1 / _APART and len(values) >= 10 else ""


class Moments(NamedTuple):
    """Mean and standard deviation, float64; uint8 counts 0 to 1."""

    mean: Tensor
    std: Tensor


def measure(inputs: Inputs, axes: list[int]) -> Moments:
    """Return the moments of inputs over `axes`, taken a chunk at a time."""
    first = inputs[torch.tensor([0])]
    # Differences from one value keep the squares small: the variance of values far from zero is not lost in rounding. Those of
    # whole numbers are exact.
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
    """Yield inputs of so many `numbers` each in chunks that stay small in float64; of inputs read one by one, some."""
    step = max(1, _CHUNK // numbers)
    values = in_memory(inputs)
    if values is not None:
        yield from values.split(step)
        return
    places = torch.arange(0, len(inputs), -(-len(inputs) // _MEASURED) if access(inputs) == "items" else 1)
    yield from (inputs[some] for some in places.split(step))


def choose_dtype(inputs: Tensor, axes: list[int], split: str) -> NumberType:
    """Return the type in which inputs in the rule's shape keep their values; `axes` share a mean and deviation."""
    if inputs.dtype in (torch.uint8, torch.bool):
        return "uint8" if inputs.dtype == torch.uint8 else "float32"
    if not inputs.is_floating_point():
        # Differences of whole numbers must fit int64 as well. Beyond that, those that float64 does not tell apart are small.
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
