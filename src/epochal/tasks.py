"""What each task means: which loss trains it, and how a network's outputs read as an answer."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from epochal.data.preprocess import Rescale
from epochal.data.spec import DataSpec, Task
from epochal.errors import RecipeError
from epochal.models.ending import Ending, ending_of
from epochal.recipe import LossSettings
from epochal.user_code import in_words

# A mean over a batch: (outputs [batch, outputs], targets) to a scalar.
LossFunction = Callable[[Tensor, Tensor], Tensor]

_LOSSES: dict[Task, tuple[str, ...]] = {
    "single-label": ("cross-entropy", "nll"),
    "multi-label": ("bce",),
    "regression": ("mse", "l1", "huber"),
}


class Loss(Protocol):
    """A loss that knows how much each batch weighs, so that parts of a batch add up to the whole."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch (a scalar). Targets of one label are classes, or probabilities [batch, classes]."""
        ...

    def weight(self, targets: Tensor) -> Tensor | int:
        """Return what the mean was divided by: the number of examples, or the sum of their class weights."""
        ...


class _Mean:
    """A loss in which each example counts the same."""

    def __init__(self, function: LossFunction) -> None:
        self.function = function

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.function(outputs, targets)

    def weight(self, targets: Tensor) -> Tensor | int:
        return len(targets)


class _Weighted(_Mean):
    """A loss of one label in which each class has its own weight."""

    def __init__(self, function: LossFunction, weights: Tensor) -> None:
        super().__init__(function)
        self.weights = weights

    def weight(self, targets: Tensor) -> Tensor | int:
        return self.weights[targets].sum() if targets.ndim == 1 else (targets * self.weights).sum()


def output_units(model: nn.Module) -> Tensor | None:
    """Return the units [outputs] in which a model that ends in `Rescale` computes its outputs, `None` for any other."""
    return next((part.scale for part in model.modules() if isinstance(part, Rescale)), None)


def build_loss(settings: LossSettings, spec: DataSpec, device: torch.device, units: Tensor | None = None) -> Loss:
    """Return the loss that training minimizes. Raises `RecipeError` where it does not fit the task.

    Errors in quantities count in `units`, where given: neither the size of gradients nor what is learned then depends on
    whether a length is in metres or miles.
    """
    name = resolve_loss(settings, spec)
    weights = _class_weights(settings, spec)
    if weights is not None:
        weights = weights.to(device)
    if settings.smoothing and name != "cross-entropy":
        raise RecipeError(f"The setting loss.smoothing does not work with {name}.", "Use cross-entropy, or leave it out.")
    if name == "bce":
        return _Mean(lambda outputs, targets: functional.binary_cross_entropy_with_logits(outputs, targets, pos_weight=weights))
    if name in ("cross-entropy", "nll"):

        def label_loss(outputs: Tensor, targets: Tensor) -> Tensor:
            if targets.ndim == 2:
                return _mixed_label_loss(name, outputs, targets, weights, settings.smoothing)
            if name == "nll":
                return functional.nll_loss(outputs, targets, weights)
            return functional.cross_entropy(outputs, targets, weights, label_smoothing=settings.smoothing)

        return _Mean(label_loss) if weights is None else _Weighted(label_loss, weights)
    one = torch.ones((), device=device) if units is None else units.detach().to(device)
    distances: dict[str, LossFunction] = {
        "mse": functional.mse_loss,
        "l1": functional.l1_loss,
        "huber": partial(functional.huber_loss, delta=settings.delta),
    }
    distance = distances[name]

    def distance_loss(outputs: Tensor, targets: Tensor) -> Tensor:
        outputs, targets = _alike(outputs, targets)
        return distance(outputs / one, targets / one)

    return _Mean(distance_loss)


