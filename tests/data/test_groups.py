"""Values of a column in groups."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from epochal.data.groups import grouped

NUMBERS = st.lists(st.one_of(st.floats(width=32, allow_infinity=False), st.integers(0, 3).map(float)), min_size=1, max_size=200)


def test_each_value_of_a_category_and_intervals_of_numbers() -> None:
    words = grouped(np.array([1, 3, 3, np.nan], np.float32), is_quantity=False)
    assert words.of(np.array([1, 3, 2, 9, np.nan, 0], np.float32)).tolist() == [0, 1, 3, 3, 2, 3]
    numbers = grouped(np.arange(100, dtype=np.float32), 4)
    assert np.bincount(numbers.of(np.arange(100, dtype=np.float32))).tolist() == [26, 25, 24, 25]
    assert numbers.of(np.array([-5, 500, np.nan], np.float32)).tolist() == [0, 3, 4]


def test_a_common_value_is_an_interval_of_its_own() -> None:
    values = np.concatenate([np.zeros(900), np.arange(1, 101)]).astype(np.float32)
    counts = np.bincount(grouped(values, 20).of(values))
    assert counts.tolist() == [900, 50, 50]


@given(NUMBERS, NUMBERS, st.integers(1, 30), st.booleans())
def test_every_value_has_a_group(train: list[float], other: list[float], intervals: int, is_quantity: bool) -> None:
    groups = grouped(np.array(train, np.float32), intervals, is_quantity=is_quantity)
    for values in (train, other):
        codes = groups.of(np.array(values, np.float32))
        assert ((codes >= 0) & (codes < groups.number)).all()
    order = np.sort(np.array(other, np.float32))
    known = groups.of(order[~np.isnan(order)])
    if groups.is_interval:
        assert (np.diff(known) >= 0).all(), "larger values are in later intervals"
