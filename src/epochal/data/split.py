"""Cut off a part of the examples, by seed and in proportion to the classes."""

from __future__ import annotations

import torch
from torch import Tensor

from epochal.data.examples import Examples
from epochal.errors import DataError
from epochal.random import key, permutation


def cut(examples: Examples, fraction: float, seed: int, name: str) -> tuple[Examples, Examples]:
    """Return (the rest, the part cut off): a `fraction` of `examples`, chosen by `seed` and the part's `name`.

    Where targets are classes, each class gives its share (rounded, but at least one of two or more examples and never all):
    stratified sampling. Both parts keep the order of the source.
    """
    count = len(examples)
    groups = (
        [(examples.targets == label).nonzero().flatten() for label in examples.targets.unique()] if examples.targets.ndim == 1 else None
    )
    strata = groups if groups is not None else [torch.arange(count)]
    chosen = torch.zeros(count, dtype=torch.bool)
    for number, members in enumerate(strata):
        chosen[_sample(members, fraction, key(seed, name, number))] = True
    if chosen.all() or not chosen.any():
        raise DataError(
            f"{count} examples are too few to cut off {fraction:.0%} for {name}.", f"Bring more data, or set data.{name} = 0 to go without."
        )
    return examples.take((~chosen).nonzero().flatten()), examples.take(chosen.nonzero().flatten())


def _sample(members: Tensor, fraction: float, stream: int) -> Tensor:
    wanted = round(len(members) * fraction)
    wanted = min(max(wanted, 1), len(members) - 1) if len(members) > 1 else 0
    return members[permutation(stream, len(members))[:wanted]]
