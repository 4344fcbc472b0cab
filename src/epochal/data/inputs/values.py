"""The inputs of a split, wherever they are: in memory, in our cache files, or returned one by one by the user's code.

All are read in the same way, `inputs[index]`, so a tensor qualifies as it is. `access` says how they are best read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor

# "memory": a tensor. "file": any number can be read at once. "items": they are read one by one, and may change each time.
Access = Literal["memory", "file", "items"]

# So many inputs are moved at once.
_MOVED = 1 << 12


class Inputs(Protocol):
    """Inputs of one shape and dtype. All except tensors also have an attribute `access`; those that come over a network, `ahead`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor, /) -> Tensor:
        """Return the inputs at `index` (int64 [n]): [n, *shape]."""
        ...


def access(inputs: Inputs) -> Access:
    """Say how inputs are read."""
    found: Access = getattr(inputs, "access", "memory")
    return found


def ahead(inputs: Inputs) -> int:
    """Say how many batches should be read before they are needed, at the same time."""
    count: int = getattr(inputs, "ahead", 1)
    return count


def in_memory(inputs: Inputs) -> Tensor | None:
    """Return the inputs if they are a tensor [n, *shape], or `None` if they are not in memory."""
    return inputs if isinstance(inputs, Tensor) else None


def subset(inputs: Inputs, index: Tensor | slice) -> Inputs:
    """Return the inputs at `index` (int64 [n]), in that order; if they are not in memory, without reading them."""
    values = in_memory(inputs)
    return View(inputs, torch.arange(len(inputs))[index]) if values is None else values[index]


def joined(first: Inputs, second: Inputs) -> Inputs:
    """Return inputs and others of their kind after them; if they are not in memory, without reading them."""
    values, others = in_memory(first), in_memory(second)
    return Joined(first, second) if values is None or others is None else torch.cat([values, others])


def arranged(values: Tensor, first: Tensor, *others: Tensor) -> list[Tensor]:
    """Return the inputs at the places of several parts (int64 [n], those of `first` ascending), one part after another in their own memory.

    No place may be in two parts.
    """
    saved = [values[places] for places in others]
    for begin, places in zip(range(0, len(first), _MOVED), first.split(_MOVED), strict=True):
        # They come from behind what was written so far.
        values[begin : begin + len(places)] = values[places]
    found, begin = [values[: len(first)]], len(first)
    for part in saved:
        found.append(values[begin : begin + len(part)].copy_(part))
        begin += len(part)
    return found


class OneByOne(ABC):
    """Inputs that are read one by one, because they do not fit memory or change each time they are read."""

    access: Access = "items"

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, place: int) -> Tensor:
        """Read one input, without a batch axis."""

    def __getitem__(self, index: Tensor) -> Tensor:
        return torch.stack([self.read(place) for place in index.tolist()])


class View:
    """A subset of other inputs in any order; `convert`, if given, is applied to inputs read and their places there."""

    def __init__(self, inputs: Inputs, index: Tensor, convert: Callable[[Tensor, Tensor], Tensor] | None = None) -> None:
        self.inputs = inputs
        self.index = index
        self.convert = convert
        self.access = access(inputs)
        self.ahead = ahead(inputs)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: Tensor) -> Tensor:
        places = self.index[index]
        values = self.inputs[places]
        return values if self.convert is None else self.convert(values, places)


class Joined:
    """Inputs, and others of their kind after them."""

    def __init__(self, first: Inputs, second: Inputs) -> None:
        self.first = first
        self.second = second
        self.access = access(first)
        self.ahead = max(ahead(first), ahead(second))

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, index: Tensor) -> Tensor:
        is_first = index < len(self.first)
        if is_first.all():
            return self.first[index]
        others = self.second[index[~is_first] - len(self.first)]
        found = others.new_empty((len(index), *others.shape[1:]))
        found[~is_first] = others
        found[is_first] = self.first[index[is_first]]
        return found