def check_scores(outputs: Tensor, spec: DataSpec, targets: Tensor, loss: str | None) -> str:
    """Look whether `outputs` of a few examples, which carry their gradient, can be read as answers and go with the loss of that name.

    `loss` is `None` for one of the user's own; `targets` are all that are trained on. Returns a note, or nothing. Raises
    `RecipeError` where the model's last function spoils what follows: probabilities instead of scores, or a range that cannot be left.
    """
    end = ending_of(outputs)
    if spec.task == "regression":
        _check_range(end, targets)
        return ""
    if loss == "nll":
        if (outputs.logsumexp(1).abs() > 1e-3).any():
            raise RecipeError(
                "The loss nll needs log-probabilities, but the model gives plain scores.",
                "Use cross-entropy, or end the model with LogSoftmax.",
            )
        return ""
    sums_to_one = spec.task == "single-label" and bool((outputs >= 0).all() and ((outputs.sum(1) - 1).abs() < 1e-3).all())
    if sums_to_one or (end is not None and _spoils(end, spec.task)):
        last = "softmax" if sums_to_one or end is None else end.name
        what = "probabilities" if last in ("softmax", "sigmoid") else f"values that went through a {last}"
        if loss is not None:
            raise RecipeError(f"The loss {loss} needs plain scores, but the model gives {what}.", f"Leave out its last layer, the {last}.")
        takes_scores = "BCEWithLogitsLoss" if spec.task == "multi-label" else "CrossEntropyLoss"
        raise RecipeError(
            f"The model gives {what}, but predictions are read from plain scores.",
            f"Leave out its last layer, the {last}, and put it into your loss, or use one that takes scores, such as nn.{takes_scores}.",
        )
    # A log-softmax before cross-entropy changes nothing.
    if end is None or end.name == "log-softmax":
        return ""
    return f"the model ends in a {end.name}, which bounds its scores: it may learn worse than without"


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _spoils(end: Ending, task: Task) -> bool:
    """Whether what a model ends in must not come before the softmax of one label, or the sigmoids of several.

    Of scores that are never negative all labels would hold always, and of those that are never positive none.
    """
    if task == "multi-label":
        return end.low >= 0 or end.high <= 0
    return end.name in ("softmax", "sigmoid", "log-sigmoid")


def _check_range(end: Ending | None, targets: Tensor) -> None:
    """Refuse quantities that the model can never give, as its last function keeps to another range."""
    low, high = float(targets.min()), float(targets.max())
    if end is None or end.low <= low <= high <= end.high:
        return
    raise RecipeError(
        f"The model ends in a {end.name}, whose values go from {end.low:g} to {end.high:g}; the targets go from {low:g} to {high:g}.",
        "Leave out its last layer, or bring the targets into that range.",
    )


def check_own_loss(function: LossFunction, outputs: Tensor, targets: Tensor) -> None:
    """Raise `RecipeError` where the user's own loss cannot take the outputs of a few examples, or gives no mean over them."""
    if isinstance(function, type):
        raise RecipeError(f"{function.__name__} is a class, not a loss.", f"Pass {function.__name__}().")
    if not callable(function):
        raise RecipeError(f"A {type(function).__name__} is no loss.", "Pass a name, or a function of (outputs, targets).")
    # As many examples as there are outputs could be taken for them.
    few = torch.arange(8 if outputs.shape[-1] == 6 else 6, device=outputs.device) % len(outputs)
    loss = own_loss(function)
    taken = f"outputs {_form(outputs[few])} and targets {_form(targets[few])}"

    def of(rows: Tensor) -> Tensor:
        try:
            # What PyTorch warns of here, such as shapes that would be broadcast, is an error with other numbers of examples.
            with warnings.catch_warnings(action="ignore"), torch.no_grad():
                return loss(outputs[rows], targets[rows])
        except (Exception, SystemExit) as error:  # the user's function may raise anything
            raise RecipeError(f"The loss function fails: {in_words(error)}.", f"Fix it: it was given {taken}.") from error

    found = of(few)
    if not isinstance(found, Tensor) or found.numel() != 1:
        told = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"type {type(found).__name__}"
        raise RecipeError(f"The loss function gives something of {told}.", "Let it return the mean over the batch, a tensor of one number.")
    once, twice = float(found), float(of(torch.cat((few, few))))
    if once and math.isfinite(once) and math.isclose(twice, 2 * once, rel_tol=1e-4):
        raise RecipeError(
            f"The loss function gives a sum over the batch: {once:.4g}, and {twice:.4g} for the same examples twice.",
            'Let it return the mean: reduction="mean", or .mean() instead of .sum().',
        )


