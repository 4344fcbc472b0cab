"""What a list of labels that are likely wrong is worth: some are changed on purpose, at random, and trained on.

Where k labels are wrong, and those were changed in the same way, as many of the wrong ones are among the first k of the list as of the
changed ones are above the k-th of the others: that share is recall and precision of the first k. It depends much on the examples whose
labels were drawn, and what the network said of these before is known of all. So the share is that of a regression estimator (W. G.
Cochran, "Sampling techniques", 3rd ed., 1977, chapter 7; for experiments, A. Deng, Y. Xu, R. Kohavi and T. Walker, WSDM 2013): its variance
was half that of the plain share where classes overlap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from epochal.evaluation.uncertainty import Interval
from epochal.shown import are, counted
from epochal.tasks.intervals import share_interval

# The network was sure of another class.
SURE = -0.5

# The shares of wrong labels for which it is said how much of the list is wrong.
SHARES = (0.01, 0.02, 0.05, 0.1)

# This share of the labels is changed on purpose, so that few are beside the others, and again until standard errors are so small, or so
# often.
_CHANGED, _PRECISE, MOST_DRAWS = 0.02, 0.015, 8

# A regression has four coefficients, and with fewer labels than this there is none.
_COEFFICIENTS, _FEW = 4, 40


@dataclass(frozen=True)
class Expected:
    """The share of the first `count` of the list that is wrong, if so many labels are: `precision`, with its standard `error`.

    However many labels are wrong, it is the share of them that is among the first `count`. The 95 % `interval` is that of the share
    itself, which chance changes too: which labels are wrong.
    """

    count: int
    precision: float
    error: float
    interval: Interval


@dataclass(frozen=True)
class LabelCheck:
    """What came of `changed` labels that were changed on purpose, at random, before training once more, or several `times`.

    `found` of them looked wrong then, the share `recall`. `expected` says how much of the list is wrong if 1, 2, 5 or 10 % of all labels
    are. How many are remains open: a label that is wrong at random, and one that is right but unlikely, look the same.
    """

    changed: int
    found: int
    recall: float
    interval: Interval
    expected: tuple[Expected, ...]
    times: int = 1

    @property
    def is_precise(self) -> bool:
        """Whether more changed labels would hardly change what is said."""
        return self.changed >= _FEW and all(one.error <= _PRECISE for one in self.expected)

    def lines(self) -> list[str]:
        """Say what the list is worth."""
        low, high = self.interval
        return [
            f"Of {self.changed:,} labels changed on purpose, {100 * self.recall:.0f} % look wrong then (95 % interval {100 * low:.0f} to "
            f"{100 * high:.0f})",
            *map(_line, self.expected),
            "how many are wrong is seen by looking at the first of the list",
        ]


def _line(one: Expected) -> str:
    share, (low, high) = 100 * one.precision, one.interval
    return (
        f"if {counted(one.count, 'label')} {are(one.count)} wrong, about {share:.0f} % of the first {one.count:,} are "
        f"(95 % interval {100 * low:.0f} to {100 * high:.0f})"
    )


def changed_labels(given: Tensor, classes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return labels of which some were changed to any other, those of 2 % of the examples, and which were: bool like `given`.

    `given` are `classes`, int64 [n], or tables of 0 and 1, float32 [n, labels], of which one is changed of an example.
    """
    changed = max(1, round(_CHANGED * len(given)))
    places = torch.randperm(len(given), generator=generator)[:changed]
    labels, mask = given.clone(), torch.zeros_like(given, dtype=torch.bool)
    if given.ndim == 1:
        labels[places] = (given[places] + torch.randint(1, classes, (changed,), generator=generator)) % classes
        mask[places] = True
    else:
        columns = torch.randint(given.shape[1], (changed,), generator=generator)
        labels[places, columns] = 1 - given[places, columns]
        mask[places, columns] = True
    return labels, mask


def check_labels(before: Tensor, drawn: Sequence[tuple[Tensor, Tensor]], classes: int, examples: int) -> LabelCheck:
    """Return what came of labels that were changed, in each of the draws: the means [n, 2] of all labels then, and which were (bool [n]).

    Means are the probability of what is given, and its distance to the best other (see `label_errors`); `before` are the first of
    these [n] without any change, and NaN is what was not trained on. Of `classes` a label is one; shares are those of so many `examples`.
    """
    usable = before.isfinite()
    # By the rank alone, so that no unit matters.
    rank = torch.full_like(before, torch.nan, dtype=torch.float64)
    rank[usable] = before[usable].argsort().argsort().double() / int(usable.sum())
    parts = []
    for means, changed in drawn:
        known = usable & means[:, 0].isfinite()
        parts.append((means[known & changed], means[known & ~changed, 0].sort().values, rank[known & changed]))
    count, found = sum(len(planted) for planted, *_ in parts), sum(int((planted[:, 1] < SURE).sum()) for planted, *_ in parts)
    labels, expected = int(usable.sum()), []
    for wrong in sorted({max(1, round(share * examples)) for share in SHARES}):
        hits = torch.cat([planted[:, 0] <= others[max(0, round(wrong * len(others) / labels) - 1)] for planted, others, _ in parts])
        share, variance = _regressed(hits.double(), torch.cat([ranks for *_, ranks in parts]), rank[usable])
        expected.append(_expected(wrong, share, variance, count, labels, classes))
    return LabelCheck(count, found, found / count, share_interval(found, count), tuple(expected), len(drawn))


def _powers(ranks: Tensor) -> Tensor:
    return torch.stack([ranks**power for power in range(_COEFFICIENTS)], 1)


def _regressed(hits: Tensor, ranks: Tensor, of_all: Tensor) -> tuple[float, float]:
    """Return the share of `hits` (0 or 1) that there would be if all were changed, and the variance of a hit about its regression."""
    if len(hits) < _FEW:
        share = float(hits.mean())
        return share, share * (1 - share)
    fitted = torch.linalg.lstsq(_powers(ranks), hits[:, None]).solution
    left = hits - (_powers(ranks) @ fitted)[:, 0]
    share = min(1.0, max(0.0, float((_powers(of_all) @ fitted).mean())))
    return share, float(left.square().sum()) / (len(hits) - _COEFFICIENTS)


def _expected(wrong: int, share: float, variance: float, changed: int, labels: int, classes: int) -> Expected:
    """Return what is expected of `wrong` labels, where this `share` of those `changed` on purpose is above the threshold.

    Of the wrong ones, 1 / (classes - 1) become right by a change. As many labels as are wrong are above the threshold: so of the right ones
    wrong / (1 - wrong) times what of the wrong is not.
    """
    rate = wrong / labels
    became_right = min(1.0, rate / (classes - 1))
    right = became_right * rate / (1 - rate) if rate < 1 else 1.0
    scale = 1 - became_right - right
    precision = min(1.0, max(0.0, (share - right) / scale)) if scale > 0 else 0.0
    spread = precision * (1 - precision)
    # How many independent labels would say as much: those changed, and those that are wrong.
    ratio = min(1.0, variance / (scale * scale * spread)) if scale > 0 and spread > 0 and variance > 0 else 1.0
    independent = 1 / (ratio / changed + 1 / wrong)
    return Expected(
        wrong, precision, math.sqrt(variance / changed) / max(scale, 1e-9), share_interval(precision * independent, independent)
    )
