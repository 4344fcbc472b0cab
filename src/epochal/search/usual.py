"""Searches and models: what is searched where the user names nothing, around the default; and which options a model has."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from typing import Any

from epochal.errors import ModelError, suggest
from epochal.models.build import MODELS, check_options, entry_of, is_listed, is_pretrained
from epochal.recipe import Recipe
from epochal.run.prepare import Prepared
from epochal.search.space import Axis, Choice, Range, Space, label

# A learning rate is searched from a tenth of the default to ten times as much, a weight decay from a hundredth of this.
_TIMES, _DECAY = 10, 0.01

# The smallest batch, and how many a training epoch should still have of the largest.
_SMALLEST, _STEPS = 16, 8

# Models have sizes like these, by option: factors of the default.
_SIZES = {"widths": (0.5, 1, 2), "width": (0.5, 1, 2), "dim": (0.5, 1, 2), "hidden": (0.5, 1, 2)}

_MOST_DROPOUT, _MOST_SMOOTHING, _MOST_SHIFT = 0.6, 0.2, 8


def usual_space(prepared: Prepared, asked: Recipe) -> dict[str, Axis]:
    """Return what suits data and model of a run that is `prepared`, without what the user gave in the recipe that is `asked` for."""
    return {name: axis for name, axis in _axes(prepared) if not _is_given(asked.origin(name))}


def check_models(space: Space, recipe: Recipe) -> None:
    """Raise `ModelError` for a model that does not exist, or an option that one of the models does not have."""
    named = space.get("model.name")
    names = named.values if isinstance(named, Choice) else (recipe.model.name,)
    options = [name.removeprefix("model.") for name in space if name.startswith("model.") and name != "model.name"]
    for name in names:
        if name == "auto" or ".py:" in name:
            continue
        if not is_listed(name):
            raise ModelError(f"Unknown model '{name}'.", suggest(name, MODELS))
        entry = entry_of(name, {})
        assert entry is not None
        check_options(name, entry, [*options, *(() if named else recipe.model.options)])


def default_values(space: Space, prepared: Prepared) -> dict[str, Any] | None:
    """Return the default of each setting that is searched; `None` if the space does not hold one of them."""
    recipe = prepared.recipe
    flat, options = recipe.flat(), _options(recipe)
    values = {name: flat[name] if name in flat else options.get(name.removeprefix("model.")) for name in space}
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    if "optimizer.weight_decay" in values and values["optimizer.weight_decay"] is None:
        values["optimizer.weight_decay"] = _DECAY
    return values if all(axis.holds(values[name]) for name, axis in space.items()) else None


def _is_given(origin: str) -> bool:
    """Whether a setting has this origin because the user gave it for this search; a recipe is a place to search around."""
    return origin in ("given", "command line")


def _axes(prepared: Prepared) -> Iterator[tuple[str, Axis]]:
    recipe, spec = prepared.recipe, prepared.data.spec
    rate = recipe.optimizer.lr
    yield "optimizer.lr", Range(_digits(rate / _TIMES), _digits(rate * _TIMES), log=True)
    decay = _DECAY if recipe.optimizer.weight_decay is None else recipe.optimizer.weight_decay
    if decay > 0 and prepared.penalty is None:
        yield "optimizer.weight_decay", Range(_digits(decay / 100), _digits(decay * 10), log=True)
    size, most = recipe.examples_per_step, max(len(prepared.learner.data.train) // _STEPS, 1)
    sizes = [one for one in (size // 2, size, size * 2) if one == size or _SMALLEST <= one <= most]
    if len(sizes) > 1:
        yield "batch_size", Choice(tuple(sizes))
    frozen = is_pretrained(recipe.model.name) and recipe.tune != "all"
    if not frozen:
        yield from _of_model(recipe)
    # Smoothing makes the loss of the same answers worse: where that judges, it would never be chosen.
    smooth = recipe.loss.name == "cross-entropy" and spec.task.has_classes and recipe.monitor not in ("auto", "loss")
    if spec.input.kind in ("picture", "sound"):
        if smooth:
            yield "loss.smoothing", Range(0.0, max(_MOST_SMOOTHING, recipe.loss.smoothing))
        if not frozen:
            yield from _of_pictures(recipe, spec.features) if spec.input.kind == "picture" else _of_sounds()
    if spec.input.kind == "text" and not frozen:
        yield "augment.word_dropout", Range(0.0, 0.3)


def _of_model(recipe: Recipe) -> Iterator[tuple[str, Axis]]:
    for option, value in _options(recipe).items():
        if option == "dropout":
            yield "model.dropout", Range(0.0, max(_MOST_DROPOUT, value))
        elif option in _SIZES and value:
            sizes = [_scaled(value, factor) for factor in _SIZES[option]]
            yield f"model.{option}", Choice(tuple({label(size): size for size in sizes}.values()))


def _of_pictures(recipe: Recipe, features: tuple[int, ...]) -> Iterator[tuple[str, Axis]]:
    most = max(min(_MOST_SHIFT, min(features[-2:]) // 8), recipe.augment.shift)
    if most:
        yield "augment.shift", Range(0, most, whole=True)
    if recipe.augment.flip or features[0] == 3:
        yield "augment.flip", Choice((False, True))


def _of_sounds() -> Iterator[tuple[str, Axis]]:
    yield "augment.frequency_mask", Range(0.0, 0.3)
    yield "augment.noise", Range(0.0, 0.05)


def _options(recipe: Recipe) -> Mapping[str, Any]:
    """Return the options of the recipe's model, as given or by default; none for the user's own network."""
    entry = entry_of(recipe.model.name, recipe.model.options) if ".py:" not in recipe.model.name else None
    if entry is None:
        return {}
    known = inspect.signature(entry.build).parameters
    defaults = {name: one.default for name, one in list(known.items())[1:] if one.default is not inspect.Parameter.empty}
    return {**defaults, **{name: value for name, value in recipe.model.options.items() if name in known}}


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, int):
        return max(1, round(value * factor))
    return [max(1, round(one * factor)) for one in value]


def _digits(value: float) -> float:
    return float(f"{value:.2g}") if math.isfinite(value) else value
