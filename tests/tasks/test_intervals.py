"""Intervals of shares: the published numbers, the ends, and that they hold what they promise."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from epochal.tasks.intervals import share_interval

# The largest count takes as long as all others; EPOCHAL_INTERVALS is set where that does not matter.
COUNTS = (20, 30, 50, 75, 100, 150, 300, 1_000, 3_000, *((10_000,) if "EPOCHAL_INTERVALS" in os.environ else ()))


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, methods 6 (mid-P) and 5 (Clopper and Pearson).
    [(81, 263, 0.2544, 0.3658), (15, 148, 0.0601, 0.1581), (0, 20, 0.0, 0.1684), (1, 29, 0.0009, 0.1776)],
)
def test_published_numbers(successes: int, count: int, low: float, high: float) -> None:
    assert share_interval(successes, count) == pytest.approx((low, high), abs=6e-5)


@given(st.integers(1, 10**6).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
def test_inside_0_to_1_around_the_share_and_symmetric(pair: tuple[int, int]) -> None:
    successes, count = pair
    low, high = share_interval(successes, count)
    assert 0 <= low <= successes / count <= high <= 1
    assert share_interval(count - successes, count) == pytest.approx((1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize(("successes", "count"), [(97, 100), (3, 4), (0, 7), (7, 7), (99, 99), (991, 1000)])
def test_few_examples_or_few_mistakes_have_clopper_and_pearson(successes: int, count: int) -> None:
    exact = binomtest(successes, count).proportion_ci(0.95, "exact")
    assert share_interval(successes, count) == pytest.approx((exact.low, exact.high), abs=1e-9)


@pytest.mark.parametrize("count", COUNTS)
def test_contains_the_true_share_at_least_94_times_of_100(count: int) -> None:
    shares = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999])
    # What is measured less often than once in a million times adds nothing.
    probability = binom.pmf(np.arange(count + 1)[:, None], count, shares)
    measured = np.flatnonzero(probability.max(1) > 1e-7)
    low, high = np.array([share_interval(successes, count) for successes in measured.tolist()]).T
    inside = (low[:, None] <= shares) & (shares <= high[:, None])
    coverage = (inside * probability[measured]).sum(0)
    assert coverage.min() >= 0.94
    # And not much more often, where many examples make it possible.
    assert coverage[shares * count * (1 - shares) > 100].max(initial=0.95) < 0.96
