"""Dropout by several processes as by one: random numbers are drawn for a whole batch, and each process keeps those of its rows.

PyTorch's layers draw from a generator in the order in which they run, so the mask of a row depends on all rows before it. Every process
therefore draws for all rows, from the same seed; drawing takes little beside a network. What does not have a row for each example, such as
a mask of weights, is drawn alike by all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from epochal.data.slices import Slice

# Functions that multiply their first argument by a random mask.
_MASKS = frozenset((functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d, functional.feature_alpha_dropout))

# Those that return random numbers in the shape of their first argument, or that fill it.
_LIKE = frozenset((torch.rand_like, torch.randn_like, torch.randint_like))
_FILL = frozenset((Tensor.bernoulli_, Tensor.uniform_, Tensor.normal_, Tensor.exponential_, Tensor.random_))

# And in a shape that is given.
_OF_SHAPE = frozenset((torch.rand, torch.randn))


class WholeDraws(TorchFunctionMode):
    """Within `rows`, random functions of PyTorch draw for the whole part of a batch that the rows are from."""

    own: Slice

    @contextmanager
    def rows(self, own: Slice) -> Iterator[None]:
        """Draw for these rows for the block."""
        self.own = own
        with self:
            yield

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _DRAWS and self.own.rows < self.own.last - self.own.first:
            shape = _shape(func, args)
            # Several rows of an input may belong to one example, as with windows.
            times, rest = divmod(shape[0], self.own.rows) if shape else (0, 1)
            if times and not rest:
                return self._drawn(func, shape, times, args, kwargs)
        return func(*args, **kwargs)

    def _drawn(self, func: Callable[..., Any], shape: tuple[int, ...], times: int, args: tuple[Any, ...], kwargs: Any) -> Any:
        whole = (times * (self.own.last - self.own.first), *shape[1:])
        rows = slice(times * (self.own.begin - self.own.first), times * (self.own.end - self.own.first))
        if func in _OF_SHAPE:
            return func(whole, **kwargs)[rows]
        first, *others = args
        full = torch.ones_like(first[:1], requires_grad=False).expand(whole).contiguous(memory_format=_layout(first))
        if func in _MASKS:
            if not (others[1] if len(others) > 1 else kwargs.get("training", True)):
                return func(*args, **kwargs)
            kwargs = kwargs | {"inplace": False}
            return first * func(full, *others[:2], **kwargs)[rows]
        if func in _LIKE:
            return func(full, *others, **kwargs)[rows]
        return first.copy_(func(full, *others, **kwargs)[rows])


_DRAWS = _MASKS | _LIKE | _FILL | _OF_SHAPE


def _shape(func: Callable[..., Any], args: tuple[Any, ...]) -> tuple[int, ...]:
    if func not in _OF_SHAPE:
        return tuple(args[0].shape)
    return tuple(args[0]) if args and isinstance(args[0], tuple | list) else tuple(args)


def _layout(tensor: Tensor) -> torch.memory_format:
    """Return the memory layout of a batch: random numbers are drawn in the order of memory."""
    if tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous():
        return torch.channels_last
    return torch.contiguous_format
