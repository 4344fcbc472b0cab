"""Optimizers by name, and their descriptions."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from epochal.errors import RecipeError, suggest
from epochal.recipe import OptimizerSettings
from epochal.shown import counted
from epochal.training.muon import Muon


class Optimizer(Protocol):
    """The interface of an optimizer: those of `torch.optim` have it, and the user's own may."""

    def step(self) -> Any:
        """Change the parameters by their gradients."""

    def zero_grad(self) -> Any:
        """Clear the gradients."""


MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]

# Classes of torch.optim that cannot make the steps of `train_step`.
_REFUSED = {
    "lbfgs": "computes the loss several times in a step, which needs a loop of its own",
    "sparseadam": "takes sparse gradients only",
}


def optimizer_names() -> dict[str, type[torch.optim.Optimizer]]:
    """Return the classes of `torch.optim` by their lower-case names, with our own Muon: PyTorch's only accepts matrices."""
    found = {
        name.lower(): value
        for name, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer
    }
    return found | {"muon": Muon}


def build_optimizer(settings: OptimizerSettings, parameters: ParamsT, head: Collection[Tensor] = ()) -> torch.optim.Optimizer:
    """Return the optimizer that `settings` name, in its fused form if PyTorch has one for the device.

    `parameters` are as `torch.optim` takes them, by their names and in groups too; a group with an `lr_scale` learns with that share of
    the rate. `head` are those of the output layer, which muon treats differently.

    Raises `RecipeError` for an unknown class, or settings that it does not accept.
    """
    known = optimizer_names()
    name = settings.name.lower()
    if name not in known:
        raise RecipeError(f"Unknown optimizer '{settings.name}'.", suggest(name, known))
    if name in _REFUSED:
        raise RecipeError(f"The optimizer {name} cannot be used: it {_REFUSED[name]}.", "Use another, such as adamw.")
    kind: Any = known[name]
    takes = inspect.signature(kind).parameters
    # Defaults are not passed on: not every optimizer accepts them.
    default = OptimizerSettings()
    changed = {argument: getattr(settings, argument) for argument in ("momentum", "nesterov", "weight_decay")}
    arguments: dict[str, Any] = {argument: value for argument, value in changed.items() if value != getattr(default, argument)}
    arguments |= settings.options
    for argument in arguments:
        if argument not in takes:
            raise RecipeError(f"The optimizer {name} does not take {argument}.", f"It takes {', '.join(list(takes)[1:])}.")
    if kind is Muon:
        arguments["head"] = head
    made: torch.optim.Optimizer | None = None
    try:
        make = partial(uncompiled(kind), list(parameters), lr=settings.lr, **arguments)
        if "fused" in takes and not {"fused", "foreach", "capturable", "differentiable"} & arguments.keys():
            # PyTorch has the kernel, but not for every device.
            with suppress(RuntimeError):
                made = make(fused=True)
        made = made or make()
    except (TypeError, ValueError, RuntimeError) as error:
        raise RecipeError(f"The optimizer {name} cannot be used: {error}.", "Choose another, or change optimizer.options.") from error
    for group in made.param_groups:
        group["lr"] *= group.get("lr_scale", 1)
    return made


def state_per_weight(settings: OptimizerSettings, device: torch.device) -> int:
    """Return how many numbers the optimizer keeps for each weight, found by a step on a stand-in."""
    weights = [nn.Parameter(torch.zeros(2, 2, device=device)) for _ in range(2)]
    optimizer = build_optimizer(settings, weights)
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    return sum(isinstance(value, Tensor) and value.shape == weights[0].shape for value in optimizer.state[weights[0]].values())


@functools.cache
def uncompiled(kind: type[torch.optim.Optimizer]) -> Any:
    """Return a subclass of `kind` whose methods are those beneath the decorators for `torch.compile`.

    They import PyTorch's compiler at their first call, which takes longer than training on a small data set, and no optimizer is
    compiled here.
    """
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in ("add_param_group", "load_state_dict", "state_dict", "zero_grad")}
    step = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), {**methods, "step": step})


def groups_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return an optimizer's parameter groups, each with its settings; none if it has no groups."""
    return list(getattr(optimizer, "param_groups", ()))


def describe_optimizer(optimizer: Optimizer) -> dict[str, Any]:
    """Return a description of an optimizer for JSON: its class, and for each group the number of parameters and the settings."""
    groups = [
        {"numbers": sum(parameter.numel() for parameter in group["params"])}
        | {name: _plain(value) for name, value in group.items() if name not in ("params", "param_names")}
        for group in groups_of(optimizer)
    ]
    return {"name": type(optimizer).__name__, "groups": groups}


def numbers_of(group: Mapping[str, Any]) -> dict[str, int | float]:
    """Return the settings of a group that are finite numbers, which an optimizer may change during training."""
    return {
        name: value
        for name, value in group.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def in_short(described: Mapping[str, Any]) -> str:
    """Return the description of `describe_optimizer` in one line: "optimizer SGD: lr 0.1 (1,000 numbers), lr 0.01 (20 numbers)".

    Of more groups than three, as a rate for each layer makes them, the lowest and the highest rate are told.
    """
    groups = [group for group in described["groups"] if "lr" in group]
    said = [f"lr {group['lr']:.3g} ({counted(group['numbers'], 'number')})" for group in groups]
    if len(groups) > 3:
        rates, numbers = [group["lr"] for group in groups], sum(group["numbers"] for group in groups)
        said = [f"lr {min(rates):.3g} to {max(rates):.3g} ({numbers:,} numbers in {len(groups)} groups)"]
    return f"optimizer {described['name']}: {', '.join(said)}" if said else f"optimizer {described['name']}"


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
