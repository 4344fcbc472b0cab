"""Confidence intervals of measured shares."""

from __future__ import annotations

import math

from torch import Tensor


def wilson(successes: float, count: float, z: float = 1.959963984540054) -> tuple[float, float]:
    """Return the Wilson score interval of a share (E. B. Wilson, JASA 22, 1927); the default `z` gives 95 %.

    Unlike the textbook interval it stays within 0 to 1 and is accurate for shares near the ends, where accuracies are.
    """
    share = successes / count
    center = share + z * z / (2 * count)
    reach = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (center - reach) / scale), min(1.0, (center + reach) / scale)


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
