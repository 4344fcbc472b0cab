"""The part of a model that turns raw inputs into well-scaled numbers.

It is a layer that is trained, evaluated, exported and served with the network: there is no second implementation that could differ.
"""

from __future__ import annotations

from torch import Tensor, nn

# The largest integer that float64 and int64 both represent.
_WHOLE = 2.0**63 - 1024


class Preprocess(nn.Module):
    """(x - mean) / std in float32, with uint8 as 0 to 1. From int64 and float64 the mean is subtracted first, in full precision.

    Input: [batch, *shape], of any dtype; output: float32 of the same shape.
    """

    scale: Tensor
    bias: Tensor
    offset: Tensor | None

    def __init__(self, mean: Tensor, std: Tensor, dtype: str) -> None:
        """`mean` and `std` (float64) broadcast with one input, whose dtype is `dtype`."""
        super().__init__()
        # float32 has 24 bits: differences between large numbers, such as times, would be lost.
        offset = None
        if dtype == "int64":
            offset = mean.round().clamp(-_WHOLE, _WHOLE)
        elif dtype == "float64":
            offset = mean
        if offset is not None:
            mean = mean - offset
        self.register_buffer("offset", offset.long() if offset is not None and dtype == "int64" else offset)
        unit = 255.0 if dtype == "uint8" else 1.0
        # One multiplication and one addition; their constants are computed in float64. float64 inputs may have any spread.
        scale = 1.0 / (unit * std)
        self.register_buffer("scale", scale if dtype == "float64" else scale.float())
        self.register_buffer("bias", (-mean / std).float())

    def forward(self, inputs: Tensor) -> Tensor:
        """Scale raw inputs."""
        if self.offset is not None:
            inputs = inputs - self.offset
        return (inputs * self.scale).add_(self.bias).to(self.bias.dtype)
