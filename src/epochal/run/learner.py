"""What is trained of a model, and on what: all of it on the data, or its last parts on what those before make of them."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from epochal.bundle import Bundle
from epochal.data.inputs.base import Augment
from epochal.data.inputs.changes import MIXING
from epochal.data.inputs.numbers import NumbersRule
from epochal.data.inputs.preprocess import Preprocess
from epochal.data.inputs.scaled import measure
from epochal.data.inputs.values import Inputs
from epochal.data.load import Data
from epochal.errors import RecipeError
from epochal.models.build import eval_mode, is_pretrained
from epochal.models.pretrained.chain import chain_of, last_of
from epochal.models.summary import byte_words
from epochal.recipe import DEFAULT, AugmentSettings, Recipe
from epochal.run.features import Trunk

# Where the trunk is trained too, the scale of its features is that of about so many examples.
_MEASURED = 512

# The least deviation of features: those that hardly change would be blown up.
_LEAST = 1e-3

# The share of the weights that tune = last trains.
LAST = 0.75

# So many examples show in what parts a network can be run.
_TRIED = 2

# The trunk's last part learns at this share of the head's rate, its first at that share of it; those between in equal ratios.
_LAST_RATE, _FIRST_RATE = 0.1, 0.1

_BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Learner(NamedTuple):
    """A module that is trained, a part of the whole model, and the data that it takes."""

    model: nn.Module
    data: Data


class Features(NumbersRule):
    """Features of examples, which were changed at random before they were computed, and are scaled by the layers that take them."""

    def augment(self, settings: AugmentSettings, seed: int) -> Augment | None:  # noqa: ARG002
        """Return nothing: see `learner_of`."""
        return None

    def learn(self, inputs: Inputs) -> Features:  # noqa: ARG002
        """Return the rule as it is, without reading all of the features."""
        return self


def learner_of(recipe: Recipe, bundle: Bundle, data: Data, log: Callable[[str], object] = lambda _: None) -> Learner:
    """Return what the recipe trains of a model, and mark its parts for that: what is frozen, and how fast the others learn.

    What is frozen at the beginning sees each example once, or `augment.copies` changed copies of it. `log` is called with what that
    takes. Raises `RecipeError` for what does not go together.
    """
    layers = OrderedDict(bundle.model.named_children())
    preprocess, net = layers.pop("preprocess"), layers.pop("net")
    if bundle.origin is None or not is_pretrained(bundle.origin[0]):
        return Learner(bundle.model, data)
    head, parts = net.get_submodule("head"), parts_of(bundle.model, data)
    _mark(parts)
    if recipe.tune != "head":
        some = data.train.take(torch.arange(0, len(data.train), -(-len(data.train) // _MEASURED)))
        whole = Trunk(nn.Sequential(preprocess, *parts), tuple(head.get_parameter("linear.weight").shape[1:]), data, recipe)
        _scale(head.get_submodule("scale"), whole.features(some))
    if recipe.tune == "all":
        if recipe.origin("augment.copies") != DEFAULT:
            raise RecipeError(
                "The setting augment.copies does not work with tune = all: each epoch changes examples in its own way.", "Leave it out."
            )
        return Learner(bundle.model, data)
    first = last_of(parts, LAST) if recipe.tune == "last" else len(parts)
    if not first:
        raise RecipeError(
            f"The setting tune = last does not work with {recipe.model.name}: its parts do not simply follow one another.",
            "Use tune = head or tune = all.",
        )
    for part in parts[:first]:
        part.requires_grad_(False)
    frozen, rest = nn.Sequential(preprocess, *parts[:first]), OrderedDict(head=head, **layers)
    with eval_mode(frozen), torch.inference_mode():
        shape = tuple(frozen(_few(bundle.model, data)).shape[1:])
    found = _with_features(Trunk(frozen, shape, data, recipe), log)
    if recipe.tune == "head":
        _scale(head.get_submodule("scale"), found.train.inputs)
        return Learner(nn.Sequential(rest), found)
    return Learner(nn.Sequential(OrderedDict(last=nn.Sequential(*parts[first:]), **rest)), found)


def _with_features(trunk: Trunk, log: Callable[[str], object]) -> Data:
    """Return data whose inputs are features: those of train of all copies, one copy after the other."""
    data, settings = trunk.data, trunk.recipe.augment
    if MIXING.asked(settings):
        raise RecipeError(
            f"The settings augment.mixup and augment.cutmix do not work with tune = {trunk.recipe.tune}: a frozen trunk sees each example "
            "by itself.",
            "Use tune = all, or leave them out.",
        )
    augment = data.spec.input.augment(settings, trunk.recipe.seed)
    if augment is None and trunk.recipe.origin("augment.copies") != DEFAULT:
        raise RecipeError("The setting augment.copies asks for changed copies, but nothing changes them.", "Add --flip, or leave it out.")
    copies = 1 if augment is None else settings.copies
    log(_told(trunk, copies))
    splits: dict[str, Any] = {}
    for name, examples in data.splits.items():
        is_changed = name == "train" and augment is not None
        inputs = trunk.features(examples, augment if is_changed else None, copies if is_changed else 1)
        again = torch.arange(len(inputs)) % len(examples)
        splits[name] = replace(examples, inputs=inputs, targets=examples.targets[again], positions=examples.positions[again], varies=False)
    return replace(data, input=Features(shape=trunk.shape, dtype="float32"), described=None, **splits)


def _told(trunk: Trunk, copies: int) -> str:
    counts = {name: len(examples) for name, examples in trunk.data.splits.items()}
    seen = sum(counts.values()) + (copies - 1) * counts["train"]
    tune, size = trunk.recipe.tune, byte_words(4 * math.prod(trunk.shape) * seen)
    if copies > 1:
        return (
            f"tune = {tune}: {seen:,} examples pass through the frozen part, once, with {copies} changed copies of each of train, which "
            f"make one epoch; their features take {size}"
        )
    return f"tune = {tune}: {seen:,} examples pass through the frozen part, once; their features take {size}"


def parts_of(model: nn.Module, data: Data) -> list[nn.Module]:
    """Return the parts of a pre-trained model's trunk that follow one another."""
    with torch.inference_mode():
        return chain_of(model.get_submodule("net.trunk"), model.get_submodule("preprocess")(_few(model, data)))


def _few(model: nn.Module, data: Data) -> Tensor:
    few = data.train.inputs[torch.arange(min(_TRIED, len(data.train)))]
    return few.to(next(model.parameters()).device)


def _mark(parts: Sequence[nn.Module]) -> None:
    """Let parts learn at a smaller rate the nearer they are to the input, and batch norm keep its running statistics: those of few
    examples would be worse than those of a million."""
    for place, part in enumerate(parts, 1):
        part.lr_scale = _LAST_RATE * _FIRST_RATE ** (1 - place / len(parts))
        for module in part.modules():
            module.training = not isinstance(module, _BATCH_NORM)


def _scale(scale: nn.Module, features: Inputs) -> None:
    """Bring features to mean 0, and all together to deviation 1: those that vary little by themselves say little."""
    mean, deviation = measure(features, [0])
    common = deviation.square().mean().sqrt().clamp(min=_LEAST).expand_as(deviation)
    scale.load_state_dict(Preprocess(mean, common, "float32").state_dict())
