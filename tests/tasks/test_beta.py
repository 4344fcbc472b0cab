"""The beta distribution and what follows from it agree with SciPy's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from epochal.tasks.beta import beta_cdf, beta_quantile, student_quantile, student_tails

_PARAMETERS = st.floats(0.3, 1e6)


@given(_PARAMETERS, _PARAMETERS, st.floats(0, 1))
def test_probabilities(a: float, b: float, x: float) -> None:
    # Far from the mean of a sharp distribution all is 0 or 1: near it is where mistakes would show.
    for place in (x, min(1.0, max(0.0, (a + 6 * (x - 0.5) * (a * b / (a + b)) ** 0.5) / (a + b)))):
        assert beta_cdf(a, b, place) == pytest.approx(float(special.betainc(a, b, place)), abs=1e-8)


@given(_PARAMETERS, _PARAMETERS, st.floats(0.001, 0.999))
def test_quantiles(a: float, b: float, probability: float) -> None:
    assert float(special.betainc(a, b, beta_quantile(a, b, probability))) == pytest.approx(probability, abs=1e-6)


def test_ends() -> None:
    assert (beta_cdf(2, 3, 0), beta_cdf(2, 3, 1), beta_quantile(2, 3, 0), beta_quantile(2, 3, 1)) == (0, 1, 0, 1)


@pytest.mark.parametrize("freedom", [1, 2, 7.5, 100, 1e6])
def test_student(freedom: float) -> None:
    assert student_quantile(freedom) == pytest.approx(float(special.stdtrit(freedom, 0.975)), rel=1e-8)
    assert student_quantile(freedom, 0.9) == pytest.approx(float(special.stdtrit(freedom, 0.9)), rel=1e-8)
    assert student_quantile(freedom, 0.5) == 0
    assert student_tails(freedom, -2.1) == pytest.approx(2 * float(special.stdtr(freedom, -2.1)), rel=1e-8)
