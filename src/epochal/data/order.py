"""Which examples are in which batch of which epoch: a function of the seed and the epoch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from epochal.random import key, permutation


class Order:
    """The order of `count` examples, shuffled in each epoch if there is a `seed`.

    With `classes` (int64 [count]) an epoch has the same number of examples, but equally many of each class (one more of the first
    ones if that is not a whole number). Each class is cycled through in shuffled order over the epochs: so all examples of a
    common class get their turn, and those of a rare class appear several times in an epoch.
    """

    def __init__(self, count: int, batch_size: int, seed: int | None, classes: Tensor | None = None) -> None:
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        self.members = [] if classes is None else [(classes == label).nonzero()[:, 0] for label in classes.unique()]

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def batches(self, epoch: int, following: int) -> list[Tensor]:
        """Return the numbers of the examples of each batch, plus the `following` ones after it (the first ones after the last).

        An example that appears again in an epoch has another number, which determines its random changes: see `places`.
        """
        order = torch.arange(self.count) if self.seed is None else permutation(key(self.seed, epoch, "order"), self.count)
        if self.members and self.seed is not None:
            order = self._balanced(self.seed, epoch)[order]
        ring = torch.cat((order, order[:following]))
        begins = range(0, self.count, self.batch_size)
        return [ring[begin : min(begin + self.batch_size, self.count) + following] for begin in begins]

    def places(self, numbers: Tensor) -> Tensor:
        """Return the places in the split of the examples with these numbers."""
        return numbers % self.count if self.members else numbers

    def _balanced(self, seed: int, epoch: int) -> Tensor:
        found = []
        for label, (places, share) in enumerate(zip(self.members, shares(self.count, len(self.members)), strict=True)):
            # The class is cycled through over all epochs; `turns` is how often each of this epoch's examples already appeared in it.
            positions = torch.arange((epoch - 1) * share, epoch * share)
            rounds = positions // len(places)
            first = (epoch - 1) * share // len(places)
            turns = rounds - first
            shuffled = [places[permutation(key(seed, label, number, "class"), len(places))] for number in rounds.unique().tolist()]
            if shuffled:
                found.append(torch.stack(shuffled)[turns, positions % len(places)] + turns * self.count)
        return torch.cat(found)


def shares(count: int, classes: int) -> list[int]:
    """Return how many of the `count` examples of a balanced epoch each class gets."""
    least, more = divmod(count, classes)
    return [least + (number < more) for number in range(classes)]


def describe_balance(counts: Sequence[int], names: Sequence[str]) -> str:
    """Return what balanced epochs do with these numbers of training examples per class, in words."""
    there = [(name, has) for name, has in zip(names, counts, strict=True) if has]
    total = sum(counts)
    each = shares(total, len(there))
    times = {name: share / has for (name, has), share in zip(there, each, strict=True)}
    rare, common = max(times, key=times.__getitem__), min(times, key=times.__getitem__)
    span = f"{each[-1]:,}" if each[0] == each[-1] else f"{each[-1]:,} or {each[0]:,}"
    return (
        f"sampling = balanced: an epoch still has {total:,} examples, {span} of each class; one of '{rare}' comes "
        f"{times[rare]:.3g} times in it, one of '{common}' {times[common]:.3g} times on average"
    )
