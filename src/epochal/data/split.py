"""Split off a part of the examples, by seed and in proportion to the classes, or whole groups of them; or deal all of them to folds."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from epochal.data.examples import Examples, group_numbers
from epochal.errors import DataError
from epochal.random import key, permutation
from epochal.shown import are, counted

# Groups are chosen in so many random orders, if they are few, and the best choice is taken.
_TRIES, _TRIED = 16, 20_000


def split_off(
    examples: Examples, fraction: float, seed: int, name: str, *, total: int | None = None, keep: int = 1
) -> tuple[Examples, Examples]:
    """Return (the rest, the part split off), chosen by `seed` and the part's `name`.

    The part has `fraction` of `total` examples (by default of all), at least one. If targets are classes, it has them in
    proportion: stratified sampling. Each class keeps an example in the rest; small classes may contribute none. Both parts keep
    the order of the source. If examples have groups, each is in one of the parts, as near to these proportions as possible; `keep` of
    them stay in the rest.
    """
    count = len(examples)
    wanted = max(1, round(fraction * (total or count)))
    cannot = f"split off data.{name} = {fraction:g}"
    classes, sizes = (
        _classes(examples.targets) if examples.targets.ndim == 1 else (torch.zeros(count, dtype=torch.uint8), torch.tensor([count]))
    )
    groups = group_numbers(examples)
    if groups is not None:
        is_chosen = _whole_groups(groups, classes, wanted, seed, name, keep, cannot)
    else:
        is_chosen = _single(classes, sizes, wanted, seed, name, cannot)
    return examples.take((~is_chosen).nonzero().flatten()), examples.take(is_chosen.nonzero().flatten())


def in_folds(examples: Examples, folds: int, seed: int) -> Tensor:
    """Return the fold of each example, from 0 to `folds` - 1, chosen by `seed`: int64 [n].

    Folds are of one size, to an example, and so is their share of each class, if targets are classes. If examples have groups, each group
    is in one fold, and sizes and classes are as equal as that allows. Raises `DataError` for fewer examples, or groups, than folds.
    """
    total = len(examples)
    classes, _ = _classes(examples.targets) if examples.targets.ndim == 1 else (torch.zeros(total, dtype=torch.int32), None)
    groups = group_numbers(examples)
    there = total if groups is None else int(groups.max()) + 1
    if there < folds:
        if groups is None:
            what = f"{counted(there, 'example')} {are(there)} too few for {folds} folds."
        else:
            what = f"{counted(there, 'group')} {are(there)} too few for {folds} folds."
        raise DataError(what, f"Use at most {counted(there, 'fold')}, or add more data.")
    if groups is not None:
        return _Groups(groups, classes, total / folds).deal(permutation(key(seed, "folds"), there), folds)[groups]
    order = permutation(key(seed, "folds"), total)
    # Class by class, each in random order: then every fold is dealt as many.
    order = order[classes[order].argsort(stable=True)]
    found = torch.empty(total, dtype=torch.int64)
    found[order] = torch.arange(total) % folds
    return found


def _single(classes: Tensor, sizes: Tensor, wanted: int, seed: int, name: str, cannot: str) -> Tensor:
    """Choose examples of classes of these `sizes`: bool [n]."""
    total = len(classes)
    given = _shares(sizes, wanted, key(seed, name, "ties")) if wanted < total else sizes * 0
    if not given.any():
        fix = f"Add more data, or set data.{name} = 0 to do without."
        if wanted < total and total > 1:
            raise DataError(f"Each class keeps one example for training, so there is none to {cannot}.", fix)
        raise DataError(f"{counted(total, 'example')} {are(total)} too few to {cannot}.", fix)
    order = permutation(key(seed, name), total)
    if len(sizes) > 1:
        # Class by class, each in random order. NumPy sorts in less memory.
        order = order[torch.from_numpy(np.argsort(classes[order].numpy(), kind="stable"))]
    begins = (sizes.cumsum(0) - sizes).tolist()
    first = torch.cat([order[begin : begin + number] for begin, number in zip(begins, given.tolist(), strict=True)])
    is_chosen = torch.zeros(total, dtype=torch.bool)
    is_chosen[first] = True
    return is_chosen


def _classes(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return classes numbered without gaps (int32 [n], since there may be millions), and their sizes (int64)."""
    counts = targets.bincount()
    numbers = (counts > 0).cumsum(0, dtype=torch.int32) - 1
    return numbers.index_select(0, targets), counts[counts > 0]


