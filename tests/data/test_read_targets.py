"""Targets come as arrays, tensors, columns and lists of any type: none is bent, and what cannot be read is named by its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from epochal.data.sources.arrays import read
from epochal.data.sources.targets import read_targets
from epochal.errors import DataError


def _objects(*values: Any) -> Any:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


class NAType:
    """Like the missing value of pandas, which cannot even be compared."""

    def __bool__(self) -> bool:
        raise TypeError


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array([1.5, 2**24 + 1]), torch.float64),
        (np.array([1.5, 2.0], ">f4"), torch.float32),
        (np.array([1, 2**53 + 1]), torch.int64),
        (np.array([3, 2**63 - 1], np.uint64), torch.int64),
        (np.array([3, 4], np.longdouble), torch.float64),
        (np.ma.masked_equal(np.array([0, 1]), 9), torch.int64),
        (list(np.ma.masked_equal(np.array([[0, 1], [2, 3]]), 9)), torch.int64),
        (_objects(1, 2**53 + 1), torch.int64),
        (_objects(np.int64(1), 2), torch.int64),
        (_objects(np.float32(0.5), np.float32(2)), torch.float32),
        (_objects(True, False), torch.bool),
        ([1, 2**53 + 1], torch.int64),
        ([0.5, 2**24 + 1], torch.float64),
        ([np.float32(0.5), np.float32(1)], torch.float32),
        ([np.array([1.0, 2.0], np.float32), np.array([3.0, 4.0], np.float32)], torch.float32),
        ([torch.tensor(0.5), torch.tensor(2.0)], torch.float32),
        (torch.tensor([1, 2**40]).to(torch.uint64), torch.int64),
    ],
)
def test_numbers_keep_their_values(values: Any, dtype: torch.dtype) -> None:
    found = read_targets(values, "train")
    assert isinstance(found, Tensor)
    assert found.dtype == dtype
    assert found.tolist() == [value.tolist() if isinstance(value, np.ndarray) else value for value in values]


@pytest.mark.parametrize(
    "values",
    [
        np.array(["a", "ü"]),
        np.array([["a"], ["ü"]]),
        np.array([b"a", "ü".encode()]),
        _objects("a", "ü"),
        _objects("a", "ü").reshape(2, 1),
        _objects(b"a", "ü"),
        ["a", "ü"],
        ("a", np.str_("ü")),
    ],
)
def test_words(values: Any) -> None:
    assert read_targets(values, "train") == ["a", "ü"]


@pytest.mark.parametrize("missing", [None, NAType(), float("nan"), np.float64("nan"), "", " ", b"", np.ma.masked])
def test_a_missing_word_is_named(missing: Any) -> None:
    with pytest.raises(DataError, match=r"^The target of valid\[1\] is missing.*\nFill it in, or remove that example\.$"):
        read_targets(_objects("a", missing, "b", missing), "valid")


@pytest.mark.parametrize("missing", [None, NAType()])
def test_a_missing_number_is_named(missing: Any) -> None:
    for values in ([0, 1, missing], [0.5, 1.5, missing], _objects(True, False, missing)):
        with pytest.raises(DataError, match=r"^The target of train\[2\] is missing\."):
            read_targets(values, "train")
    with pytest.raises(DataError, match=r"^The target of train\[1\] is missing\."):
        read_targets([[1, 2], [3, missing]], "train")


@pytest.mark.parametrize(
    ("values", "reported"),
    [
        (np.ma.masked_equal(np.array([0, 9, 1]), 9), "The target of train[1] is missing: it is masked."),
        (np.ma.masked_equal(np.array([[0, 1], [1, 9]]), 9), "The target of train[1] is missing: it is masked."),
        (list(np.ma.masked_equal(np.array([[0, 1], [1, 9]]), 9)), "The target of train[1] is missing: it is masked."),
        (np.array([1, 2**63], np.uint64), "The target of train[1] is 9223372036854775808, which is beyond int64."),
        (torch.tensor([1, 2**62], dtype=torch.int64).to(torch.uint64) * 2, "The target of train[1] is 9223372036854775808, which is"),
        ([1, 2**64], "The target of train[1] is 18446744073709551616, which is beyond int64."),
        ([0.5, 2**53 + 1], "The target of train[1] is 9007199254740993, which cannot be mixed with numbers with a fraction"),
        ([1, "1"], "The target of train[0] is 1, while others are words.\nUse only words, or only numbers."),
        (np.array([1j]), "The targets of train are complex numbers."),
        (torch.tensor([1j]), "The targets of train are complex numbers."),
        ([1.0, 1j], "The target of train[1] is of type complex."),
        (np.array(["2026-01-01"], "M8[D]"), "The targets of train are dates."),
        (np.array([1], "m8[s]"), "The targets of train are durations."),
        (np.zeros(2, [("a", "i4")]), "The targets of train are of type"),
        (np.array(None), "The targets of train are a single value."),
        (torch.tensor(1), "The targets of train are a single value."),
        (np.array([["a", "b"]]), "The targets of train are several words in a row."),
        ([[1, 2], [3]], "The target of train[0] is of type list."),
        ([torch.tensor(1), 2], "The target of train[1] is of type int, that of train[0] int64 of shape ()."),
        (torch.eye(2).to_sparse(), "The targets of train are a tensor that is sparse, quantized or without values."),
    ],
)
def test_refused_by_place(values: Any, reported: str) -> None:
    with pytest.raises(DataError) as raised:
        read_targets(values, "train")
    assert str(raised.value).startswith(reported)


@pytest.mark.skipif(np.finfo(np.longdouble).nmant <= 52, reason="the long double of this machine is a double")
def test_more_digits_than_float64_are_refused() -> None:
    with pytest.raises(DataError, match=r"^The target of train\[1\] has more digits than float64 keeps\."):
        read_targets(np.array([1, 1 + np.finfo(np.longdouble).eps], np.longdouble), "train")


@pytest.mark.parametrize("values", [np.array(["a", "", "b"]), np.array([1, 2**63], np.uint64), np.array([1j, 2j])])
def test_files_and_programs_agree(tmp_path: Path, values: Any) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((len(values), 1)), y=values)
    with pytest.raises(DataError) as of_file:
        read(tmp_path / "a.npz")
    with pytest.raises(DataError) as of_program:
        read_targets(values, "train")
    assert str(of_file.value) == str(of_program.value)
