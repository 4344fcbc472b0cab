"""Sets of classes, and bands around quantities, that hold the truth as often as promised: split conformal prediction.

V. Vovk, A. Gammerman and G. Shafer, "Algorithmic learning in a random world" (2005); sets by the probability of the class: M. Sadinle,
J. Lei and L. Wasserman, "Least ambiguous set-valued classifiers with bounded error levels" (JASA 114, 2019).

The promise is for the average over all inputs and all draws of the calibration examples, which must be like those to come. For one draw,
the coverage of test data is a beta-binomial variable: `Coverage.band` is where 95 % of draws lie.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# What sets promise: the least that single answers do not keep already, since sets would be left empty to keep less than these.
PROMISES = (0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Coverage:
    """How often sets or bands hold the truth of `count` test examples, after calibration on `calibrated` others.

    `promised` is the aim (0 to 1), `measured` what came of it, and `band` where that lies for 95 % of calibration and test sets if the
    promise is kept. A class is in the set if its probability is at least `threshold`; a band is the prediction ± `threshold` for each
    quantity. `size` is the mean number of classes in a set, `sizes` the number of sets with 0, 1, 2, ... classes; bands have neither.
    """

    promised: float
    measured: float
    band: tuple[float, float]
    threshold: tuple[float, ...]
    calibrated: int
    count: int
    size: float | None = None
    sizes: tuple[int, ...] = ()

    @property
    def is_kept(self) -> bool:
        """Whether the measured coverage is within the band."""
        return self.band[0] <= self.measured <= self.band[1]


def prediction_sets(
    valid: Tensor, valid_targets: Tensor, test: Tensor, test_targets: Tensor, promised: float | None = None
) -> Coverage | None:
    """Return the coverage of sets of classes, from probabilities [n, classes] and classes (int64 [n]) of validation and test data.

    Where nothing is `promised`, it is the least of `PROMISES` above the validation accuracy, if there are enough examples for it. `None`
    where there are too few validation examples for any promise.
    """
    if promised is None:
        accuracy = float((valid.argmax(1) == valid_targets).double().mean())
        possible = [one for one in PROMISES if _rank(len(valid_targets), one)]
        promised = next((one for one in possible if one > accuracy), (possible or PROMISES)[-1])
    rank = _rank(len(valid_targets), promised)
    if rank is None:
        return None
    threshold = valid.gather(1, valid_targets[:, None])[:, 0].sort(descending=True).values[rank - 1]
    included = test >= threshold
    held = included.gather(1, test_targets[:, None])[:, 0]
    sizes = included.sum(1)
    return Coverage(
        promised,
        float(held.double().mean()),
        coverage_band(len(valid_targets), rank, len(test_targets)),
        (float(threshold),),
        len(valid_targets),
        len(test_targets),
        float(sizes.double().mean()),
        tuple(torch.bincount(sizes).tolist()),
    )


def prediction_bands(valid: Tensor, valid_targets: Tensor, test: Tensor, test_targets: Tensor, promised: float = 0.9) -> Coverage | None:
    """Return the coverage of bands around predictions [n, quantities]; each quantity has its own width, and `measured` is their mean."""
    rank = _rank(len(valid_targets), promised)
    if rank is None:
        return None
    wide = (valid.double() - valid_targets.double()).abs().sort(0).values[rank - 1]
    held = (test.double() - test_targets.double()).abs() <= wide
    return Coverage(
        promised,
        float(held.double().mean()),
        coverage_band(len(valid_targets), rank, len(test_targets)),
        tuple(wide.tolist()),
        len(valid_targets),
        len(test_targets),
    )


def coverage_band(calibrated: int, rank: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """Return where the coverage of `count` examples lies with probability `level`, with a threshold at `rank` of the calibration scores.

    A. Angelopoulos and S. Bates, "Conformal prediction: a gentle introduction" (2023), section 3.2.
    """
    hits = torch.arange(count + 1, dtype=torch.float64)
    first, second = rank, calibrated + 1 - rank
    choose = math.lgamma(count + 1) - torch.lgamma(hits + 1) - torch.lgamma(count - hits + 1)
    both = torch.lgamma(hits + first) + torch.lgamma(count - hits + second) - math.lgamma(count + first + second)
    alone = math.lgamma(first) + math.lgamma(second) - math.lgamma(first + second)
    below = (choose + both - alone).exp().cumsum(0)
    outside = (1 - level) / 2
    low = int((below < outside).sum())
    high = int((below < 1 - outside).sum())
    return low / count, min(high, count) / count


def _rank(calibrated: int, promised: float) -> int | None:
    rank = math.ceil((calibrated + 1) * promised - 1e-9)
    return rank if rank <= calibrated else None
