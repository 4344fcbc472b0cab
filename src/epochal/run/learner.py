"""What is trained of a model, and on what: all of it on the data, or the head of a pre-trained one on what its trunk makes of them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from epochal.bundle import Bundle
from epochal.data.examples import Examples
from epochal.data.feed import by_length
from epochal.data.inputs.numbers import NumbersRule
from epochal.data.inputs.preprocess import Preprocess
from epochal.data.inputs.scaled import measure
from epochal.data.inputs.values import Inputs
from epochal.data.load import Data
from epochal.data.storage.cache import DamagedError, content_hash, open_cache
from epochal.data.storage.fill import fill, read_pack, write_pack
from epochal.device import choose
from epochal.errors import RecipeError
from epochal.models.build import eval_mode, is_pretrained
from epochal.models.pretrained.head import AT_ONCE
from epochal.progress import progress
from epochal.recipe import Recipe

# Where all of a model is trained, the scale of its trunk's features is that of about so many examples.
_MEASURED = 512

# The least deviation of a feature: those that hardly change would be blown up.
_LEAST = 1e-3


class Learner(NamedTuple):
    """A module that is trained, a part of the whole model, and the data that it takes."""

    model: nn.Module
    data: Data


def learner_of(recipe: Recipe, bundle: Bundle, data: Data) -> Learner:
    """Return what the recipe trains. The trunk of a model whose head alone is trained sees each example once."""
    if bundle.origin is None or not is_pretrained(bundle.origin[0]):
        return Learner(bundle.model, data)
    layers = OrderedDict(bundle.model.named_children())
    preprocess, net = layers.pop("preprocess"), layers.pop("net")
    trunk, head = net.get_submodule("trunk"), net.get_submodule("head")
    whole = nn.Sequential(preprocess, trunk)
    rule = NumbersRule(shape=tuple(head.get_parameter("linear.weight").shape[1:]), dtype="float32")
    features = partial(_features, whole, width=rule.shape, weights=_hash(whole), data=data, recipe=recipe)
    if recipe.tune == "all":
        some = data.train.take(torch.arange(0, len(data.train), -(-len(data.train) // _MEASURED)))
        _scale(head.get_submodule("scale"), features(some))
        return Learner(bundle.model, data)
    _check_augmentation(recipe)
    trunk.requires_grad_(False)
    splits: dict[str, Any] = {name: replace(examples, inputs=features(examples), varies=False) for name, examples in data.splits.items()}
    found = replace(data, input=rule, described=None, **splits)
    _scale(head.get_submodule("scale"), found.train.inputs)
    return Learner(nn.Sequential(OrderedDict(head=head, **layers)), found)


def _check_augmentation(recipe: Recipe) -> None:
    plain = Recipe().flat()
    asked = [name for name, value in recipe.flat().items() if name.startswith("augment.") and value != plain[name]]
    if asked:
        raise RecipeError(
            f"The setting {asked[0]} does not work with tune = head: the trunk sees each example once, unchanged.",
            "Use tune = all, which takes longer, or leave it out.",
        )


def _features(trunk: nn.Module, examples: Examples, width: tuple[int, ...], weights: bytes, data: Data, recipe: Recipe) -> Inputs:
    """Return what the trunk makes of examples: from the cache, where the same trunk has seen the same examples before."""
    # What the inputs are made of: the content of their files, or else all of the data.
    places = examples.positions.numpy()
    content = (
        (data.fingerprint + examples.part).encode() + places.tobytes() if examples.hashes is None else examples.hashes[places].tobytes()
    )
    key = content_hash(content, data.input.model_dump_json().encode(), weights, torch.__version__.encode()).hex()
    shape = (len(examples), *width)
    title = f"{data.name}, features of {examples.part}"
    try:
        if (pack := open_cache().find(key, shape)) is not None:
            return read_pack(pack, recipe.data.memory)
    except DamagedError:
        pass  # It has been removed.
    try:
        return read_pack(write_pack(_computed(trunk, examples, data, recipe), shape, torch.float32, title, key), recipe.data.memory)
    except OSError:
        # The cache has no room: then they are computed for this run alone.
        return fill(_computed(trunk, examples, data, recipe), shape, torch.float32, recipe.data.memory, title)


def _computed(trunk: nn.Module, examples: Examples, data: Data, recipe: Recipe) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the place and the features of each example."""
    device = choose(recipe.device)
    batches, order = by_length(examples, data.input.lengths(examples.inputs), AT_ONCE, device)
    with eval_mode(trunk), torch.inference_mode(), progress("Features", len(batches)) as advance:
        trunk.to(device)
        for batch in batches.epoch(0):
            features = trunk(batch.inputs).cpu().numpy()
            yield from zip(order[batch.places.cpu()].tolist(), features[:, None], strict=True)
            advance()


def _scale(scale: nn.Module, features: Inputs) -> None:
    """Bring features to mean 0 and deviation 1."""
    mean, deviation = measure(features, [0])
    scale.load_state_dict(Preprocess(mean, deviation.clamp(min=_LEAST), "float32").state_dict())


def _hash(module: nn.Module) -> bytes:
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.numpy()).data.cast("B"))
    return digest.digest()
