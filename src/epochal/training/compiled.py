"""Forward pass, loss and backward pass as one compiled function."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from epochal.device import precision
from epochal.errors import RecipeError
from epochal.recipe import Recipe
from epochal.tasks import Loss


class Compiled:
    """The gradients of one batch by `torch.compile`, which is slow to begin and may then be faster than PyTorch's own.

    The two passes are one graph for the compiler, which fuses what lies between matrix products; on CUDA the graph is
    captured and replayed as one launch. Sums come in another order, so results agree with the plain loop's to rounding, not to
    the bit. It is for batches of one size: code for another would have to be compiled too.
    """

    def __init__(self, model: nn.Module, loss: Loss, recipe: Recipe, device: torch.device) -> None:
        if recipe.accumulate > 1 or recipe.precision == "fp16":
            which = "accumulate" if recipe.accumulate > 1 else "precision = fp16"
            raise RecipeError(f"The setting compile = on does not work with {which}.", "Use compile = off, or leave that out.")
        self.batch_size = recipe.batch_size
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

        def gradients(inputs: Tensor, targets: Tensor) -> tuple[Tensor, tuple[Tensor | None, ...]]:
            with precision(device, recipe.precision):
                value = loss(model(inputs), targets)
            return value.detach(), torch.autograd.grad(value, self.parameters, allow_unused=True)

        mode = "reduce-overhead" if device.type == "cuda" else None
        self.gradients = torch.compile(gradients, fullgraph=True, dynamic=False, mode=mode)
        self.is_compiled = False

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch and leave its gradients with the parameters.

        Raises `RecipeError` where the model cannot be compiled, or no compiler is there.
        """
        value, gradients = self.gradients(inputs, targets) if self.is_compiled else self._first(inputs, targets)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        result: Tensor = value
        return result

    def _first(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """Compile, which happens in the first call."""
        from torch._dynamo import config
        from torch._dynamo.exc import TorchDynamoException
        from torch._inductor.exc import InductorError

        if not hasattr(config, "trace_autograd_ops"):
            raise RecipeError(f"PyTorch {torch.__version__} cannot compile a backward pass.", "Use compile = off, or a newer PyTorch.")
        try:
            # Autograd within a graph has to be asked for.
            with config.patch(trace_autograd_ops=True):
                made: tuple[Tensor, tuple[Tensor | None, ...]] = self.gradients(inputs, targets)
        except (TorchDynamoException, InductorError) as error:
            # The first line may only say who raised what the second one tells.
            lines = str(error).strip().splitlines() or [type(error).__name__]
            reason = lines[1] if lines[0].endswith(":") and len(lines) > 1 else lines[0]
            raise RecipeError(f"The model cannot be compiled: {reason.rstrip('.')}.", "Use compile = off.") from error
        self.is_compiled = True
        return made
