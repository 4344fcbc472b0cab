"""The model as `torch.compile` makes it: slow to begin, and then perhaps faster than PyTorch's own operations."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from epochal.errors import RecipeError
from epochal.recipe import Recipe
from epochal.user_code import in_words

Forward = Callable[[Tensor], Tensor]


def compiled(model: nn.Module, recipe: Recipe, device: torch.device) -> Forward:
    """Return the forward pass of `model`, compiled for the batches of a recipe; smaller ones, at the end of an epoch, go through the model.

    On CUDA the passes are captured and replayed. Sums come in another order, so results agree with the plain model's to rounding,
    not to the bit. The first call compiles: it raises `RecipeError` where the model cannot be compiled, or no compiler is there.
    """
    # Captured gradients are overwritten at the next replay, before those of the parts of a batch were added.
    mode = "reduce-overhead" if device.type == "cuda" and recipe.accumulate == 1 else None
    made = torch.compile(model, dynamic=False, mode=mode)
    size = -(-recipe.examples_per_step // recipe.accumulate)

    def forward(inputs: Tensor) -> Tensor:
        if len(inputs) != size:
            return model(inputs)  # type: ignore[no-any-return]
        try:
            return made(inputs)  # type: ignore[no-any-return]
        except torch.OutOfMemoryError:
            raise
        # The model itself works, as it was tried before.
        except Exception as error:
            raise RecipeError(f"The model cannot be compiled: {in_words(error)}.", "Use compile = off.") from error

    return forward
