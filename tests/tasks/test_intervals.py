"""Wilson's interval: the published numbers, the ends, and that it holds what it promises."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from epochal.tasks.intervals import wilson


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_published_numbers(successes: int, count: int, low: float, high: float) -> None:
    assert wilson(successes, count) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10**6).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
def test_inside_0_to_1_around_the_share_and_symmetric(pair: tuple[int, int]) -> None:
    successes, count = pair
    low, high = wilson(successes, count)
    assert 0 <= low <= successes / count + 1e-12
    assert successes / count - 1e-12 <= high <= 1
    assert wilson(count - successes, count) == pytest.approx((1 - high, 1 - low), abs=1e-12)
    assert wilson(successes, count, z=1.0) == pytest.approx(wilson(successes, count, z=-1.0)[::-1])


def test_solves_its_own_equation() -> None:
    # By definition both ends are the shares that lie exactly z standard errors from the measured one.
    for end in wilson(97, 100):
        assert abs(0.97 - end) / math.sqrt(end * (1 - end) / 100) == pytest.approx(1.959963984540054)


def test_holds_the_true_share_95_times_of_100() -> None:
    draws = torch.distributions.Binomial(100, torch.tensor(0.9))
    torch.manual_seed(0)
    inside = sum(low <= 0.9 <= high for low, high in (wilson(int(hits), 100) for hits in draws.sample((2000,))))
    assert 0.92 < inside / 2000 < 0.98
