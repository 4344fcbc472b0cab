"""Batch norm over the slices of a batch that several processes have, as over the whole batch in one.

PyTorch's `SyncBatchNorm` works on GPUs only, and would replace the user's layers. Here the layers stay what they are, and compute in
another way for the time of training. The gradient is that of Ioffe and Szegedy, "Batch normalization" (2015), with means over all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from epochal.distributed.ranks import Ranks


def batch_norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Return the layers of batch norm in a model."""
    return [layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]


class Counting:
    """How much the rows of this process count in statistics: not at all where they stand in for none."""

    weight = 1.0


@contextmanager
def over_all(model: nn.Module, ranks: Ranks, counting: Counting) -> Iterator[None]:
    """Let the batch norm of a model be that of all processes together for the block."""
    layers = batch_norms(model)
    for layer in layers:
        layer.forward = partial(_forward, layer, ranks, counting)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _forward(layer: nn.modules.batchnorm._BatchNorm, ranks: Ranks, counting: Counting, inputs: Tensor) -> Tensor:
    if not (layer.training or layer.running_mean is None):
        return type(layer).forward(layer, inputs)
    layer._check_input_dim(inputs)
    with torch.no_grad():
        mean, var, count = _statistics(inputs, ranks, counting)
        if layer.training and layer.track_running_stats:
            _follow(layer, mean, var, count)
    normed: Tensor = _Normed.apply(  # type: ignore[no-untyped-call]
        inputs, layer.weight, layer.bias, mean, var, count, layer.eps, ranks, counting.weight
    )
    return normed


def _statistics(inputs: Tensor, ranks: Ranks, counting: Counting) -> tuple[Tensor, Tensor, float]:
    """Return mean and variance of each channel over all processes, float32 [channels], and the number of values that they are of.

    They are float64 if the inputs are.
    """
    var, mean = torch.var_mean(_full(inputs), _others(inputs), correction=0)
    count = torch.full_like(mean[:1], counting.weight * (inputs.numel() // inputs.shape[1]))
    all_means, all_vars, counts = torch.stack(ranks.gather(torch.cat((mean, var, count)).double())).tensor_split(
        (len(mean), 2 * len(mean)), 1
    )
    share = counts / counts.sum()
    mean_of_all = (share * all_means).sum(0)
    var_of_all = (share * (all_vars + (all_means - mean_of_all).square())).sum(0)
    return mean_of_all.to(mean.dtype), var_of_all.to(mean.dtype), counts.sum()  # type: ignore[return-value]


def _follow(layer: nn.modules.batchnorm._BatchNorm, mean: Tensor, var: Tensor, count: Any) -> None:
    """Update the running statistics, as PyTorch does."""
    assert layer.num_batches_tracked is not None
    assert layer.running_mean is not None
    assert layer.running_var is not None
    layer.num_batches_tracked.add_(1)
    momentum = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean.to(layer.running_mean.dtype), momentum)
    layer.running_var.lerp_((var * (count / (count - 1))).to(layer.running_var.dtype), momentum)


class _Normed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        var: Tensor,
        count: Tensor,
        eps: float,
        ranks: Ranks,
        counts: float,
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight, mean, var, count)
        ctx.eps, ctx.ranks, ctx.counts = eps, ranks, counts
        return functional.batch_norm(inputs, mean, var, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        inputs, weight, mean, var, count = ctx.saved_tensors
        others, shape = _others(inputs), [1, -1, *[1] * (inputs.ndim - 2)]
        gradient, scale = _full(gradients[0]), (var + ctx.eps).rsqrt()
        normed = (_full(inputs) - mean.view(shape)) * scale.view(shape)
        of_bias, of_weight = gradient.sum(others), (gradient * normed).sum(others)
        bias_mean, weight_mean = (ctx.ranks.total(torch.cat((of_bias, of_weight))) / count).to(gradient.dtype).chunk(2)
        scale = ctx.counts * (scale if weight is None else scale * weight)
        of_inputs = scale.view(shape) * (gradient - bias_mean.view(shape) - normed * weight_mean.view(shape))
        return (of_inputs.to(inputs.dtype), *((None, None) if weight is None else (of_weight, of_bias)), *[None] * 6)


def _full(values: Tensor) -> Tensor:
    """Return values in float32, or in float64 if they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _others(inputs: Tensor) -> list[int]:
    """Return all axes but that of channels."""
    return [0, *range(2, inputs.ndim)]