def own_loss(function: LossFunction) -> Loss:
    """Return the user's own mean loss, in which each example counts the same."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return function(*(_alike(outputs, targets) if outputs.numel() == targets.numel() else (outputs, targets)))

    return _Mean(loss)


def plain_loss(settings: LossSettings, spec: DataSpec, units: Tensor | None = None) -> Loss:
    """Return the loss that evaluation reports: that of training without smoothing and class weights."""
    plain = LossSettings(name=settings.name, delta=settings.delta)
    return build_loss(plain, spec, torch.device("cpu"), units)


def reported_loss(spec: DataSpec, model: nn.Module, settings: LossSettings | None = None, own: LossFunction | None = None) -> Loss:
    """Return the loss that evaluation of `model` reports: the user's own, or the plain one of `settings` in the model's units."""
    return plain_loss(settings or LossSettings(), spec, output_units(model)) if own is None else own_loss(own)


def resolve_loss(settings: LossSettings, spec: DataSpec) -> str:
    """Return the name of the loss, with "auto" replaced by the task's own."""
    fitting = _LOSSES[spec.task]
    if settings.name == "auto":
        return fitting[0]
    if settings.name not in fitting:
        raise RecipeError(f"The loss {settings.name} is not for {spec.task} targets.", f"Use {' or '.join(fitting)}.")
    return settings.name


def answers(outputs: Tensor, task: Task) -> Tensor:
    """Turn outputs [n, outputs] into what people read: probabilities of classes or labels, or the quantities themselves.

    Scores and log-probabilities give the same probabilities, as softmax ignores a constant.
    """
    if task == "single-label":
        return outputs.softmax(1)
    if task == "multi-label":
        return outputs.sigmoid()
    return outputs.reshape(len(outputs), -1)


def _mixed_label_loss(name: str, outputs: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """The loss for probabilities [batch, classes] of one label: where they are all 0 and 1, that of the classes.

    With class weights PyTorch's mean over classes divides by the sum of weights, but its mean over probabilities by the number
    of examples. Here both divide by the sum.
    """
    whole = len(targets) if weights is None else (targets * weights).sum()
    if name == "nll":
        chances = targets if weights is None else targets * weights
        return -(chances * outputs).sum() / whole
    return functional.cross_entropy(outputs, targets, weights, reduction="sum", label_smoothing=smoothing) / whole


def _alike(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Give outputs [n] of a single quantity the shape of their targets [n, 1]: broadcasting would pair each with all.

    Targets of float64 become what the model computes in, but never less than float32.
    """
    if targets.dtype == torch.float64:
        targets = targets.to(torch.promote_types(outputs.dtype, torch.float32))
    return outputs.reshape(targets.shape), targets


def _class_weights(settings: LossSettings, spec: DataSpec) -> Tensor | None:
    if settings.class_weights == "equal":
        return None
    if spec.task == "regression":
        raise RecipeError("The setting loss.class_weights does not work for regression.", "Leave it out.")
    if settings.class_weights == "balanced":
        counts = torch.tensor(spec.class_counts["train"], dtype=torch.float32).clamp(min=1)
        total = spec.counts["train"]
        # One label: n / (classes * count), as in scikit-learn. Several: how many more are without the label than with it.
        return total / (len(counts) * counts) if spec.task == "single-label" else ((total - counts) / counts).clamp(min=1e-6)
    if len(settings.class_weights) != len(spec.outputs):
        raise RecipeError(
            f"The setting loss.class_weights has {len(settings.class_weights)} numbers for {len(spec.outputs)} classes.",
            "Give one for each.",
        )
    return torch.tensor(settings.class_weights)
