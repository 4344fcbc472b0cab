"""How far macro-F1, balanced accuracy and the area under the ROC curve could be off, measured on so many examples.

All are means of what single examples add to them, to first order: the variance of a score is that of these pulls. Examples that belong
together (recordings of one speaker, pictures of one place) say less than as many independent ones: their pulls are added up first, as in
"cluster-robust" standard errors (K.-Y. Liang and S. Zeger, Biometrika 73, 1986).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from epochal.tasks.beta import student_quantile
from epochal.tasks.intervals import share_interval

_Z = 1.959963984540054

Interval = tuple[float, float]


def macro_f1_interval(predicted: Tensor, actual: Tensor, groups: Tensor | None = None) -> tuple[float, Interval]:
    """Return macro-F1 and its 95 % interval from what is predicted and what is true: bool [n, classes].

    The interval is on the logit scale, which keeps it within 0 to 1. `groups` int64 [n] says which examples belong together.
    """
    score, pulls = f1_pulls(predicted, actual)
    return score, _on_logit_scale(score, standard_error(pulls, groups), len(predicted))


def f1_pulls(predicted: Tensor, actual: Tensor) -> tuple[float, Tensor]:
    """Return macro-F1 of what is predicted and what is true (bool [n, classes]), and by how much each example pulls it, times n: [n].

    By the delta method (K. Takahashi, K. Yamamoto, A. Kuchiba and T. Koyama, "Confidence interval for micro-averaged F1 and
    macro-averaged F1 scores", Applied Intelligence 52, 2022). Classes that neither occur nor are predicted are left out.
    """
    predicted, actual = predicted.double(), actual.double()
    found = predicted + actual
    totals = found.sum(0)
    there = totals > 0
    hits = predicted * actual
    f1 = (2 * hits.sum(0) / totals.clamp(min=1))[there]
    # The derivative of each class's 2 hits / totals by one more example, times the number of examples.
    pulls = ((2 * hits[:, there] - f1 * found[:, there]) * (len(predicted) / totals[there])).mean(1)
    return float(f1.mean()), pulls


def recall_interval(right: Tensor, classes: Tensor, groups: Tensor | None = None) -> tuple[float, Interval]:
    """Return the mean recall of `classes` (int64 [n]) that occur, also called balanced accuracy, and its 95 % interval.

    `right` bool [n] says which answers are. The variance is the sum of those of the recalls, on the logit scale, with B. L. Welch's degrees
    of freedom (Biometrika 34, 1947). In each, one half is added to what is right and to what is wrong, as by H. Jeffreys' prior, since a
    few examples that are all right leave much unknown (K. Brodersen, C. S. Ong, K. Stephan and J. Buhmann, "The balanced accuracy and its
    posterior distribution", ICPR 2010, have priors for that, too). With `groups` int64 [n] of examples that belong together, it is by the
    delta method.
    """
    score, pulls = recall_pulls(right, classes)
    hits, counts = _by_class(right, classes)
    # Where all are right, or all wrong, mistakes would be missed most easily in the smallest class.
    fewest = float(counts.min())
    if not 0 < score < 1:
        low, high = share_interval(score * fewest, fewest)
        return score, (1 - (1 - low) / len(counts), 1.0) if score else (0.0, high / len(counts))
    if groups is not None:
        return score, _on_logit_scale(score, standard_error(pulls, groups), len(groups.unique()))
    smooth = (hits + 0.5) / (counts + 1)
    squares = smooth * (1 - smooth) / counts / len(counts) ** 2
    variance = float(squares.sum())
    freedom = variance**2 / float((squares.square() / (counts - 1).clamp(min=1)).sum())
    return score, _on_logit_scale(score, variance**0.5, len(right), freedom)


def recall_pulls(right: Tensor, classes: Tensor) -> tuple[float, Tensor]:
    """Return the mean recall of `classes` (int64 [n]) that occur, and by how much each example pulls it, times n: float64 [n]."""
    hits, counts = _by_class(right, classes)
    place = classes.unique(return_inverse=True)[1]
    recalls = hits / counts
    return float(recalls.mean()), (right.double() - recalls[place]) * (len(right) / len(counts) / counts)[place]


def _by_class(right: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many answers are right of each class that occurs, and how many examples it has: float64 [classes] each."""
    _, place, counts = classes.unique(return_inverse=True, return_counts=True)
    return torch.bincount(place[right], minlength=len(counts)).double(), counts.double()


def auroc_interval(scores: Tensor, truths: Tensor, groups: Tensor | None = None) -> tuple[float, Interval]:
    """Return the area under the ROC curve of `scores` [n] for `truths` (bool [n]), and its 95 % interval.

    The variance is that of E. DeLong, D. DeLong and D. Clarke-Pearson (Biometrics 44, 1988); the interval is on the logit scale, where
    it is more symmetric (M. Pepe, "The statistical evaluation of medical tests", 2003). NaN where all truths are alike.
    """
    area, pulls = area_pulls(scores, truths)
    fewer = int(min(truths.sum(), (~truths).sum()))
    return area, _on_logit_scale(area, standard_error(pulls, groups), fewer, _degrees_of_freedom(pulls, truths))


def area_pulls(scores: Tensor, truths: Tensor) -> tuple[float, Tensor]:
    """Return the area under the ROC curve, and by how much each example pulls it, times n: float64 [n]."""
    true, other = int(truths.sum()), int((~truths).sum())
    count = len(scores)
    if not true or not other:
        return math.nan, torch.full((count,), math.nan, dtype=torch.float64)
    _, place, ties = scores.unique(return_inverse=True, return_counts=True)
    of_true = torch.bincount(place[truths], minlength=len(ties)).double()
    of_other = ties - of_true
    # Of each example: the share of the other kind that it is on the right side of, ties counting one half.
    lower = (of_other.cumsum(0) - of_other / 2)[place] / other
    higher = 1 - (of_true.cumsum(0) - of_true / 2)[place] / true
    area = float(lower[truths].mean())
    pulls = torch.where(truths, (lower - area) * (count / true), (higher - area) * (count / other))
    return area, pulls


def average_precision_interval(scores: Tensor, truths: Tensor, groups: Tensor | None = None) -> tuple[float, Interval]:
    """Return the average precision (area under the precision-recall curve) of `scores` [n] for `truths` (bool [n]), and its 95 % interval.

    The variance is that of the jackknife, which leaves each example out in turn (B. Efron and C. Stein, Ann. Stat. 9, 1981): by
    derivatives, as of other scores, it is too small where few are true. The interval is on the logit scale, as K. Boyd, K. Eng and C. Page
    advise ("Area under the precision-recall curve: point estimates and confidence intervals", ECML 2013). NaN where all truths are alike.
    """
    score, pulls = precision_pulls(scores, truths)
    fewer = int(min(truths.sum(), (~truths).sum()))
    return score, _on_logit_scale(score, standard_error(pulls, groups), fewer, _degrees_of_freedom(pulls, truths))


def precision_pulls(scores: Tensor, truths: Tensor) -> tuple[float, Tensor]:
    """Return the average precision, and n - 1 times how much smaller it is without each example: float64 [n]."""
    true, count = int(truths.sum()), len(scores)
    if not true or true == count:
        return math.nan, torch.full((count,), math.nan, dtype=torch.float64)
    _, place, ties = (-scores).unique(return_inverse=True, return_counts=True)
    hits = torch.bincount(place[truths], minlength=len(ties)).double()
    above, found = ties.cumsum(0).double(), hits.cumsum(0)
    # Without an example, precision is another at its own threshold and at all that are lower.
    rest = (above - 1).clamp(min=1)
    of_true, of_other = (found - 1).clamp(min=0) / rest, found / rest
    sums = hits * found / above
    higher = sums.cumsum(0) - sums
    lower_true, lower_other = ((hits * share).flip(0).cumsum(0).flip(0) for share in (of_true, of_other))
    without = torch.where(truths, ((higher + lower_true - of_true) / max(true - 1, 1))[place], ((higher + lower_other) / true)[place])
    score = float(sums.sum()) / true
    return score, (count - 1) * (score - without)


def standard_error(pulls: Tensor, groups: Tensor | None = None) -> float:
    """Return the standard error of a mean of `pulls` [n]; those of one of `groups` int64 [n] count together."""
    count = len(pulls)
    if groups is not None:
        _, place = groups.unique(return_inverse=True)
        pulls = torch.zeros(int(place.max()) + 1, dtype=torch.float64).index_add_(0, place, pulls.double() - pulls.double().mean())
    independent = len(pulls)
    if independent < 2:
        return math.nan
    centred = pulls.double() - pulls.double().mean()
    return math.sqrt(float(centred.square().sum()) * independent / (independent - 1)) / count


def mean_interval(values: Tensor, groups: Tensor | None = None) -> Interval | None:
    """Return the 95 % interval of the mean of `values` [n], by Student's t; `None` for a single one.

    Values of one of `groups` int64 [n] count together.
    """
    freedom = (len(values) if groups is None else len(groups.unique())) - 1
    if freedom < 1:
        return None
    middle, reach = float(values.double().mean()), student_quantile(freedom) * standard_error(values, groups)
    return middle - reach, middle + reach


def share_of(right: Tensor, groups: Tensor | None = None) -> Interval:
    """Return the 95 % interval of the share of examples that are `right`: bool [n], which may belong together in `groups` int64 [n].

    Such examples are taken for so many fewer independent ones (L. Kish, "Survey sampling", 1965, calls that the design effect).
    """
    same = 1.0 if groups is None else _design_effect(right, groups)
    return share_interval(int(right.sum()) / same, len(right) / same)


def _design_effect(right: Tensor, groups: Tensor) -> float:
    """Return how many times larger the variance of a share is for examples in `groups` than for as many independent ones, at least 1.

    Where nothing varies, or between one group and no other, nobody can tell: then each group counts once.
    """
    plain, number = standard_error(right.double()), len(groups.unique())
    if number < 2 or not plain > 0:
        return len(right) / number
    return max((standard_error(right.double(), groups) / plain) ** 2, 1.0)


def one_label(classes: Tensor, count: int) -> Tensor:
    """Return classes (int64 [n]) as bool [n, count]."""
    return one_hot(classes, count).bool()


def _degrees_of_freedom(pulls: Tensor, truths: Tensor) -> float:
    """Return those of two samples, few of which may be of one kind (B. L. Welch, Biometrika 34, 1947)."""
    kinds = [pulls[truths], pulls[~truths]]
    squares = [float(kind.square().sum()) for kind in kinds]
    below = sum(square**2 / (len(kind) - 1) for square, kind in zip(squares, kinds, strict=True) if len(kind) > 1)
    return sum(squares) ** 2 / below if below > 0 else math.inf


def _on_logit_scale(score: float, error: float, count: int, freedom: float = math.inf) -> Interval:
    if math.isnan(score) or math.isnan(error):
        return 0.0, 1.0
    if not 0 < score < 1 or error == 0:
        # Nothing varied. So many examples without a single mistake can be luck, as for a share.
        return share_interval(score * count, count)
    factor = _Z if math.isinf(freedom) else student_quantile(freedom)
    middle, reach = math.log(score / (1 - score)), factor * error / (score * (1 - score))
    low, high = (1 / (1 + math.exp(-min(max(place, -700), 700))) for place in (middle - reach, middle + reach))
    return low, high