def _shares(sizes: Tensor, wanted: int, stream: int) -> Tensor:
    """Distribute `wanted` places over classes of these `sizes` by largest remainder; never a class's last example."""
    count = int(sizes.sum())
    given, remainder = sizes * wanted // count, sizes * wanted % count
    ties = permutation(stream, len(sizes))
    order = ties[remainder[ties].argsort(descending=True, stable=True)]
    able = order[given[order] < sizes[order] - 1]
    given[able[: wanted - int(given.sum())]] += 1
    return given


def _whole_groups(groups: Tensor, classes: Tensor, wanted: int, seed: int, name: str, keep: int, cannot: str) -> Tensor:
    """Choose whole groups of about `wanted` examples, with classes in proportion: bool [n]."""
    number = int(groups.max()) + 1
    fix = f"Add more groups, or set data.{name} = 0 to do without."
    if number <= keep:
        raise DataError(f"{counted(number, 'group')} {are(number)} too few to {cannot}: examples of one group stay together.", fix)
    table = _Groups(groups, classes, wanted)
    best, chosen = -np.inf, list[int]()
    for attempt in range(max(1, min(_TRIES, _TRIED // number))):
        gain, found = table.choose(permutation(key(seed, name, attempt), number).tolist(), number - keep)
        if found and gain > best:
            best, chosen = gain, found
    if not chosen:
        raise DataError(f"Each group has the only examples of a class, so there is none to {cannot}.", fix)
    return torch.isin(groups, torch.tensor(chosen))


class _Groups:
    """How many examples of each class each group has, and what a choice of groups is to have."""

    def __init__(self, groups: Tensor, classes: Tensor, wanted: float) -> None:
        # Classes are counted for those groups alone that have them: there may be many of both. The last class is all examples.
        kinds = int(classes.max()) + 2
        pairs, counts = (groups * kinds + classes).unique(return_counts=True)
        sizes = groups.bincount()
        pairs = torch.cat([pairs, torch.arange(len(sizes)) * kinds + kinds - 1])
        order = pairs.argsort()
        pairs, self.counts = pairs[order].numpy(), torch.cat([counts, sizes])[order].numpy()
        self.classes = pairs % kinds
        self.begins = np.searchsorted(pairs, np.arange(len(sizes) + 1) * kinds).tolist()
        self.totals = np.append(classes.bincount(minlength=kinds - 1).numpy(), len(classes))
        self.wanted = self.totals * (wanted / len(classes))

    def choose(self, order: list[int], most: int) -> tuple[float, list[int]]:
        """Take groups in this order, at most so many, if they bring all counts nearer to what is wanted; or else the one that costs least.

        Returns by how much they do, and the groups. None takes the last example of a class.
        """
        left, rest = self.wanted.copy(), self.totals.copy()
        sum_of_gains, chosen = 0.0, list[int]()
        least, only = -np.inf, -1
        for group in order:
            span = slice(self.begins[group], self.begins[group + 1])
            kinds, counts = self.classes[span], self.counts[span]
            if (rest[kinds] <= counts).any():
                continue
            # By so much the squared distance to what is wanted becomes less, in shares of each class.
            gain = float((counts * (2 * left[kinds] - counts) / self.totals[kinds]).sum())
            if gain > least and not chosen:
                least, only = gain, group
            if gain > 0:
                sum_of_gains += gain
                chosen.append(group)
                left[kinds] -= counts
                rest[kinds] -= counts
            if len(chosen) == most:
                break
        return (sum_of_gains, chosen) if chosen else (least, [only] * (only >= 0))

    def deal(self, order: Tensor, folds: int) -> Tensor:
        """Return the fold of each group, int64 [groups]: the largest first, equal ones in this order, each to where it is wanted most."""
        left = np.tile(self.wanted, (folds, 1))
        sizes = torch.from_numpy(self.counts[np.array(self.begins[1:]) - 1])
        found = torch.empty(len(order), dtype=torch.int64)
        for group in order[sizes[order].argsort(descending=True, stable=True)].tolist():
            span = slice(self.begins[group], self.begins[group + 1])
            kinds, counts = self.classes[span], self.counts[span]
            # As in `choose`: by so much the squared distance to what is wanted becomes less.
            fold = int((counts * (2 * left[:, kinds] - counts) / self.totals[kinds]).sum(1).argmax())
            left[fold, kinds] -= counts
            found[group] = fold
        return found
