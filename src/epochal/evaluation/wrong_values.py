"""Single labels, of several that examples have, and quantities that are likely wrong: by what the network said of them along training.

Labels are ranked like classes, by the mean probability of what is given (see `label_errors.py`), each label of an example by itself: so
self-confidence is defined for several labels too (A. Thyagarajan et al., "Identifying incorrect annotations in multi-label
classification data", arXiv 2211.13895, 2022). Quantities are ranked by the mean distance of the prediction, as residuals of models do (H.
Zhou, J. Mueller, M. Kumar, J.-L. Wang and J. Lei, "Detecting errors in numerical data via any regression model", arXiv 2305.16583, 2023),
in units of what is usual: the median, which wrong values hardly change. Dividing by the spread among similar predictions was no better
where noise grows with the quantity, and far worse where many examples have the same value.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import torch
from torch import Tensor

from epochal.evaluation.label_check import SURE, LabelCheck
from epochal.evaluation.label_errors import LabelErrors, Suspect, list_length
from epochal.tasks.base import Task
from epochal.tasks.scores import plain

# The standard deviation of normal noise, by the median of its absolute values.
_BY_MEDIAN = 1.4826


def wrong_labels(
    task: Task, means: Tensor, given: Tensor, example: Callable[[int], str], check: LabelCheck | None = None
) -> LabelErrors | None:
    """Return which of the labels `given` (float [n, labels] of 0 and 1) are likely wrong, by `means` [n, labels]: how probable each was.

    NaN stands for examples that were not trained on; `example` names one by its place. Returns `None` if nothing was trained on.
    """
    count, trained = int(means.isfinite().sum()), int(means[:, 0].isfinite().sum())
    if not count:
        return None
    # Of two possibilities, the distance to the other is twice the probability, less 1.
    likely = int((2 * means - 1 < SURE).sum())
    order = means.flatten().nan_to_num(nan=torch.inf).argsort(stable=True)[: list_length(trained, likely, check)]
    listed = []
    for rank, flat in enumerate(order[:count].tolist(), 1):
        place, label = divmod(flat, means.shape[1])
        is_there = bool(given[place, label] > 0.5)
        score = float(means[place, label])
        said = str(int(is_there)), str(int(not is_there))
        listed.append(Suspect(rank, place, example(place), *said, score, rank <= likely, task.outputs[label]))
    return LabelErrors(count, likely, tuple(listed), check, kind="labels")


def wrong_quantities(
    task: Task, means: Tensor, given: Tensor, example: Callable[[int], str], outputs_of: Callable[[Tensor], Tensor]
) -> LabelErrors | None:
    """Return which of the quantities `given` [n, outputs] are likely wrong, by `means` [n, outputs]: how far predictions were above each.

    The score is that distance in units of what is usual, and a quantity looks wrong where normal noise would reach it in one of twenty data
    sets of this size. `outputs_of` gives the trained model's outputs [m, outputs] for examples at m places. The others are as in
    `wrong_labels`. Returns `None` if nothing was trained on.
    """
    known = means.isfinite()
    count, trained = int(known.sum()), int(known[:, 0].sum())
    if not count:
        return None
    far = means.double().abs()
    usual = _BY_MEDIAN * far.nanmedian(0).values
    # Where more than half of all are predicted exactly.
    usual = usual.where(usual > 0, far.square().nanmean(0).sqrt())
    scores = (far / usual.where(usual > 0, 1.0)).nan_to_num(nan=-1.0)
    likely = int((scores > NormalDist().inv_cdf(1 - 0.025 / count)).sum())
    order = scores.flatten().argsort(descending=True, stable=True)[: min(count, list_length(trained, likely, None))]
    places, columns = order // means.shape[1], order % means.shape[1]
    predicted, values = task.decode(outputs_of(places)), given.numpy()
    listed = []
    for rank, (place, column) in enumerate(zip(places.tolist(), columns.tolist(), strict=True), 1):
        # The fewest digits that give the same value of its type.
        said = str(values[place, column]).removesuffix(".0"), plain(float(predicted[rank - 1, column]), 6)
        score = float(scores[place, column])
        listed.append(Suspect(rank, place, example(place), *said, score, rank <= likely, task.outputs[column]))
    return LabelErrors(count, likely, tuple(listed), kind="quantities")
