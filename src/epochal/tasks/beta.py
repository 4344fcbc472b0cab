"""The beta distribution, from which those of shares, of Student's t and of the sign test follow.

SciPy has it too, but takes longer to import than many a model to train; the tests compare the two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

# Of the continued fraction: how small a change ends it, what stands for 0, and the most terms. About the root of a + b are needed.
_CHANGE, _TINY, _TERMS = 1e-15, 1e-300, 100_000

# Steps to a quantile; each at least halves where it can be, and near it they are Newton's.
_STEPS = 100


def beta_cdf(a: float, b: float, x: float) -> float:
    """Return the probability (0 to 1) that a beta variable with parameters `a` and `b` (above 0) is at most `x`.

    By the continued fraction of the NIST Digital Library of Mathematical Functions, 8.17.22, as W. J. Lentz evaluates it (Applied Optics
    15, 1976).
    """
    if not 0 < x < 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_cdf(b, a, 1 - x)
    fraction, c, d = 1.0, 1.0, 0.0
    for term in range(_TERMS):
        m = term // 2
        if term == 0:
            numerator = 1.0
        elif term % 2:
            numerator = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            numerator = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / (1 + numerator * d or _TINY)
        c = 1 + numerator / c or _TINY
        fraction *= c * d
        if term and abs(1 - c * d) < _CHANGE:
            break
    return math.exp(_log_density(a, b, x)) * x * (1 - x) / a * (fraction - 1)


def beta_quantile(a: float, b: float, probability: float) -> float:
    """Return what a beta variable with parameters `a` and `b` (above 0) is at most with this `probability` (0 to 1)."""
    return mixture_quantile(((a, b),), probability)


def mixture_quantile(parts: Sequence[tuple[float, float]], probability: float) -> float:
    """Return what an equal mixture of beta variables, given by their parameters (a, b), is at most with this `probability` (0 to 1)."""
    if probability in (0, 1):
        return float(probability)
    from statistics import NormalDist  # Takes longer to import than all the rest.

    a, b = sum(a for a, _ in parts) / len(parts), sum(b for _, b in parts) / len(parts)
    mean = a / (a + b)
    # Near where it would be if the distribution were normal.
    near = mean + NormalDist().inv_cdf(probability) * math.sqrt(mean * (1 - mean) / (a + b + 1))
    low, high, x = 0.0, 1.0, near if 0 < near < 1 else mean
    for _ in range(_STEPS):
        off = sum(beta_cdf(a, b, x) for a, b in parts) / len(parts) - probability
        low, high = (x, high) if off < 0 else (low, x)
        density = sum(math.exp(min(_log_density(a, b, x), 700.0)) for a, b in parts) / len(parts)
        step = off / density if density > 0 else math.inf
        following = x - step
        if not low < following < high:
            following = (low + high) / 2
        if abs(following - x) <= 1e-15 * x or following in (low, high):
            return following
        x = following
    return x


def student_quantile(freedom: float, probability: float = 0.975) -> float:
    """Return what Student's t with so many degrees of `freedom` is at most with this `probability` (0.5 to 1)."""
    if probability == 0.5:
        return 0.0
    x = beta_quantile(freedom / 2, 0.5, 2 * (1 - probability))
    return math.sqrt(freedom * (1 - x) / x)


def student_tails(freedom: float, t: float) -> float:
    """Return the probability that Student's t with so many degrees of `freedom` is as far from 0 as `t`, or further."""
    return beta_cdf(freedom / 2, 0.5, freedom / (freedom + t * t))


def _log_density(a: float, b: float, x: float) -> float:
    return math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + (a - 1) * math.log(x) + (b - 1) * math.log1p(-x)
