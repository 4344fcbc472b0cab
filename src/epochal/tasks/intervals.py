"""Confidence intervals of measured shares."""

from __future__ import annotations

import math


def wilson(successes: float, count: float, z: float = 1.959963984540054) -> tuple[float, float]:
    """Return the Wilson score interval of a share (E. B. Wilson, JASA 22, 1927); the default `z` gives 95 %.

    Unlike the textbook interval it stays within 0 to 1 and is accurate for shares near the ends, where accuracies are.
    """
    share = successes / count
    center = share + z * z / (2 * count)
    reach = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (center - reach) / scale), min(1.0, (center + reach) / scale)
