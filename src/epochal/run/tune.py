"""What of a pre-trained model is trained, where the user left that open."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from epochal.data.load import Data
from epochal.device import choose, keep_memory
from epochal.errors import RecipeError
from epochal.models.build import entry_of, eval_mode
from epochal.models.pretrained.chain import last_of
from epochal.models.pretrained.head import AT_ONCE
from epochal.recipe import DEFAULT, Recipe
from epochal.run.learner import LAST, parts_of

# More of a model than its head is trained where that takes at most so many seconds; a step is as long as so many passes without gradients.
_MOST_SECONDS, _TRAINING = 300, 3

# A pass is measured so many times.
_PASSES = 4


def with_tune(recipe: Recipe, model: nn.Module, data: Data, log: Callable[[str], object]) -> Recipe:
    """Decide what of a pre-trained model is trained: by the number of examples, and by what it costs. Raises `RecipeError`."""
    entry = entry_of(recipe.model.name, recipe.model.options)
    if entry is None or entry.weights is None:
        if recipe.tune in ("head", "last"):
            raise RecipeError(
                f"The setting tune = {recipe.tune} is for pre-trained models, which {recipe.model.name} is not.",
                "Leave it out, or name one: --model efficientnet-lite0 for pictures, minilm or wordllama for texts.",
            )
        return recipe.updated({"tune": "all"}, "model") if recipe.tune == "auto" else recipe
    if recipe.tune != "auto":
        return recipe
    count = len(data.train)
    if entry.enough is None or count < entry.enough:
        log(f"note: tune = head, for {count:,} examples: the trunk stays as it is; tune = all trains it, too")
        return recipe.updated({"tune": "head"}, "model")
    costs = _costs(recipe, model, data, entry.tuned)
    after = {tune: _minutes(seconds) for tune, seconds in costs.items()}
    if costs.get("all", math.inf) <= _MOST_SECONDS:
        log(f"note: tune = all, for {count:,} examples: the trunk is trained, too, {after['all']}; tune = head leaves it as it is")
        return recipe.updated({"tune": "all"}, "model")
    if costs.get("last", math.inf) <= _MOST_SECONDS:
        log(f"note: tune = last, for {count:,} examples: the trunk's last part is trained, too; tune = all would be done {after['all']}")
        return recipe.updated({"tune": "last"}, "model")
    tune = min(costs, key=costs.__getitem__)
    log(f"note: tune = head: the trunk stays as it is; tune = {tune} trains more of it, {after[tune]}")
    return recipe.updated({"tune": "head"}, "model")


def _minutes(seconds: float) -> str:
    return f"in about {seconds / 60:,.0f} minutes" if seconds >= 90 else f"in about {seconds:,.0f} seconds"


def _costs(recipe: Recipe, model: nn.Module, data: Data, tuned: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return about how many seconds it takes to train all of a model, and its last part: the better first."""
    preprocess, parts = model.get_submodule("preprocess"), parts_of(model, data)
    first, device = last_of(parts, LAST), choose(recipe.device)
    few = data.train.inputs[torch.arange(min(AT_ONCE, len(data.train)))].to(device)
    whole, frozen = (_seconds(nn.Sequential(preprocess, *some), few) for some in (parts, parts[:first]))
    costs = {}
    for tune, settings in tuned.items():
        epochs = settings["epochs"] if recipe.origin("epochs") == DEFAULT else recipe.epochs
        if tune == "all":
            costs[tune] = _TRAINING * epochs * len(data.train) * whole
        elif tune == "last" and first:
            costs[tune] = len(data.train) * (frozen + _TRAINING * epochs * (whole - frozen))
    return costs


def _seconds(layers: nn.Module, few: Tensor) -> float:
    """Measure how long an example takes to pass through layers, by a few of them: the least of a few times, since others use the cores."""
    keep_memory()
    layers.to(few.device)
    times = []
    with eval_mode(layers), torch.inference_mode():
        for _ in range(_PASSES):
            began = time.perf_counter()
            layers(few).cpu()
            times.append(time.perf_counter() - began)
    return min(times) / len(few)
