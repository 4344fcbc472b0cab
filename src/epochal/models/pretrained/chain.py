"""Where a trunk may be cut: between parts that follow one another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from epochal.models.build import eval_mode

# Parts with a smaller share of the weights are not looked into.
_SMALL = 0.1


def chain_of(trunk: nn.Module, inputs: Tensor) -> list[nn.Module]:
    """Return parts of a trunk that give, one after another, what it gives as a whole; the trunk alone if there are none.

    No network has to say so: its parts, and theirs, are tried on a few `inputs` [n, *features].
    """
    total, parts, single = _weights(trunk), [trunk], set[nn.Module]()
    with eval_mode(trunk), torch.inference_mode():
        wanted = trunk(inputs)
        while open_parts := [part for part in parts if part not in single and _weights(part) > _SMALL * total]:
            part = max(open_parts, key=_weights)
            place = parts.index(part)
            tried = [*parts[:place], *part.children(), *parts[place + 1 :]]
            if _gives(tried, inputs, wanted):
                parts = tried
            else:
                single.add(part)
    return parts


def last_of(parts: Sequence[nn.Module], share: float) -> int:
    """Return the place of the first of the last parts that have at least this share of the weights."""
    total, found = sum(map(_weights, parts)), 0
    for place in reversed(range(len(parts))):
        found += _weights(parts[place])
        if found >= share * total:
            return place
    return 0


def _weights(module: nn.Module) -> int:
    return sum(weights.numel() for weights in module.parameters())


def _gives(parts: Sequence[nn.Module], inputs: Tensor, wanted: Tensor) -> bool:
    found = inputs
    try:
        for part in parts:
            found = part(found)
    except Exception:  # what is no chain may raise anything  # noqa: BLE001
        return False
    return isinstance(found, Tensor) and torch.equal(found, wanted)
