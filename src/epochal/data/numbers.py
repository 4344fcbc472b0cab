"""Numbers from programs and files as tensors with the same values; values that would change are refused, with their place."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from epochal.errors import DataError

_INT64_MAX = np.iinfo(np.int64).max
_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)
_TOO_LARGE = "which is beyond int64"


def as_tensor(value: Any, where: str) -> Tensor:
    """Return a tensor, an array, a table (DataFrame), a number or a list of such as a tensor on the CPU with the same values.

    Types are kept, except uint16, uint32 and uint64, which become int64, and floats of more than 64 bits. Raises `DataError` for
    masked, missing and complex values, for words and dates, for integers beyond int64, and for tensors without plain
    values; `where` names the value in it.
    """
    if isinstance(value, Tensor):
        return _plain(value, where)
    if isinstance(value, list | tuple) and any(isinstance(item, np.ma.MaskedArray) for item in value):
        value = np.ma.stack(value)
    try:
        array = value if isinstance(value, np.ma.MaskedArray) else np.asarray(value)
    except (TypeError, ValueError) as error:
        raise _no_numbers(where, str(error)) from error
    return from_array(array, where, getattr(value, "columns", None))


def check_characters(array: NDArray[Any], what: str) -> None:
    """Raise `DataError` for an array of text with numbers beyond Unicode, of which NumPy makes strings that Python cannot use."""
    if array.dtype.kind == "U" and array.nbytes:
        codes = np.ascontiguousarray(array).view(np.dtype("u4").newbyteorder(array.dtype.byteorder))
        if codes.max() > sys.maxunicode:
            raise DataError(f"{what} invalid Unicode.", "Save the words again.")


def from_array(array: NDArray[Any], where: str, columns: Any = None) -> Tensor:
    """Return an array as a tensor, as `as_tensor` does; `columns` are the names of its columns, if it has any."""
    if np.ma.is_masked(array):
        place = _place(np.argwhere(np.ma.getmaskarray(array))[0], columns)
        raise DataError(f"There is a masked value in {where}, at {place}.", "Fill it (x.filled(...)), or leave that example out.")
    array = np.asarray(array)
    if array.dtype.kind == "O":
        array = _from_objects(array, where, columns)
    match array.dtype.kind:
        case "c":
            raise DataError(f"There are complex numbers in {where}.", "Pass real numbers, such as x.real and x.imag side by side.")
        case "U" | "S":
            raise _no_numbers(where, f"it contains words, such as {array.ravel()[:1].tolist()[0]!r}" if array.size else "it contains words")
        case "M" | "m":
            raise _no_numbers(where, "it contains dates or times; x.astype('int64') makes integers of them")
        case "V":
            raise _no_numbers(where, "it has named fields; numpy.lib.recfunctions.structured_to_unstructured makes a table of it")
    if array.dtype == np.uint64 and array.size and array.max() > _INT64_MAX:
        place = np.argwhere(array > _INT64_MAX)[0]
        raise DataError(f"There is {array[tuple(place)]} in {where}, at {_place(place, columns)}, {_TOO_LARGE}.", "Pass smaller numbers.")
    if array.dtype.kind == "u" and array.dtype != np.uint8:
        array = array.astype(np.int64)
    elif array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(array.shape)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _plain(tensor: Tensor, where: str) -> Tensor:
    for is_so, what, fix in (
        (tensor.is_nested, "nested", "Pad its parts to one length."),
        (tensor.layout is not torch.strided, "sparse", "Pass x.to_dense()."),
        (tensor.is_meta, "without values (on the device meta)", "Pass one that has values."),
        (tensor.is_quantized, "quantized", "Pass x.dequantize()."),
    ):
        if is_so:
            raise DataError(f"There is a tensor in {where} that is {what}.", fix)
    tensor = tensor.detach().cpu()
    if tensor.is_complex() or tensor.dtype in _UNSIGNED:
        return from_array(tensor.numpy(), where)
    return tensor


def _from_objects(array: NDArray[Any], where: str, columns: Any) -> NDArray[Any]:
    """Return an array of Python's numbers, such as tables of several types have, as one of NumPy's."""
    if array.ndim == 0:
        raise _no_numbers(where, f"it is of type {type(array.item()).__name__}")
    for place, value in np.ndenumerate(array):
        if not isinstance(value, numbers.Real | np.bool_):
            is_missing = value is None or type(value).__name__ in ("NAType", "NaTType")
            found = "a missing value" if is_missing else f"{value!r:.80}, which is not a number,"
            raise DataError(
                f"There is {found} in {where}, at {_place(place, columns)}.",
                "Fill it, or leave that example out." if is_missing else "Pass only numbers.",
            )
    values = array.ravel().tolist()
    if all(isinstance(value, bool | np.bool_) for value in values):
        return array.astype(np.bool_)
    if not all(isinstance(value, numbers.Integral) for value in values):
        return array.astype(np.float64)
    largest = max(values, key=abs)
    if not -_INT64_MAX - 1 <= largest <= _INT64_MAX:
        raise DataError(f"There is {largest} in {where}, {_TOO_LARGE}.", "Pass smaller numbers.")
    return array.astype(np.int64)


def _place(place: Sequence[int] | NDArray[Any], columns: Any) -> str:
    if columns is not None and len(place) == 2:
        return f"row {place[0]}, column {columns[place[1]]!r}"
    return str([int(number) for number in place])


def _no_numbers(where: str, why: str) -> DataError:
    return DataError(f"{where[:1].upper()}{where[1:]} cannot be turned into numbers: {why}.", "Pass tensors, arrays, numbers or pictures.")
