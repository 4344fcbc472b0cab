"""The part of a model that turns raw inputs into well-scaled numbers.

This is a layer, trained, evaluated, exported and served with the network: there is no second path that could differ.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from epochal.data.spec import DataSpec
from epochal.errors import RecipeError

# The largest whole number that float64 and int64 both have.
_WHOLE = 2.0**63 - 1024


class Preprocess(nn.Module):
    """(x - mean) / std in float32, with uint8 counting 0 to 1. Of int64 and float64 the mean is subtracted before, in full precision.

    Input: [batch, *shape], of any dtype; output: float32 of the same shape. `mean` and `std` are per channel of pictures, per
    feature of numbers, or one for all.
    """

    scale: Tensor
    bias: Tensor
    offset: Tensor | None

    def __init__(self, spec: DataSpec, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> None:
        super().__init__()
        center = _broadcastable("data.mean", spec.mean if mean is None else mean, spec)
        spread = _broadcastable("data.std", spec.std if std is None else std, spec)
        if (spread <= 0).any():
            raise RecipeError("The setting data.std must be above 0.", "Leave it out to have it measured.")
        # float32 has 24 bits: of large numbers such as times, it would keep no difference.
        offset = None
        if spec.dtype == "int64":
            offset = center.round().clamp(-_WHOLE, _WHOLE)
        elif spec.dtype == "float64":
            offset = center
        if offset is not None:
            center = center - offset
        self.register_buffer("offset", offset.long() if offset is not None and spec.dtype == "int64" else offset)
        unit = 255.0 if spec.dtype == "uint8" else 1.0
        # One multiplication and one addition, computed in float64 first. The spread of float64 may be any.
        scale = 1.0 / (unit * spread)
        self.register_buffer("scale", scale if spec.dtype == "float64" else scale.float())
        self.register_buffer("bias", (-center / spread).float())

    def forward(self, inputs: Tensor) -> Tensor:
        """Scale raw inputs."""
        if self.offset is not None:
            inputs = inputs - self.offset
        return torch.addcmul(self.bias, inputs.to(self.scale.dtype), self.scale).to(self.bias.dtype)


def _broadcastable(name: str, values: Sequence[float], spec: DataSpec) -> Tensor:
    tensor = torch.tensor(list(values), dtype=torch.float64)
    if len(tensor) == 1:
        tensor = tensor.expand(len(spec.mean))
    if len(tensor) != len(spec.mean):
        what = "channels" if spec.is_image else "features"
        raise RecipeError(
            f"The setting {name} has {len(tensor)} numbers, but the data have {len(spec.mean)} {what}.", "Give one number, or one for each."
        )
    return tensor.reshape(-1, 1, 1) if spec.is_image else tensor.clone()
