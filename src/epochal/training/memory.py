"""Whether a batch fits into memory, estimated before training from what autograd keeps for the backward pass."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from epochal.device import free_memory, precision
from epochal.errors import TooLargeError
from epochal.models.summary import byte_words
from epochal.recipe import Recipe
from epochal.training.optim import state_per_weight
from epochal.training.own import NOT_USED

# The estimate must exceed the free memory by this factor before training is refused: free memory fluctuates.
_CLEARLY = 1.1


@dataclass(frozen=True)
class Footprint:
    """The least memory of training in bytes, besides the weights: per example in a batch, and a fixed amount."""

    per_example: float
    fixed: int

    def fitting(self, free: int) -> int:
        """Return how many examples fit into `free` bytes at once."""
        return max(0, math.floor((free * _CLEARLY - self.fixed) / self.per_example)) if self.per_example else 2**31


def check_memory(model: nn.Module, some: Tensor, count: int, recipe: Recipe, device: torch.device) -> None:
    """Raise `TooLargeError` if a step clearly needs more memory than `device` has free.

    `some` are two inputs on the device, `count` is the number of training examples. If the need or the free memory is unknown, this
    does nothing.
    """
    free, footprint = free_memory(device), measure_footprint(model, some, recipe, device)
    if free is None or footprint is None:
        return
    batch_size = min(recipe.examples_per_step, count)
    at_once, fitting = -(-batch_size // recipe.accumulate), footprint.fitting(free)
    if at_once <= fitting:
        return
    needed = footprint.fixed + at_once * footprint.per_example
    fix = "Use a smaller model or inputs, or another device."
    if fitting:
        fix = f"Set batch_size to {fitting} or less, or accumulate to {-(-batch_size // fitting)} or more; or use another device."
    raise TooLargeError(
        f"A step needs about {byte_words(needed)}, but {device} has {byte_words(free)} free: {byte_words(footprint.per_example)} for "
        f"each of the examples at once ({at_once:,}), and {byte_words(footprint.fixed)} for gradients and the optimizer.",
        fix,
    )


def measure_footprint(model: nn.Module, some: Tensor, recipe: Recipe, device: torch.device) -> Footprint | None:
    """Return the least memory for training `model`, or `None` if it cannot be estimated from two inputs, `some`.

    This measures a forward pass in evaluation mode, which keeps a little less than one in training, for two inputs and for four, so
    that copies of the weights in lower precision do not count as examples.
    """
    if len(some) < 2:
        return None
    try:
        # A copy is called, since a network may remember its calls.
        copied = copy.deepcopy(model).eval()
        two, four = (_saved_bytes(copied, inputs, recipe, device) for inputs in (some, torch.cat((some, some))))
        is_own = recipe.origin("optimizer.name").startswith(NOT_USED)
        kept = 0 if is_own else state_per_weight(recipe.optimizer, device)
    except (RuntimeError, TypeError, ValueError):  # such as a network that cannot be copied: then nothing is known
        return None
    weights = sum(weight.nbytes for weight in model.parameters() if weight.requires_grad)
    # The gradients, the optimizer's own numbers, the weights of the best epoch, and the moving average.
    copies = 1 + kept + 1 + bool(recipe.ema)
    return Footprint(max(0, four - two) / 2, weights * copies)


def _saved_bytes(model: nn.Module, inputs: Tensor, recipe: Recipe, device: torch.device) -> int:
    """Return how many bytes a forward pass keeps for the backward pass, weights aside."""
    known = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with precision(device, recipe.precision), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        # The outputs keep these tensors alive until they are counted, so that no two have the same address.
        outputs = model(inputs)
    total = sum(size for address, size in kept.items() if address not in known)
    del outputs
    return total
