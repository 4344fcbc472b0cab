"""The only loop without gradients, for evaluation and prediction alike."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from epochal.cores import sharing_cores
from epochal.data.feed import Feed
from epochal.device import keep_memory, precision
from epochal.distributed.ranks import ALONE, Ranks
from epochal.models.build import eval_mode
from epochal.progress import progress


@sharing_cores()
def infer(model: nn.Module, feed: Feed, device: torch.device, number_format: str = "fp32", label: str = "", ranks: Ranks = ALONE) -> Tensor:
    """Return the model's outputs for all examples of `feed`, in their order: [n, outputs] on the CPU, float32, or float64 if the
    model's outputs are.

    The model computes in evaluation mode (no dropout, batch norm with running statistics), and its mode is restored afterwards.
    With a `label`, a progress bar of that name is shown. Of several `ranks` each computes some of the batches, and all get all outputs.
    """
    keep_memory()
    outputs = []
    if len(feed) <= ranks.size:
        ranks = ALONE
    with (
        sharing_cores(),
        eval_mode(model),
        torch.inference_mode(),
        precision(device, number_format),
        progress(label, -(-len(feed) // ranks.size)) as advance,
    ):
        for batch in feed.epoch(0, ranks.rank, ranks.size):
            outputs.append(model(batch.inputs))
            advance()
    # One transfer at the end, not one per batch; outside of inference mode the result is an ordinary tensor.
    found = torch.cat(outputs)
    found = found.to(torch.promote_types(found.dtype, torch.float32)).cpu()
    return found if ranks.size == 1 else _together(found, len(outputs[0]), feed, ranks)


def _together(found: Tensor, batch_size: int, feed: Feed, ranks: Ranks) -> Tensor:
    """Return the outputs of all processes, each of which has every so many-th batch, in the order of the examples."""
    sizes = [min(batch_size, len(feed.examples) - begin) for begin in range(0, len(feed.examples), batch_size)]
    # Some may still compute.
    ranks.meet()
    parts = ranks.gather_rows(found, [sum(sizes[rank :: ranks.size]) for rank in range(ranks.size)])
    batches = [list(part.split(sizes[rank :: ranks.size])) for rank, part in enumerate(parts)]
    return torch.cat([batches[number % ranks.size][number // ranks.size] for number in range(len(sizes))])
