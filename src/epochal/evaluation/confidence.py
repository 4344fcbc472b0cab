"""Answers that are sure enough: how often those above a threshold of confidence are right, and how many they are.

The threshold is chosen on validation data and judged on test data: chosen and judged on the same data it would look better than it is
(Y. Geifman and R. El-Yaniv, "Selective classification for deep neural networks", NeurIPS 2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from epochal.tasks.intervals import share_interval

# The curve has at most so many points, and none for fewer answers.
_POINTS, _LEAST = 60, 20


@dataclass(frozen=True)
class Accepted:
    """Of `count` answers, `answered` have a confidence of at least `threshold`; `right` (0 to 1) of these are right.

    `aim` is the accuracy for which the threshold was chosen on validation data. `interval` is that of `right`.
    """

    aim: float
    threshold: float
    count: int
    answered: int
    right: float
    interval: tuple[float, float]

    @property
    def share(self) -> float:
        """The share of examples that are answered."""
        return self.answered / self.count


def accept(valid: Tensor, valid_right: Tensor, test: Tensor, test_right: Tensor) -> Accepted | None:
    """Return what is left on test data at the lowest threshold with at most half the share of mistakes on validation data.

    `valid` and `test` are confidences [n], and the others say which answers are right (bool [n]). `None` where no threshold does that, as
    where there are no mistakes, or where fewer than 20 answers would be left.
    """
    mistakes = 1 - float(valid_right.double().mean())
    aim = 1 - mistakes / 2
    order = valid.argsort(descending=True)
    sure = valid[order]
    share = valid_right[order].double().cumsum(0) / torch.arange(1, len(valid) + 1)
    # Answers of the same confidence are accepted together.
    is_last = torch.cat([sure[1:] != sure[:-1], torch.tensor([True])])
    good = ((share >= aim) & is_last).nonzero()
    if not mistakes or not len(good) or int(good[-1]) + 1 < _LEAST:
        return None
    threshold = float(sure[int(good[-1])])
    accepted = test >= threshold
    answered, right = int(accepted.sum()), int((test_right & accepted).sum())
    if answered < _LEAST:
        return None
    return Accepted(aim, threshold, len(test), answered, right / answered, share_interval(right, answered))


def accuracy_by_share(confidence: Tensor, right: Tensor) -> tuple[tuple[float, float], ...]:
    """Return (share of the most confident answers, accuracy of these), from few to all, for answers with `confidence` [n]."""
    order = confidence.argsort(descending=True, stable=True)
    share = right[order].double().cumsum(0) / torch.arange(1, len(right) + 1)
    places = torch.linspace(min(_LEAST, len(right)), len(right), min(_POINTS, len(right))).round().long().unique()
    return tuple((int(place) / len(right), float(share[place - 1])) for place in places)
