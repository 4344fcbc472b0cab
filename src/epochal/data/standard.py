"""Inputs in the one form that training, evaluation and prediction share: [n, *shape], channels first, of one of four types.

The types are uint8 (pixels), int64 (whole numbers), float32, and float64 for numbers that float32 would blur: those far from zero
for their spread, such as times. `Preprocess` takes their offset off in full precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from epochal.data.examples import Lazy, Part, Stored
from epochal.errors import DataError

# Statistics of inputs that are read one by one come from so many of them.
_MEASURED = 10_000

# What type such inputs need is seen from so many.
_PROBED = 64

# Statistics are taken of so many numbers at a time: 4 MB in float64, which caches hold.
_CHUNK = 500_000

# Numbers are kept as float64 where rounding to float32 moves them (root mean square) by more than this share of their spread: where
# their mean is some 200 times as large as that.
_BLUR = 2.0**-17

# Nor does float32 hold the reciprocal of spreads that are smaller or larger than this, nor float64 the squares of the least.
_SPREADS = (2.0**-110, 2.0**125)
_LEAST = 1e-140

# Inputs are told to be of another scale where they vary so many times more or less than those of training.
_APART = 8

_LARGEST = torch.finfo(torch.float32).max


class Form(NamedTuple):
    """What all inputs of one data set are alike in: the shape of one, and the type of their numbers."""

    shape: tuple[int, ...]
    dtype: torch.dtype


def form_of(part: Part, split: str, notes: list[str]) -> Form:
    """Choose the form of inputs by those of training; add to `notes` what the user should hear of it."""
    inputs = part.inputs
    if not isinstance(inputs, Tensor):
        probed = _PROBED if inputs[0].dtype == torch.float64 else 1
        inputs = torch.stack([inputs[place] for place in range(0, len(inputs), -(-len(inputs) // probed))])
    _check_size(inputs, part.where(split, 0))
    shape = _chosen_shape(tuple(inputs.shape[1:]), inputs.dtype, notes)
    arranged = arrange(inputs, shape)
    assert arranged is not None
    dtype = _chosen_dtype(arranged, split)
    if arranged.ndim == 3 and dtype != torch.uint8:
        columns = measure(arranged.flatten(0, 1)).std
        lost = ((columns > 0) & (columns < _BLUR * measure(arranged).std)).nonzero().flatten().tolist()
        if lost:
            told = f"number {lost[0]} of a row varies so little beside the others that it is lost: scale it first"
            notes.append(f"inputs of shape {shape} share one mean and deviation; {told}")
    return Form(shape, dtype)


def to_form(part: Part, split: str, form: Form, asked: str) -> Tensor | Lazy:
    """Bring inputs to `form`, those read one by one as they are read; `asked` says whose form it is in the words of an error.

    Raises `DataError` for another shape, for numbers of a type that would mean something else, and for NaN.
    """
    if isinstance(part.inputs, Tensor):
        return _to_form(part.inputs, part, split, form, asked)
    reader = (_StoredReader if isinstance(part.inputs, Stored) else _Reader)(part, split, form, asked)
    _to_form(part.inputs[0][None], part, split, form, asked)
    return reader


def arrange(inputs: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """Return inputs [n, ...] as [n, *shape], where they only lack the axis of a single channel, or have their channels last."""
    if inputs.shape[1:] == shape:
        return inputs
    if shape[0] == 1 and inputs.ndim == len(shape) and inputs.shape[1:] == shape[1:]:
        return inputs[:, None]
    if len(shape) == 3 and inputs.ndim == 4 and inputs.shape[1:] == (*shape[1:], shape[0]):
        return inputs.movedim(-1, 1)
    return None


def cast(inputs: Tensor, dtype: torch.dtype, given: str, asked: str) -> Tensor:
    """Return `inputs` as `dtype`, where they mean the same; else raise `DataError`: "`given` TYPE; `asked` TYPE".

    Pixels of uint8 count from 0 to 255 and are scaled by that, so pictures of another type are other pictures.
    """
    fix = ""
    if inputs.dtype == dtype:
        return inputs
    if dtype == torch.uint8:
        fix = "Pass pixels as they are in the file, as uint8 from 0 to 255."
    elif inputs.dtype == torch.uint8 and dtype != torch.int64 and inputs.ndim > 2:
        fix = "Scale them as in training."
    elif dtype == torch.int64 and inputs.is_floating_point() and not bool((inputs == inputs.round()).all()):
        fix = "Pass whole numbers."
    elif dtype == torch.float64 and inputs.is_floating_point():
        fix = "Pass them as float64: float32 does not tell such numbers apart."
    if fix:
        raise DataError(f"{given} {type_name(inputs.dtype)}; {asked} {type_name(dtype)}.", fix)
    return inputs.to(dtype)


def type_name(dtype: torch.dtype) -> str:
    """Return the name of a type as NumPy has it."""
    return str(dtype).removeprefix("torch.")


class Moments(NamedTuple):
    """Mean and standard deviation per channel or feature, float64; uint8 counts 0 to 1."""

    mean: Tensor
    std: Tensor


def measure(inputs: Tensor | Lazy) -> Moments:
    """Return the moments of inputs in their standard form, taken a chunk at a time."""
    first = inputs[0][None]
    axes = _axes(first.ndim)
    # Differences from one value keep the squares small: the variance of values far from zero is not lost in rounding. Those of
    # whole numbers are exact.
    exact = torch.int64 if first.dtype == torch.int64 else torch.float64
    origin = first.to(exact).amin(axes, keepdim=True)
    total = square = torch.zeros((), dtype=torch.float64)
    size = 0
    for chunk in _chunks(inputs, first.numel()):
        off = (chunk.to(exact) - origin).double()
        total = total + off.sum(axes)
        square = square + off.square_().sum(axes)
        size += off.numel() // total.numel()
    unit = 255.0 if first.dtype == torch.uint8 else 1.0
    variance = (square / size - (total / size).square()).clamp(min=0)
    return Moments((total / size + origin.reshape(total.shape)) / unit, variance.sqrt() / unit)


def apart(inputs: Tensor | Lazy, std: Sequence[float]) -> str:
    """Say how inputs differ in scale from those whose deviations are `std`, "" where they do not: "vary 255 times less".

    Of uint8 every value has its meaning, and inputs that are read one by one are not read for this. Of fewer than ten examples only
    larger ones are told: a few may well be alike.
    """
    if not isinstance(inputs, Tensor) or inputs.dtype == torch.uint8:
        return ""
    own, usual = measure(inputs).std.reshape(-1), torch.tensor(std, dtype=torch.float64)
    varies = (own > 0) | (usual != 1)  # What never changed counts as 1.
    ratio = float((own / usual)[varies].median()) if varies.any() else 1.0
    if ratio > _APART:
        return f"vary {ratio:,.0f} times more"
    return f"vary {1 / ratio:,.0f} times less" if 0 < ratio < 1 / _APART and len(inputs) >= 10 else ""


def _axes(ndim: int) -> list[int]:
    """The axes that share a mean and deviation: all but the channels of pictures, or the features of a table."""
    return [0, *range(2, ndim)] if ndim == 4 else [0] if ndim == 2 else list(range(ndim))


def _chunks(inputs: Tensor | Lazy, numbers: int) -> Iterator[Tensor]:
    """Yield inputs of so many `numbers` each in chunks that stay small in float64; of inputs read one by one, some."""
    step = max(1, _CHUNK // numbers)
    if isinstance(inputs, Tensor):
        yield from inputs.split(step)
        return
    if isinstance(inputs, Stored):
        yield from (inputs.gather(index) for index in torch.arange(len(inputs)).split(step))
        return
    places = range(0, len(inputs), -(-len(inputs) // _MEASURED))
    for start in range(0, len(places), step):
        yield torch.stack([inputs[place] for place in places[start : start + step]])


class _Reader:
    """Inputs read one by one, each brought into the form of the others."""

    def __init__(self, part: Part, split: str, form: Form, asked: str) -> None:
        self.part = part
        self.about = (split, form, asked)

    def __len__(self) -> int:
        return len(self.part.inputs)

    def __getitem__(self, index: int) -> Tensor:
        return _to_form(self.part.inputs[index][None], self.part, *self.about, torch.tensor([index]))[0]


class _StoredReader(_Reader):
    """The same of inputs that are read many at once."""

    def gather(self, index: Tensor) -> Tensor:
        assert isinstance(self.part.inputs, Stored)
        return _to_form(self.part.inputs.gather(index), self.part, *self.about, index)


def _to_form(inputs: Tensor, part: Part, split: str, form: Form, asked: str, index: Tensor | None = None) -> Tensor:
    """Bring inputs [n, ...] to `form`; they are those at `index` of the part, or all."""

    def name(place: int) -> str:
        return part.where(split, place if index is None else int(index[place]))

    _check_size(inputs, name(0))
    check_finite(inputs, name)
    arranged = arrange(inputs, form.shape)
    # The first thing to be wrong is told: pictures of another type often lack their channel too.
    values = cast(inputs if arranged is None else arranged, form.dtype, f"Inputs of {split} are", f"{asked} are")
    if arranged is None:
        shape = tuple(inputs.shape[1:])
        raise DataError(f"Inputs of {split} have shape {shape}; {asked} have {form.shape}.", "Bring inputs of that shape.")
    return values.contiguous()


def _check_size(inputs: Tensor, name: str) -> None:
    if not inputs.numel():
        raise DataError(f"The input {name} has no numbers: its shape is {tuple(inputs.shape[1:])}.", "Bring inputs with at least one.")


def check_finite(inputs: Tensor, name: Callable[[int], str]) -> None:
    """Refuse NaN, and what float32 calls infinite; `name` names an example."""
    if not inputs.is_floating_point():
        return
    values = inputs if inputs.itemsize >= 4 else inputs.float()  # float8 has no isfinite.
    is_right = values.abs() <= _LARGEST if inputs.dtype == torch.float64 else values.isfinite()
    if is_right.all():
        return
    bad = (~is_right).nonzero()[0].tolist()
    value = float(values[tuple(bad)])
    if math.isfinite(value):
        told, fix = f"{value:g} at {bad[1:]}, which is beyond float32 (up to {_LARGEST:.2g})", "Scale such numbers first."
    else:
        told, fix = f"a NaN or infinite value at {bad[1:]}", "Fix or remove that example."
    raise DataError(f"The input {name(bad[0])} has {told}.", fix)


def _chosen_shape(shape: tuple[int, ...], dtype: torch.dtype, notes: list[str]) -> tuple[int, ...]:
    """Return the shape of inputs that have this one without the batch: with a channel, and channels first."""
    if not shape or (len(shape) == 2 and dtype == torch.uint8):
        return (1, *shape)
    if len(shape) == 2 and shape[0] == shape[1] >= 8:
        notes.append(f"inputs of {shape[0]}×{shape[1]} {type_name(dtype)} are used as tables of numbers; x[:, None] makes pictures of them")
    if len(shape) != 3:
        return shape
    first, height, last = shape
    layout = _layout(first, height, last)
    if layout == "first":
        return shape
    if layout == "last":
        notes.append("pictures came with channels last; they are used with channels first")
        return (last, first, height)
    notes.append(f"it cannot be told whether inputs of shape {shape} have channels first or last; they are used as {first} channels")
    return shape


def _layout(first: int, middle: int, last: int) -> str:
    """Say where the channels of pictures [first, middle, last] are: "first", "last" or "unclear".

    Most pictures are square or have 1, 3 or 4 channels, and nearly all have fewer channels than pixels to a side.
    """
    if first == last or first == middle == 1:
        return "first" if first == 1 else "unclear"
    if middle in (first, last):
        return "first" if middle == last else "last"
    is_usual = first in (1, 3, 4), last in (1, 3, 4)
    if is_usual[0] != is_usual[1]:
        return "first" if is_usual[0] else "last"
    if first == 1 or first < min(middle, last) / 2:
        return "first"
    return "last" if not is_usual[0] and last < min(first, middle) / 2 else "unclear"


def _chosen_dtype(inputs: Tensor, split: str) -> torch.dtype:
    """Return the type in which inputs in their standard shape keep their values."""
    if inputs.dtype in (torch.uint8, torch.bool):
        return torch.uint8 if inputs.dtype == torch.uint8 else torch.float32
    if not inputs.is_floating_point():
        # Differences of whole numbers must fit int64 as well. Beyond that, those that float64 does not tell apart are small.
        return torch.int64 if int(inputs.max()) - int(inputs.min()) < 2**62 else torch.float64
    axes = _axes(inputs.ndim)
    wide = inputs if inputs.itemsize >= 4 else inputs.float()
    spread = wide.amax(axes).double() - wide.amin(axes).double()
    varied = spread[(spread > 0) & spread.isfinite()]
    extreme = varied[(varied < _SPREADS[0]) | (varied > _SPREADS[1])]
    if len(extreme) and (inputs.dtype != torch.float64 or float(extreme.min()) < _LEAST):
        raise DataError(f"There are inputs of {split} that differ by {float(extreme.min()):.2g}.", "Scale such numbers first.")
    if len(extreme) or inputs.dtype != torch.float64:
        return torch.float64 if len(extreme) else torch.float32
    lost = torch.zeros_like(spread)
    for chunk in _chunks(inputs, inputs[0].numel()):
        lost = lost + (chunk - chunk.float()).square_().sum(axes)
    lost = (lost / (inputs.numel() // spread.numel())).sqrt()
    is_blurred = (lost > _BLUR * measure(inputs).std) & (spread > 0)
    return torch.float64 if is_blurred.any() else torch.float32
