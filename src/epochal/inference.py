"""The only loop without gradients: evaluation and prediction both come through here."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from epochal.data.feed import Feed
from epochal.device import precision
from epochal.models.build import evaluating


def infer(model: nn.Module, feed: Feed, device: torch.device, number_format: str = "fp32") -> Tensor:
    """Return the model's outputs for all examples of `feed`, in their order: float32 [n, outputs] on the CPU.

    The model computes in evaluation mode (no dropout, batch norm by its running statistics) and is left in the mode it was in.
    """
    with evaluating(model), torch.inference_mode(), precision(device, number_format):
        outputs = [model(batch.inputs) for batch in feed.epoch(0)]
    # One transfer at the end, not one per batch; outside of inference mode it gives a tensor like any other.
    return torch.cat(outputs).float().cpu()
