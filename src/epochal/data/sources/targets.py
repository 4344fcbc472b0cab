"""Targets in any form, read as numbers or words; a target that cannot be read is refused, with its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from epochal.data.examples import address
from epochal.data.numbers import check_characters
from epochal.errors import DataError

# Types of missing values, by name: pandas need not be imported to recognize them.
_MISSING = ("NoneType", "NAType", "NaTType", "MaskedConstant")
_NUMBERS = (bool, np.bool_, int, np.integer, float, np.floating)
_WANTED = "Give a number or a word for each example, or a row of numbers."
_FILL = "Fill it in, or remove that example."
_BEYOND = "which is beyond int64"
_SMALLER = "Use smaller numbers; for labels, words do too."


def read_targets(values: Any, split: str) -> Tensor | list[str]:
    """Return the targets of a split as numbers [n, ...] of their own type, or as n words.

    `values` are a tensor, an array, a column of a data frame, or a list. Unsigned numbers of more than 8 bits become int64; bytes
    are words in UTF-8. Raises `DataError` for what is missing, masked, or neither a number nor a word.
    """
    if isinstance(values, Sequence) and any(isinstance(value, Tensor) for value in values):
        values = _stacked(values, split)
    if isinstance(values, Tensor):
        return _from_tensor(values, split)
    if isinstance(values, np.ma.MaskedArray) or (
        isinstance(values, Sequence) and any(isinstance(one, np.ma.MaskedArray) for one in values)
    ):
        masked = np.array([bool(np.ma.getmaskarray(one).any()) for one in values], dtype=np.bool_)
        _refuse_any(masked, split, lambda _: "is missing: it is masked", _FILL)
        values = values.data if isinstance(values, np.ma.MaskedArray) else [np.ma.getdata(one) for one in values]
    array = np.asarray(values) if hasattr(values, "__array__") else _from_list(values)
    return _from_array(array, split)


def _stacked(values: Sequence[Any], split: str) -> Tensor:
    """Return tensors of one type and shape as one."""
    first = values[0]
    for index, value in enumerate(values):
        if not isinstance(value, Tensor) or not isinstance(first, Tensor) or (value.dtype, value.shape) != (first.dtype, first.shape):
            raise DataError(
                f"The target of {address(split, index)} is {_described(value)}, that of {address(split, 0)} {_described(first)}.",
                "Give all targets the same type and shape.",
            )
    return torch.stack([value.detach().cpu() for value in values])


def _described(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"of type {type(value).__name__}"
    return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"


def _from_tensor(tensor: Tensor, split: str) -> Tensor | list[str]:
    tensor = tensor.detach()
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        raise DataError(f"The targets of {split} are a tensor that is sparse, quantized or without values.", "Pass a plain tensor.")
    if tensor.is_complex() or not tensor.ndim:
        raise _unusable(split, "complex numbers" if tensor.is_complex() else "a single value")
    if tensor.dtype in (torch.uint16, torch.uint32, torch.uint64):  # PyTorch supports hardly any operations on these.
        return _from_array(tensor.cpu().numpy(), split)
    # Nor on floats of 8 bits.
    return tensor.cpu() if not tensor.is_floating_point() or tensor.element_size() > 1 else tensor.cpu().float()


def _from_list(values: Any) -> NDArray[Any]:
    """Return a list as an array in which no number is rounded to the type of another."""
    if isinstance(values, Sequence) and values and all(isinstance(value, np.ndarray) for value in values):
        kinds = {(value.dtype, value.shape) for value in values}
        return np.asarray(values, dtype=None if len(kinds) == 1 else object)
    return np.asarray(values, dtype=object)


def _from_array(array: NDArray[Any], split: str) -> Tensor | list[str]:
    if not array.ndim:
        raise _unusable(split, "a single value")
    if array.dtype.kind == "O":
        array = _from_objects(array, split)
    kind = array.dtype.kind
    if kind in "US":
        return _words(array, split)
    if kind not in "buif":
        what = {"c": "complex numbers", "M": "dates", "m": "durations"}
        raise _unusable(split, what.get(kind, f"of type {array.dtype}"))
    if kind == "u" and array.itemsize > 1:
        beyond = array > np.iinfo(np.int64).max
        _refuse_any(beyond, split, lambda place: f"is {array[place]}, {_BEYOND}", _SMALLER)
        array = array.astype(np.int64)
    if kind == "f" and array.itemsize > 8:
        double = array.astype(np.float64)
        lost = (double != array) & ~np.isnan(array)
        _refuse_any(lost, split, lambda _: "has more digits than float64 keeps", "Round it, or subtract a constant.")
        array = double
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _words(array: NDArray[Any], split: str) -> list[str]:
    if array.size != len(array):
        raise _unusable(split, "several words in a row")
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "backslashreplace")
    check_characters(array, f"The targets of {split} contain")
    words = [str(word) for word in array.ravel()]
    _refuse_any(np.array([not word.strip() for word in words], dtype=np.bool_), split, lambda _: "is missing: it is an empty word", _FILL)
    return words


def _from_objects(array: NDArray[Any], split: str) -> NDArray[Any]:
    """Return objects as an array of words, booleans or numbers, without rounding."""
    values = array.ravel().tolist()
    types = set(map(type, values))

    def refuse(is_so: Callable[[Any], bool], describe: Callable[[Any], str], fix: str) -> None:
        found = np.array([is_so(value) for value in values]).reshape(array.shape)
        _refuse_any(found, split, lambda place: describe(array[place]), fix)

    if any(kind.__name__ in _MISSING for kind in types):
        refuse(lambda value: type(value).__name__ in _MISSING, lambda _: "is missing", _FILL)
    if any(issubclass(kind, str | bytes) for kind in types):
        refuse(_is_nan, lambda _: "is missing", _FILL)
        mixed = "Use only words, or only numbers."
        refuse(lambda value: not isinstance(value, str | bytes), lambda value: f"is {value!r}, while others are words", mixed)
        words = [value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value for value in values]
        return np.array(words).reshape(array.shape)
    refuse(lambda value: not isinstance(value, _NUMBERS), lambda value: f"is of type {type(value).__name__}", _WANTED)
    if types <= {bool, np.bool_}:
        return array.astype(np.bool_)
    if len(types) == 1 and issubclass(next(iter(types)), np.generic):
        return array.astype(next(iter(types)))
    if any(issubclass(kind, float | np.floating) for kind in types):
        why = "which cannot be mixed with numbers with a fraction: float64 would round it"
        refuse(lambda value: not _is_nan(value) and float(value) != value, lambda value: f"is {value}, {why}", _SMALLER)
        return array.astype(np.float64)
    bounds = np.iinfo(np.int64)
    refuse(lambda value: not bounds.min <= value <= bounds.max, lambda value: f"is {value}, {_BEYOND}", _SMALLER)
    return array.astype(np.int64)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


def _unusable(split: str, what: str) -> DataError:
    return DataError(f"The targets of {split} are {what}.", _WANTED)


def _refuse_any(is_so: NDArray[np.bool_], split: str, describe: Callable[[tuple[int, ...]], str], fix: str) -> None:
    """Raise `DataError` for the first target where `is_so`, with what `describe` returns for its place in the array."""
    if is_so.any():
        place = tuple(int(where[0]) for where in is_so.nonzero())
        raise DataError(f"The target of {address(split, place[0])} {describe(place)}.", fix)
