"""Numbers keep their values on the way in, or are refused with their place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from epochal.data.numbers import as_tensor
from epochal.errors import DataError


def _refused(value: Any) -> str:
    with pytest.raises(DataError) as raised:
        as_tensor(value, "the inputs of train")
    return str(raised.value)


@pytest.mark.parametrize("kind", ["?", "u1", "i1", "<i2", ">i2", "i4", ">i8", "f2", ">f4", "f4", "f8", "u2", "u4", "u8", np.longdouble])
def test_types_stay_or_widen(kind: Any) -> None:
    values = np.array([[0, 1], [1, 1]]).astype(kind)
    got = as_tensor(values, "x").numpy()
    assert np.array_equal(got, values)
    assert got.dtype.itemsize >= min(values.dtype.itemsize, 8)


@pytest.mark.parametrize(
    "value", [[[1.5, 2.5]], ((1.5, 2.5),), [np.array([1.5, 2.5])], np.ma.array([[1.5, 2.5]]), [torch.tensor([1.5, 2.5])]]
)
def test_lists_and_arrays(value: Any) -> None:
    assert as_tensor(value, "x").tolist() == [[1.5, 2.5]]


def test_a_view_that_is_not_writable_is_copied() -> None:
    array = np.broadcast_to(np.arange(3.0)[:, None], (3, 2))
    got = as_tensor(array, "x")
    got[0, 0] = 9
    assert array[0, 0] == 0


@pytest.mark.parametrize("masked", [np.ma.array([[1.0, 2.0], [3.0, -999.0]], mask=[[False, False], [False, True]]), None])
def test_a_masked_value_is_never_used(masked: Any) -> None:
    rows = masked if masked is not None else [np.ma.array([1.0, 2.0]), np.ma.masked_equal([3.0, -999.0], -999.0)]
    reported = "There is a masked value in the inputs of train, at [1, 1].\nFill it (x.filled(...)), or leave that example out."
    assert _refused(rows) == reported


def test_whole_numbers_beyond_int64() -> None:
    big = np.array([[1], [2**63 + 7]], np.uint64)
    reported = "There is 9223372036854775815 in the inputs of train, at [1, 0], which is beyond int64.\nPass smaller numbers."
    assert _refused(big) == _refused(torch.from_numpy(big)) == reported
    assert "18446744073709551616 in the inputs of train, which is beyond" in _refused([2**64, 1])
    assert as_tensor(np.array([2**63 - 1], np.uint64), "x").tolist() == [2**63 - 1]


@pytest.mark.parametrize(
    ("value", "reported"),
    [
        (np.array([1j]), "There are complex numbers in the inputs of train."),
        (torch.tensor([1j]), "There are complex numbers in the inputs of train."),
        (np.array(["a", "b"]), "The inputs of train cannot be turned into numbers: it contains words, such as 'a'."),
        (
            np.array(["2026-01-01"], "M8[D]"),
            "The inputs of train cannot be turned into numbers: it contains dates or times; x.astype('int64')",
        ),
        (np.zeros(2, [("a", "f8")]), "The inputs of train cannot be turned into numbers: it has named fields"),
        ([[1, 2], [3]], "The inputs of train cannot be turned into numbers: "),
        (object(), "The inputs of train cannot be turned into numbers: it is of type object."),
        ([[1.0, None]], "There is a missing value in the inputs of train, at [0, 1].\nFill it, or leave that example out."),
        (np.array([[1.0, "a"]], object), "There is 'a', which is not a number, in the inputs of train, at [0, 1].\nPass only numbers."),
        (torch.eye(2).to_sparse(), "There is a tensor in the inputs of train that is sparse.\nPass x.to_dense()."),
        (torch.empty(2, device="meta"), "There is a tensor in the inputs of train that is without values (on the device meta)."),
    ],
)
def test_what_is_no_plain_number(value: Any, reported: str) -> None:
    assert _refused(value).startswith(reported)


@pytest.mark.filterwarnings("ignore:.*quantiz.*:DeprecationWarning", "ignore:.*quantiz.*:UserWarning", "ignore:.*nested.*:UserWarning")
def test_tensors_of_other_kinds() -> None:
    assert _refused(torch.quantize_per_tensor(torch.rand(3), 0.1, 0, torch.qint8)).endswith("is quantized.\nPass x.dequantize().")
    assert "is nested" in _refused(torch.nested.nested_tensor([torch.rand(2), torch.rand(3)]))


class _Table:
    """A table whose columns have several types, as a DataFrame gives it."""

    columns = ("age", "income")

    def __init__(self, rows: list[list[Any]]) -> None:
        self.rows = rows

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array(self.rows, object)


def test_tables_of_several_types() -> None:
    assert as_tensor(_Table([[1, 2], [3, 2**60 + 1]]), "x").tolist() == [[1, 2], [3, 2**60 + 1]]
    assert as_tensor(_Table([[1, 2.5], [True, np.float32(4)]]), "x").tolist() == [[1, 2.5], [1, 4]]
    assert as_tensor(_Table([[True, False]]), "x").dtype == torch.bool
    assert "a missing value in the inputs of train, at row 1, column 'income'." in _refused(_Table([[1, 2], [3, None]]))
