"""Whether a model is as sure as it should be: of the answers given with 80 % confidence, 80 % should be right.

The measured error of calibration is never 0, not even for a perfectly calibrated model: with few answers in a bin, the share that is
right is off by chance. So it stands beside its noise floor, what a perfectly calibrated model with the same confidences would show, and
beside an estimate from which that chance has been taken out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from epochal.tasks.intervals import share_interval

_Z = 1.959963984540054

# Bins have at least so many examples, and there are at most so many of them.
_EACH, _MOST = 50, 15

# The noise floor is the mean over so many invented truths; of very many answers fewer, but at least so many.
_INVENTED, _NUMBERS, _FEWEST = 400, 4_000_000, 50

# Temperatures are looked for between these, in so many halvings of their logarithm.
_COLDEST, _HOTTEST, _HALVINGS = 0.02, 50.0, 60


@dataclass(frozen=True)
class Bin:
    """Answers of nearly the same confidence: how many, their mean confidence, and the share that is right with its 95 % interval."""

    count: int
    confidence: float
    right: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Calibration:
    """How well confidences (0 to 1) of `count` answers agree with the share that is right.

    `error` is the mean difference between confidence and share that is right, over bins of equal size (the expected calibration error).
    `floor` is the mean of that for a perfectly calibrated model with these confidences, and `limit` what it exceeds once in 20 times.
    `debiased` is the root of the mean squared difference without what chance adds to it, with its 95 % `interval`. `excess` is the mean
    confidence less the share that is right: above 0, the model is too sure.
    """

    count: int
    bins: tuple[Bin, ...]
    error: float
    floor: float
    limit: float
    debiased: float
    interval: tuple[float, float]
    excess: float
    excess_interval: tuple[float, float]

    @property
    def is_shown(self) -> bool:
        """Whether the model is shown to be calibrated badly: by more than one in 20 perfectly calibrated models would seem."""
        return self.error > self.limit


def calibration(confidence: Tensor, right: Tensor) -> Calibration:
    """Return how well `confidence` (float [n], 0 to 1) agrees with which answers are `right` (bool [n]).

    The debiased error is that of A. Kumar, P. Liang and T. Ma ("Verified uncertainty calibration", NeurIPS 2019), and its interval that
    of Y. Sun, P. Chaudhari, I. Barnett and E. Dobriban ("A confidence interval for the l2 expected calibration error", 2024).
    """
    confidence, order = confidence.double().sort(stable=True)
    right = right.double()[order]
    count = len(right)
    number = max(1, min(_MOST, count // _EACH))
    place = torch.arange(count) * number // count
    sizes = torch.bincount(place, minlength=number).double()
    sure, hits = _means(place, confidence, sizes), _means(place, right, sizes)
    weights = sizes / count
    bins = tuple(
        Bin(int(size), float(mean), float(share), share_interval(round(float(share * size)), int(size)))
        for size, mean, share in zip(sizes, sure, hits, strict=True)
    )
    generator = torch.Generator().manual_seed(0)
    draws = max(_FEWEST, min(_INVENTED, _NUMBERS // count))
    truths = ((torch.rand(count, generator=generator, dtype=torch.float64) < confidence).double() for _ in range(draws))
    perfect = torch.stack([_means(place, truth, sizes) for truth in truths])
    floors = ((perfect - sure).abs() * weights).sum(1)
    difference = confidence - right
    excess = float(difference.mean())
    reach = _Z * float(difference.std()) / math.sqrt(count) if count > 1 else math.inf
    debiased, interval = _squared(sure - hits, hits, sizes)
    return Calibration(
        count,
        bins,
        float(((sure - hits).abs() * weights).sum()),
        float(floors.mean()),
        float(floors.quantile(0.95)),
        debiased,
        interval,
        excess,
        (excess - reach, excess + reach),
    )


def temperature(logits: Tensor, targets: Tensor) -> float:
    """Return the temperature that makes `logits` [n, classes] divided by it fit `targets` (int64 [n]) best.

    C. Guo, G. Pleiss, Y. Sun and K. Weinberger, "On calibration of modern neural networks" (ICML 2017). Truths count as if one more
    example had no class at all (as in J. Platt, "Probabilistic outputs for support vector machines", 1999): without a mistake among few
    examples, the model would otherwise become as sure as can be. The loss is convex in the inverse temperature, so its derivative has one
    root at most; without one, the nearest end is taken.
    """
    logits = logits.double()
    unknown = 1 / (len(targets) + 1)
    true = (1 - unknown) * logits.gather(1, targets[:, None])[:, 0].mean() + unknown * logits.mean()

    def slope(inverse: float) -> float:
        """The derivative of the mean loss by the inverse temperature."""
        return float(((logits * inverse).softmax(1) * logits).sum(1).mean() - true)

    low, high = math.log(1 / _HOTTEST), math.log(1 / _COLDEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(math.exp(middle)) < 0 else (low, middle)
    return math.exp(-middle)


def _means(place: Tensor, values: Tensor, sizes: Tensor) -> Tensor:
    return torch.zeros(len(sizes), dtype=torch.float64).index_add_(0, place, values) / sizes


def _squared(gaps: Tensor, hits: Tensor, sizes: Tensor) -> tuple[float, tuple[float, float]]:
    """Return the root of the mean squared gap without what chance adds, and its interval."""
    weights = sizes / sizes.sum()
    square = gaps.square() - hits * (1 - hits) / (sizes - 1).clamp(min=1)
    squared = float((weights * square).sum())
    # One more of each kind in a bin: without mistakes there, chance still plays a part (A. Agresti and B. Coull, Am. Stat. 52, 1998).
    share = (hits * sizes + 1) / (sizes + 2)
    chance = share * (1 - share) / sizes
    # The variance of such a sum of squares is 4 x its true value x `slope` + `rest`: as for Wilson's interval, both ends are the true
    # values from which the measured one is 1.96 of their standard errors away.
    large = weights * gaps.square()
    slope = float((large * weights * chance).sum() / large.sum()) if large.sum() > 0 else 0.0
    rest = float((weights.square() * 2 * chance.square()).sum())
    centre = squared + 2 * slope * _Z**2
    reach = math.sqrt(max(0.0, centre**2 - squared**2 + rest * _Z**2))
    low, middle, high = (math.sqrt(max(0.0, value)) for value in (centre - reach, squared, centre + reach))
    return middle, (low, high)
