"""The model compiled by `torch.compile`: slow to start, then perhaps faster."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from epochal.errors import RecipeError
from epochal.recipe import Recipe
from epochal.user_code import in_words

Forward = Callable[[Tensor], Tensor]


def compiled(model: nn.Module, recipe: Recipe, device: torch.device, size: int) -> Forward:
    """Return the forward pass of `model`, compiled for `size` examples; fewer, at the end of an epoch, go through the model.

    On CUDA the passes are captured and replayed. Sums are computed in another order, so results agree with the plain model's up to
    rounding, not to the bit. The first call compiles: it raises `RecipeError` if the model cannot be compiled, or there is no compiler.
    """
    # The next replay overwrites captured gradients, before those of the parts of a batch have been added.
    mode = "reduce-overhead" if device.type == "cuda" and recipe.accumulate == 1 else None
    made = torch.compile(model, dynamic=False, mode=mode)

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
