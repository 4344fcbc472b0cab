"""The part of a model that turns raw inputs into well-scaled numbers.

This is a layer, trained, evaluated, exported and served with the network: there is no second path that could differ.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# The largest whole number that float64 and int64 both have.
_WHOLE = 2.0**63 - 1024


class Preprocess(nn.Module):
    """(x - mean) / std in float32, with uint8 counting 0 to 1. Of int64 and float64 the mean is subtracted before, in full precision.

    Input: [batch, *shape], of any dtype; output: float32 of the same shape.
    """

    scale: Tensor
    bias: Tensor
    offset: Tensor | None

    def __init__(self, mean: Tensor, std: Tensor, dtype: str) -> None:
        """`mean` and `std` (float64) broadcast with one input, whose type is `dtype`."""
        super().__init__()
        # float32 has 24 bits: of large numbers such as times, it would keep no difference.
        offset = None
        if dtype == "int64":
            offset = mean.round().clamp(-_WHOLE, _WHOLE)
        elif dtype == "float64":
            offset = mean
        if offset is not None:
            mean = mean - offset
        self.register_buffer("offset", offset.long() if offset is not None and dtype == "int64" else offset)
        unit = 255.0 if dtype == "uint8" else 1.0
        # One multiplication and one addition, computed in float64 first. The spread of float64 may be any.
        scale = 1.0 / (unit * std)
        self.register_buffer("scale", scale if dtype == "float64" else scale.float())
        self.register_buffer("bias", (-mean / std).float())

    def forward(self, inputs: Tensor) -> Tensor:
        """Scale raw inputs."""
        if self.offset is not None:
            inputs = inputs - self.offset
        return torch.addcmul(self.bias, inputs.to(self.scale.dtype), self.scale).to(self.bias.dtype)
