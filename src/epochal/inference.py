"""The only loop without gradients, for evaluation and prediction alike."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from epochal.cores import sharing_cores
from epochal.data.feed import Feed
from epochal.device import keep_memory, precision
from epochal.models.build import eval_mode
from epochal.progress import progress


@sharing_cores()
def infer(model: nn.Module, feed: Feed, device: torch.device, number_format: str = "fp32", label: str = "") -> Tensor:
    """Return the model's outputs for all examples of `feed`, in their order: [n, outputs] on the CPU, float32, or float64 if the
    model's outputs are.

    The model computes in evaluation mode (no dropout, batch norm with running statistics), and its mode is restored afterwards.
    With a `label`, a progress bar of that name is shown.
    """
    keep_memory()
    outputs = []
    with (
        sharing_cores(),
        eval_mode(model),
        torch.inference_mode(),
        precision(device, number_format),
        progress(label, len(feed)) as advance,
    ):
        for batch in feed.epoch(0):
            outputs.append(model(batch.inputs))
            advance()
    # One transfer at the end, not one per batch; outside of inference mode the result is an ordinary tensor.
    found = torch.cat(outputs)
    return found.to(torch.promote_types(found.dtype, torch.float32)).cpu()
