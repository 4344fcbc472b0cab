"""Losses for training: ours, which tasks create, and the user's own, which is checked."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from epochal.errors import RecipeError
from epochal.recipe import LossSettings
from epochal.user_code import in_words

# A mean over a batch: (outputs [batch, outputs], targets) to a scalar.
LossFunction = Callable[[Tensor, Tensor], Tensor]


class Loss:
    """A mean loss that knows the weight of each batch, so that parts of a batch add up to the whole.

    Targets of one label are classes, or probabilities [batch, classes].
    All examples have the same weight or, with `class_weights` [classes], that of their class.
    """

    def __init__(self, function: LossFunction, class_weights: Tensor | None = None) -> None:
        self.function = function
        self.class_weights = class_weights

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch."""
        return self.function(outputs, targets)

    def weight(self, targets: Tensor) -> Tensor | int:
        """Return the divisor of the mean: the number of examples, or the sum of their class weights."""
        if self.class_weights is None:
            return len(targets)
        return self.class_weights[targets].sum() if targets.ndim == 1 else (targets * self.class_weights).sum()


def refuse_smoothing(settings: LossSettings, loss: str) -> None:
    """Raise `RecipeError` if labels should be smoothed for a `loss` that does not support it."""
    if settings.smoothing:
        raise RecipeError(f"The setting loss.smoothing does not work with {loss}.", "Use cross-entropy, or leave it out.")


def check_own_loss(function: LossFunction, outputs: Tensor, targets: Tensor) -> None:
    """Raise `RecipeError` if the user's own loss cannot take the outputs of a few examples, or does not return a mean."""
    if isinstance(function, type):
        raise RecipeError(f"{function.__name__} is a class, not a loss.", f"Pass {function.__name__}().")
    if not callable(function):
        raise RecipeError(f"The loss is of type {type(function).__name__}.", "Pass a name, or a function of (outputs, targets).")
    # As many examples as there are outputs could be taken for them.
    few = torch.arange(8 if outputs.shape[-1] == 6 else 6, device=outputs.device) % len(outputs)
    loss = own_loss(function)
    taken = f"outputs {_form(outputs[few])} and targets {_form(targets[few])}"

    def of(rows: Tensor) -> Tensor:
        try:
            # Warnings of PyTorch, such as about broadcast shapes, would be errors with other numbers of examples.
            with warnings.catch_warnings(action="ignore"), torch.no_grad():
                return loss(outputs[rows], targets[rows])
        except (Exception, SystemExit) as error:  # the user's function may raise anything
            raise RecipeError(f"The loss function fails: {in_words(error)}.", f"Fix it: it was given {taken}.") from error

    found = of(few)
    if not isinstance(found, Tensor) or found.numel() != 1:
        what = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"type {type(found).__name__}"
        raise RecipeError(f"The loss function returns a value of {what}.", "Let it return the mean over the batch, a tensor of one number.")
    once, twice = float(found), float(of(torch.cat((few, few))))
    if once and math.isfinite(once) and math.isclose(twice, 2 * once, rel_tol=1e-4):
        raise RecipeError(
            f"The loss function gives a sum over the batch: {once:.4g}, and {twice:.4g} for the same examples twice.",
            'Let it return the mean: reduction="mean", or .mean() instead of .sum().',
        )


def own_loss(function: LossFunction) -> Loss:
    """Return the user's own mean loss, in which all examples have the same weight."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return function(*(alike(outputs, targets) if outputs.numel() == targets.numel() else (outputs, targets)))

    return Loss(loss)


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def alike(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Give outputs [n] of a single quantity the shape of their targets [n, 1]: broadcasting would pair each with all of them.

    Targets of float64 become the type that the model computes in, at least float32.
    """
    if targets.dtype == torch.float64:
        targets = targets.to(torch.promote_types(outputs.dtype, torch.float32))
    return outputs.reshape(targets.shape), targets
