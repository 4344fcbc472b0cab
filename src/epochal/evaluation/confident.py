"""Labels that are likely wrong, by what models say of them that were trained without these examples: confident learning.

C. Northcutt, L. Jiang and I. Chuang, "Confident learning: estimating uncertainty in dataset labels", JAIR 70, 2021. A class has its own
threshold: how probable it is, on average, where it is given. An example is confidently of the most probable of those classes that reach
theirs; where that is not the given one, the label is likely wrong. So a class of which models are never sure is not blamed for that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from epochal.evaluation.label_errors import LabelErrors, Suspect, list_length


def confident_classes(probabilities: Tensor, given: Tensor) -> Tensor:
    """Return the class that each example is confidently of, -1 for none: int64 [n].

    `probabilities` [n, classes] are out of fold, and `given` int64 [n] are the labels.
    """
    classes = probabilities.shape[1]
    counts = given.bincount(minlength=classes)
    own = probabilities.double().gather(1, given[:, None])[:, 0]
    thresholds = torch.zeros(classes, dtype=torch.float64).index_add_(0, given, own) / counts
    # Of a class that is never given nothing is known.
    reached = probabilities >= thresholds.nan_to_num(nan=torch.inf)
    best, found = probabilities.masked_fill(~reached, -1.0).max(1)
    return torch.where(best < 0, -1, found)


def confident_errors(probabilities: Tensor, given: Tensor, names: Sequence[str], example: Callable[[int], str]) -> LabelErrors:
    """Return the labels `given` (int64 [n]) that are likely wrong, by `probabilities` [n, classes] out of fold.

    Those come first in the list, and then others, the least probable labels first. `names` are those of the classes, and `example` names an
    example by its place.
    """
    count = len(given)
    sure = confident_classes(probabilities, given)
    is_likely = (sure >= 0) & (sure != given)
    likely, own = int(is_likely.sum()), probabilities.gather(1, given[:, None])[:, 0]
    order = (own - is_likely.to(own.dtype)).argsort(stable=True)
    places = order[: min(count, list_length(count, likely, None))]
    other = probabilities.scatter(1, given[:, None], -1.0).argmax(1)
    suggested = torch.where(is_likely, sure, other)
    listed = tuple(
        Suspect(rank, place, example(place), names[int(given[place])], names[int(suggested[place])], float(own[place]), rank <= likely)
        for rank, place in enumerate(places.tolist(), 1)
    )
    return LabelErrors(count, likely, listed, by="folds")
