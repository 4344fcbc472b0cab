"""Whether one model is better than another, from their answers to the same examples.

"No difference shown" is not "no difference": beside each result stands the smallest difference that so many examples would have shown
four times of five.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import torch
from torch import Tensor

from epochal.evaluation.uncertainty import Interval, recall_pulls, standard_error
from epochal.tasks.beta import beta_cdf, beta_quantile, student_quantile, student_tails
from epochal.tasks.intervals import paired

# A difference is shown by a smaller p.
SHOWN = 0.05

# The normal quantile of a power of 80 %.
_POWER = 0.8416212335729143

# With more of these, the normal approximation is as good.
_MANY, _HALVINGS = 500, 40


@dataclass(frozen=True)
class Difference:
    """The score of a second model less that of a first on the same `count` examples, with its 95 % `interval`.

    `p` is the probability of such a difference, or a larger one, between equally good models. `detectable` is the smallest true
    difference that would be shown (p < 0.05, or less where several are compared) in 80 % of test sets like this one, of as many examples.
    `first_only` and `second_only` count examples that only one model has right; `None` for scores that do not count right ones.
    """

    count: int
    first: float
    second: float
    interval: Interval
    p: float
    detectable: float
    first_only: int | None = None
    second_only: int | None = None

    @property
    def value(self) -> float:
        """The second score less the first."""
        return self.second - self.first


def compare_shares(first: Tensor, second: Tensor, shown: float = SHOWN) -> Difference:
    """Return the difference of two accuracies, from which answers are right (bool [n] each, the same examples in the same order).

    One with a p below `shown` counts as shown.

    The test is McNemar's with mid-P (M. Fagerland, S. Lydersen and P. Laake, BMC Med. Res. Methodol. 13, 2013), the interval Tango's.
    """
    count = len(first)
    first_only, second_only = int((first & ~second).sum()), int((~first & second).sum())
    return Difference(
        count,
        float(first.double().mean()),
        float(second.double().mean()),
        paired(second_only, first_only, count),
        mcnemar(first_only, second_only),
        detectable_share(first_only + second_only, count, shown),
        first_only,
        second_only,
    )


def compare_recalls(first: Tensor, second: Tensor, classes: Tensor, shown: float = SHOWN) -> Difference:
    """Return the difference of two mean recalls over `classes` (int64 [n]), from which answers are right (bool [n] each).

    As in McNemar's test, only examples that one model alone has right count, each by one over the number of examples of its class; p and
    interval are by the normal approximation. Half of such an example is added to the variance of each class, since few that all agree
    leave much unknown (A. Agresti and Y. Min, "Simple improved confidence intervals for comparing matched proportions", Stat. Med. 24,
    2005, add one half to each cell). What is detectable follows R. Connor's formula, if classes differ in proportion to what they do here.
    """
    _, place, counts = classes.unique(return_inverse=True, return_counts=True)
    differ = torch.bincount(place[first != second], minlength=len(counts)) + 0.5
    variance = float((differ / counts.double().square()).sum()) / len(counts) ** 2
    shares = differ / counts
    error, normal = variance**0.5, NormalDist()
    one, other = recall_pulls(first, classes)[0], recall_pulls(second, classes)[0]
    value, reach = other - one, normal.inv_cdf(0.975) * error
    # A true difference takes its square, times this, from the variance.
    taken = float((shares.square() / counts).sum() / shares.sum() ** 2)
    z, whole = normal.inv_cdf(1 - shown / 2), 1 + _POWER**2 * taken
    detectable = error * (z + (z**2 - whole * (z**2 - _POWER**2)) ** 0.5) / whole
    return Difference(
        len(first),
        one,
        other,
        (value - reach, value + reach),
        2 * normal.cdf(-abs(value) / error),
        detectable,
        int((first & ~second).sum()),
        int((second & ~first).sum()),
    )


def compare_means(first: Tensor, second: Tensor, groups: Tensor | None = None, shown: float = SHOWN) -> Difference:
    """Return the difference of two means of what each example adds to a score (float [n] each), by the paired t-test.

    For a mean of pulls (see `uncertainty.py`) it is that of the score. Examples of one of `groups` int64 [n] count together.
    """
    change = second.double() - first.double()
    error = standard_error(change, groups)
    freedom = (len(change) if groups is None else len(groups.unique())) - 1
    return of_error(len(change), float(first.double().mean()), float(second.double().mean()), error, freedom, shown)


def of_error(count: int, first: float, second: float, error: float, freedom: float, shown: float = SHOWN) -> Difference:
    """Return the difference of two scores whose standard `error`, with so many degrees of `freedom`, is known."""
    value = second - first
    if freedom <= 0 or math.isnan(error):
        return Difference(count, first, second, (-math.inf, math.inf), 1.0, math.inf)
    p = 1.0 if value == 0 else 0.0 if error == 0 else student_tails(freedom, value / error)
    reach = student_quantile(freedom) * error
    detectable = (student_quantile(freedom, 1 - shown / 2) + _POWER) * error
    return Difference(count, first, second, (value - reach, value + reach), p, detectable)


def mcnemar(first_only: int, second_only: int) -> float:
    """Return the mid-P value of McNemar's test: of so many examples that one model alone has right, how unlikely is it that they
    are shared out so unevenly if either is as likely."""
    total, fewer = first_only + second_only, min(first_only, second_only)
    exactly = math.exp(math.lgamma(total + 1) - math.lgamma(fewer + 1) - math.lgamma(total - fewer + 1) - total * math.log(2))
    at_most = beta_cdf(total - fewer, fewer + 1, 0.5) if total else 1.0
    return min(1.0, 2 * at_most - exactly)


def detectable_share(discordant: int, count: int, shown: float = SHOWN) -> float:
    """Return the smallest difference of two accuracies that McNemar's test shows (p < `shown`) with a power of 80 %.

    `discordant` of `count` examples are right with one model only, and in other test sets about as many. With few of them the power is
    computed from binomial distributions, with many by R. Connor's formula (Biometrics 43, 1987).
    """
    share = discordant / count
    if discordant > _MANY:
        z = NormalDist().inv_cdf(1 - shown / 2)
        low, high = 0.0, share
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            is_shown = middle * math.sqrt(count) >= z * math.sqrt(share) + _POWER * math.sqrt(share - middle**2)
            low, high = (low, middle) if is_shown else (middle, high)
        return high
    reach = 6 * math.sqrt(discordant) + 1
    totals = range(max(0, math.floor(discordant - reach)), min(count, math.ceil(discordant + reach)) + 1)
    possible = [(_binomial(total, count, share), total, fewest) for total in totals if (fewest := _most_of_fewer(total, shown)) >= 0]

    def power(towards: float) -> float:
        """With this probability, an example that only one model has right is one of the better."""
        return sum(weight * beta_cdf(total - fewest, fewest + 1, towards) for weight, total, fewest in possible)

    if power(1.0) < 0.8:
        # Even if all were in one direction: more than these would have to differ, and at least so many (p is then a power of one half).
        least = math.floor(-math.log2(shown)) + 1
        return beta_quantile(least, count - least + 1, 0.8) if count >= least else 1.0
    low, high = 0.5, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle) >= 0.8 else (middle, high)
    return share * (2 * high - 1)


def _binomial(successes: int, count: int, share: float) -> float:
    if share in (0, 1):
        return float(successes == count * share)
    choose = math.lgamma(count + 1) - math.lgamma(successes + 1) - math.lgamma(count - successes + 1)
    return math.exp(choose + successes * math.log(share) + (count - successes) * math.log1p(-share))


@cache
def _most_of_fewer(total: int, shown: float) -> int:
    """Return how many of `total` may be of the rarer kind for McNemar's test to show a difference; -1 if none may."""
    low, high = -1, total // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if mcnemar(total - middle, middle) < shown else (low, middle)
    return low


def holm(p: Sequence[float]) -> tuple[float, ...]:
    """Return p-values corrected for looking at so many (S. Holm, Scand. J. Stat. 6, 1979)."""
    order = sorted(range(len(p)), key=p.__getitem__)
    corrected, most = [0.0] * len(p), 0.0
    for rank, place in enumerate(order):
        most = max(most, min(1.0, (len(p) - rank) * p[place]))
        corrected[place] = most
    return tuple(corrected)
