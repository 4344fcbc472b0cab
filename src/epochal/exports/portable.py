"""A model as its exporters need it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from epochal.bundle import Bundle


def portable(bundle: Bundle) -> nn.Module:
    """Return a copy of the model, from raw inputs to probabilities or quantities, in operations that exported files can have.

    A layer with a method `exportable` is replaced by what that returns.
    """
    whole = copy.deepcopy(bundle.with_decoder()).cpu().eval()
    for name, layer in list(whole.named_modules()):
        if name and hasattr(layer, "exportable"):
            whole.set_submodule(name, layer.exportable())
    for tensor in (*whole.parameters(), *whole.buffers()):
        # PyTorch's format warns of others: of parts of larger tensors, and of channels last.
        tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
    return whole.requires_grad_(False)


def sample(bundle: Bundle) -> Tensor:
    """Return two inputs to record the model with. With a single one, exporters would take the size of the batch for fixed."""
    return bundle.spec.input.zeros().repeat_interleave(2, 0)


def dynamic_batch() -> dict[int, Any]:
    """Return what says that the first axis has any size."""
    # Without a limit, older versions of PyTorch ask whether a multiple of the size may be the largest integer.
    return {0: torch.export.Dim("batch", min=1, max=1 << 30)}
