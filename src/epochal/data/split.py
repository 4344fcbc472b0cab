"""Split off a part of the examples, by seed and in proportion to the classes."""

from __future__ import annotations

import torch
from torch import Tensor

from epochal.data.examples import Examples
from epochal.errors import DataError
from epochal.random import key, permutation


def split_off(examples: Examples, fraction: float, seed: int, name: str, *, total: int | None = None) -> tuple[Examples, Examples]:
    """Return (the rest, the part split off), chosen by `seed` and the part's `name`.

    The part has `fraction` of `total` examples (by default of all), at least one. If targets are classes, it has them in
    proportion: stratified sampling. Each class keeps an example in the rest; small classes may contribute none. Both parts keep
    the order of the source.
    """
    count = len(examples)
    group, sizes = torch.zeros(count, dtype=torch.long), torch.tensor([count])
    if examples.targets.ndim == 1:
        _, group, sizes = examples.targets.unique(return_inverse=True, return_counts=True)
    wanted = max(1, round(fraction * (total or count)))
    given = _shares(sizes, wanted, key(seed, name, "ties")) if wanted < count else sizes * 0
    if not given.any():
        cannot = f"split off data.{name} = {fraction:g}"
        fix = f"Add more data, or set data.{name} = 0 to do without."
        if wanted < count and count > 1:
            raise DataError(f"Each class keeps one example for training, so there is none to {cannot}.", fix)
        raise DataError(f"{count} examples are too few to {cannot}.", fix)
    order = permutation(key(seed, name), count)
    order = order[group[order].argsort(stable=True)]  # Class by class, each in random order.
    rank = torch.arange(count) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    is_chosen = torch.zeros(count, dtype=torch.bool)
    is_chosen[order[rank < given.repeat_interleave(sizes)]] = True
    return examples.take((~is_chosen).nonzero().flatten()), examples.take(is_chosen.nonzero().flatten())


def _shares(sizes: Tensor, wanted: int, stream: int) -> Tensor:
    """Distribute `wanted` places over classes of these `sizes` by largest remainder; never a class's last example."""
    count = int(sizes.sum())
    given, remainder = sizes * wanted // count, sizes * wanted % count
    ties = permutation(stream, len(sizes))
    order = ties[remainder[ties].argsort(descending=True, stable=True)]
    able = order[given[order] < sizes[order] - 1]
    given[able[: wanted - int(given.sum())]] += 1
    return given
