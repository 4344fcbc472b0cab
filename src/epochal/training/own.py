"""The user's own functions in place of settings."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from epochal.errors import RecipeError
from epochal.evaluation.named import Metrics
from epochal.recipe import DEFAULT, Recipe
from epochal.tasks.losses import LossFunction
from epochal.training.optim import MakeOptimizer, Optimizer, groups_of
from epochal.training.schedule import ScheduleFunction
from epochal.user_code import in_words

# The groups of settings that a function may replace.
GROUPS = ("loss", "optimizer", "schedule")

# The beginning of the origin of a setting that a function replaces.
NOT_USED = "not used"


@dataclass(frozen=True)
class Own:
    """The arguments of `fit` that are the user's own functions."""

    loss: LossFunction | None = None
    optimizer: MakeOptimizer | None = None
    schedule: ScheduleFunction | None = None
    metrics: Metrics = None


def with_own(recipe: Recipe, own: Own) -> Recipe:
    """Return the recipe of a training with the user's `own` functions, by their group; origins show which settings they replace.

    The user's own optimizer sets its own rates, which stay constant unless there is a schedule. Raises `RecipeError` if the user also
    gave a setting that a function would ignore.
    """
    replaced = [group for group in GROUPS if getattr(own, group) is not None]
    for group in replaced:
        names = [name for name in recipe.flat() if name.startswith(f"{group}.")]
        for name in names:
            if recipe.origin(name) in ("given", "command line"):
                raise RecipeError(f"The setting {name} has no effect on your own {group} function.", "Leave it out, or use it in there.")
        recipe = recipe.updated({name: recipe.flat()[name] for name in names}, f"{NOT_USED}: own {group}")
    if "schedule" in replaced:
        return recipe.updated({"schedule.name": "constant"}, f"{NOT_USED}: own schedule")
    if "optimizer" in replaced and recipe.origin("schedule.name") == DEFAULT:
        return recipe.updated({"schedule.name": "constant"}, "own optimizer")
    return recipe


def names_of(own: Own) -> dict[str, str]:
    """Return the names of the user's own functions."""

    def called(value: Any) -> str:
        if isinstance(value, Mapping | Sequence):
            return ", ".join(value if isinstance(value, Mapping) else map(called, value))
        return str(getattr(value, "__qualname__", type(value).__name__))

    return {name: called(value) for name, value in vars(own).items() if value}


def own_optimizer(make: MakeOptimizer, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Return the optimizer that the user's function creates. Raises `RecipeError` if training cannot use it."""
    parameters = list(parameters)
    if not callable(make):
        raise RecipeError(
            f"An optimizer that is built already ({type(make).__name__}) cannot be used.",
            "Pass a function that builds it: optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1)",
        )
    try:
        made = make(parameters)
    except (Exception, SystemExit) as error:  # the user's function may raise anything
        raise RecipeError(f"The optimizer function fails: {in_words(error)}.", "Fix it: it gets a list of parameters.") from error
    if not all(callable(getattr(made, method, None)) for method in ("step", "zero_grad")):
        raise RecipeError(
            f"The optimizer function gives a {type(made).__name__}, which has no step() and zero_grad().", "Let it return an optimizer."
        )
    _check_step(made)
    known = {id(parameter) for parameter in parameters}
    foreign = sum(id(parameter) not in known for group in groups_of(made) for parameter in group["params"])
    if foreign:
        raise RecipeError(
            f"{foreign} of the tensors that the optimizer changes are not among the parameters that the model trains.",
            "Take them from the function's argument, or from the module that is trained; whatever else is learned must be in that module.",
        )
    return made


def _check_step(optimizer: Optimizer) -> None:
    """Raise `RecipeError` for an optimizer whose step needs arguments: training passes none."""
    try:
        required = [
            one.name
            for one in inspect.signature(optimizer.step).parameters.values()
            if one.default is one.empty and one.kind < one.VAR_POSITIONAL
        ]
    except (TypeError, ValueError):
        return
    if required:
        raise RecipeError(
            f"The optimizer {type(optimizer).__name__} cannot be used: its step() needs {required[0]}.",
            "Training makes one forward pass in a step. Use another, such as torch.optim.AdamW.",
        )
