"""Confidence intervals of measured shares."""

from __future__ import annotations

import math
from functools import lru_cache

from torch import Tensor

from epochal.tasks.beta import beta_quantile, mixture_quantile

# With fewer examples, or fewer that are right or wrong, mid-P intervals contain some true shares less than 94 times of 100.
_FEW, _RARE = 100, 10


# The same few shares are measured again and again, as where columns are shuffled.
@lru_cache(maxsize=4096)
def share_interval(successes: float, count: float, level: float = 0.95) -> tuple[float, float]:
    """Return an interval of a share: mid-P, or Clopper and Pearson's with fewer than 100 examples, or fewer than 10 on one side.

    Both are exact tests turned around. The mid-P interval counts half the probability of what was measured (H. O. Lancaster, JASA 56,
    1961; A. Agresti and A. Gottard, Stat. Comput. 17, 2007), and so contains the true share about as often as its `level` says; where
    few examples allow large jumps of that, the interval of C. J. Clopper and E. S. Pearson (Biometrika 26, 1934) never does less often.
    Counts need not be whole: those of clustered examples may stand for fewer independent ones.
    """
    failures, outside = count - successes, (1 - level) / 2
    if count < _FEW or min(successes, failures) < _RARE:
        low = beta_quantile(successes, failures + 1, outside) if successes else 0.0
        return low, beta_quantile(successes + 1, failures, 1 - outside) if failures else 1.0
    # By the share, the probability of more successes than measured, and half that of as many.
    more = (successes, failures + 1), (successes + 1, failures)
    return mixture_quantile(more, outside), mixture_quantile(more, 1 - outside)


def paired(lost: int, gained: int, count: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Return the score interval of the difference of two shares of the same `count` examples (T. Tango, Stat. Med. 17, 1998).

    `lost` examples count only for the first share, and `gained` only for the second; the difference is (lost - gained) / count. Unlike
    intervals that only look at these, it says something if there are none.
    """

    def score(difference: float) -> float:
        linear = (2 * count + gained - lost) * difference - lost - gained
        root = linear * linear + 8 * count * gained * difference * (1 - difference)
        share = (math.sqrt(max(0.0, root)) - linear) / (4 * count)
        variance = count * (2 * share + difference * (1 - difference))
        reach = lost - gained - count * difference
        return math.copysign(math.inf, reach) if variance <= 0 else reach / math.sqrt(variance)

    measured = (lost - gained) / count

    def end(limit: float, outer: float) -> float:
        inner = measured
        for _ in range(60):
            middle = (inner + outer) / 2
            inner, outer = (middle, outer) if abs(score(middle)) <= limit else (inner, middle)
        return inner

    return end(z, -1.0), end(z, 1.0)


def growth(before: Tensor, after: Tensor, z: float = 1.959963984540054) -> tuple[float, tuple[float, float]]:
    """Return the share by which the root mean square error grows, and its interval, from squared errors [n] of the same examples.

    The interval is that of the logarithm of the ratio, by the delta method.
    """
    first, second = float(before.double().mean()), float(after.double().mean())
    if first <= 0 or second <= 0 or len(before) < 2:
        ratio = math.sqrt(second / first) if first > 0 else (1.0 if second <= 0 else math.inf)
        return ratio - 1, (-1.0, math.inf) if len(before) < 2 else (ratio - 1, ratio - 1)
    ratio = math.sqrt(second / first)
    pulls = (after.double() / second - before.double() / first) / 2
    reach = z * float(pulls.std()) / math.sqrt(len(pulls))
    return ratio - 1, (ratio * math.exp(-reach) - 1, ratio * math.exp(reach) - 1)
