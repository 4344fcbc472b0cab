"""Recording the operations that forward, loss and backward consist of, as they pass below autograd."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from epochal.operations import OperationMode

# With these, values of tensors reach Python; what depends on them there would not be recorded.
_READS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default, torch.ops.aten.equal.default)


# (inputs, targets) -> the mean loss, and the outputs of the model.
LossOf = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class NotTraceableError(Exception):
    """Why a step cannot be traced."""


@dataclass(frozen=True)
class Call:
    """An operation of ATen, what it was given, and what it returned."""

    operation: torch._ops.OpOverload
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    result: Any


@dataclass(frozen=True)
class Recording:
    """The operations of a batch, in order, from `inputs` and `targets` to `outputs` and `loss`; and, from `seed`, to the gradients."""

    calls: Sequence[Call]
    inputs: Tensor
    targets: Tensor
    seed: Tensor
    loss: Tensor
    outputs: Tensor
    gradients: Sequence[Tensor | None]


class _Recorder(OperationMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _READS:
            raise NotTraceableError("Python reads a value of a tensor")
        result = func(*args, **(kwargs or {}))
        self.calls.append(Call(func, args, kwargs or {}, result))
        return result


def record(loss_of: LossOf, parameters: Sequence[nn.Parameter], inputs: Tensor, targets: Tensor) -> Recording:
    """Compute the loss of a batch and the gradients of `parameters`, and return the operations that this took.

    Buffers and generators change as in any step. Raises `NotTraceableError` where operations depend on values.
    """
    with _Recorder() as recorder:
        loss, outputs = loss_of(inputs, targets)
        forward = len(recorder.calls)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    # Backpropagation begins with the gradient of the loss by itself, a 1. (Passing one would make PyTorch import SymPy.)
    seed = recorder.calls[forward]
    assert seed.operation is torch.ops.aten.ones_like.default
    return Recording(recorder.calls, inputs, targets, seed.result, loss, outputs, gradients)
