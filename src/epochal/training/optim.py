"""Optimizers by name, learning rates as functions of the position, and the moving average of weights."""

from __future__ import annotations

import copy
import functools
import inspect
import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from epochal.errors import RecipeError, suggest
from epochal.recipe import OptimizerSettings, ScheduleSettings
from epochal.training.muon import Muon
from epochal.user_code import in_words


class Optimizer(Protocol):
    """All that training asks of an optimizer; those of `torch.optim` have it, and so may one of the user's own."""

    def step(self) -> Any:
        """Change the parameters by their gradients."""

    def zero_grad(self) -> Any:
        """Forget the gradients."""


MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]

# A schedule of the user's own: the share of the optimizer's rates in the step that comes after so many others.
ScheduleFunction = Callable[[int], float]

# At about so many steps a schedule of the user's own is tried before the first.
_TRIED = 100

# Classes of torch.optim that cannot make the steps of `train_step`.
_REFUSED = {
    "lbfgs": "computes the loss several times in a step, which needs a loop of its own",
    "sparseadam": "takes sparse gradients only",
}


def optimizer_names() -> dict[str, type[torch.optim.Optimizer]]:
    """Return the classes of `torch.optim` by their lower-case names; of Muon, which takes matrices alone there, our own."""
    found = {
        name.lower(): value
        for name, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer
    }
    return found | {"muon": Muon}


def build_optimizer(settings: OptimizerSettings, parameters: Iterable[nn.Parameter], device: torch.device) -> torch.optim.Optimizer:
    """Return the `torch.optim` class that `settings` name, in its fused form where PyTorch has one for the device.

    Raises `RecipeError` for an unknown class, or settings that it does not take.
    """
    known = optimizer_names()
    name = settings.name.lower()
    if name not in known:
        raise RecipeError(f"Unknown optimizer '{settings.name}'.", suggest(name, known))
    if name in _REFUSED:
        raise RecipeError(f"The optimizer {name} cannot be used: it {_REFUSED[name]}.", "Use another, such as adamw.")
    kind: Any = known[name]
    takes = inspect.signature(kind).parameters
    # What stands at its default is not passed on: not every optimizer takes it.
    default = OptimizerSettings()
    changed = {argument: getattr(settings, argument) for argument in ("momentum", "nesterov", "weight_decay")}
    arguments: dict[str, Any] = {argument: value for argument, value in changed.items() if value != getattr(default, argument)}
    arguments |= settings.options
    for argument in arguments:
        if argument not in takes:
            raise RecipeError(f"The optimizer {name} does not take {argument}.", f"It takes {', '.join(list(takes)[1:])}.")
    made: torch.optim.Optimizer
    parameters, kind = list(parameters), _uncompiled(kind)
    is_plain = not {"fused", "foreach", "capturable", "differentiable"} & arguments.keys()
    try:
        if "fused" in takes and is_plain and device.type in ("cpu", "cuda", "mps") and hasattr(torch, f"_fused_{name}_"):
            # Older versions of PyTorch have the kernel, but not for every device.
            with suppress(RuntimeError):
                made = kind(parameters, lr=settings.lr, fused=True, **arguments)
                return made
        made = kind(parameters, lr=settings.lr, **arguments)
        return made
    except (TypeError, ValueError, RuntimeError) as error:
        raise RecipeError(f"The optimizer {name} cannot be used: {error}.", "Choose another, or change optimizer.options.") from error


@functools.cache
def _uncompiled(kind: type[torch.optim.Optimizer]) -> Any:
    """Return a subclass of `kind` whose methods are those beneath the decorators for `torch.compile`.

    Those import PyTorch's compiler at their first call, which takes longer than training on a small set, and no optimizer is
    compiled here.
    """
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in ("add_param_group", "load_state_dict", "state_dict", "zero_grad")}
    step = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), {**methods, "step": step})


def check_step(optimizer: Optimizer) -> None:
    """Raise `RecipeError` for an optimizer whose step asks for something: training calls it without."""
    try:
        asked = [
            one.name
            for one in inspect.signature(optimizer.step).parameters.values()
            if one.default is one.empty and one.kind < one.VAR_POSITIONAL
        ]
    except (TypeError, ValueError):
        return
    if asked:
        raise RecipeError(
            f"The optimizer {type(optimizer).__name__} cannot be used: its step() asks for {asked[0]}.",
            "Training makes one forward pass in a step. Use another, such as torch.optim.AdamW.",
        )


class Update:
    """One update of the weights, after which the gradients are gone: `optimizer.step()`, then `optimizer.zero_grad()`.

    On a small network, what torch.optim does around its fused kernel (profiling, gathering each parameter's state again in every
    step) takes longer than the kernel. The fused SGD, Adam and AdamW are therefore one call of that kernel here, over lists
    that are gathered once: the same arithmetic, the same bits, and the state stays in `optimizer.state`. An optimizer of the
    user's own (`is_own`), whose methods may do more, is used as it is; so is any other, and one under a gradient scaler.
    """

    def __init__(self, optimizer: Optimizer, scaler: torch.amp.GradScaler, *, is_own: bool) -> None:
        self.optimizer = optimizer
        self.scaler = scaler
        self.has_kernel = not is_own and not scaler.is_enabled() and _kind(optimizer) in _KERNELS
        self.kernels: list[_Kernel] = []

    def __call__(self) -> None:
        """Change the parameters by their gradients, and forget those."""
        # The kernel takes no gaps: parameters without a gradient are for torch.optim.
        if self.kernels and all(parameter.grad is not None for kernel in self.kernels for parameter in kernel.parameters):
            with torch.no_grad():
                for kernel in self.kernels:
                    kernel()
            return
        self.scaler.step(self.optimizer)  # type: ignore[arg-type]
        self.scaler.update()
        self.optimizer.zero_grad()
        if self.has_kernel and not self.kernels:
            # The first step made the state.
            self.kernels = _gather(self.optimizer)  # type: ignore[arg-type]


# Of each class: the parts of its state that its kernel takes, in that order, and the settings.
_KERNELS: dict[type, tuple[tuple[str, ...], tuple[str, ...]]] = {
    torch.optim.SGD: (("momentum_buffer",), ("momentum", "dampening", "nesterov")),
    torch.optim.Adam: (("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "step"), ("eps", "amsgrad")),
    torch.optim.AdamW: (("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "step"), ("eps", "amsgrad")),
}


@dataclass
class _Kernel:
    """The update of one group of parameters as one call: all but gradients and rate are bound once."""

    group: dict[str, Any]
    parameters: list[nn.Parameter]
    state: list[list[Tensor]]
    steps: list[Tensor]
    change: Callable[..., object]

    def __call__(self) -> None:
        gradients = [parameter.grad for parameter in self.parameters]
        if self.steps:
            torch._foreach_add_(self.steps, 1)
        self.change(self.parameters, gradients, *self.state, lr=self.group["lr"])
        for parameter in self.parameters:
            parameter.grad = None


def _kind(optimizer: Optimizer) -> type:
    """Return the class of `torch.optim` that an optimizer is."""
    return next(kind for kind in type(optimizer).__mro__ if kind.__module__.startswith("torch.optim."))


def _gather(optimizer: torch.optim.Optimizer) -> list[_Kernel]:
    """Bind the kernels; there are none where some parameter has no state yet, or those of a group are of several kinds."""
    parts, settings = _KERNELS[_kind(optimizer)]
    found = []
    for group in optimizer.param_groups:
        parameters: list[nn.Parameter] = group["params"]
        states = [optimizer.state.get(parameter, {}) for parameter in parameters]
        # What is switched off has no state: momentum_buffer without momentum, max_exp_avg_sq without amsgrad.
        lists = {part: [state[part] for state in states if state.get(part) is not None] for part in parts}
        is_gap = any(len(made) not in (0, len(parameters)) for made in lists.values()) or ("step" in parts and not lists["step"])
        if is_gap or not group.get("fused") or len({(parameter.device, parameter.dtype) for parameter in parameters}) > 1:
            return []
        bound = {name: group[name] for name in (*settings, "weight_decay", "maximize")}
        if isinstance(optimizer, torch.optim.SGD):
            change: Callable[..., object] = partial(torch._fused_sgd_, **bound, is_first_step=False)
        else:
            beta1, beta2 = group["betas"]
            decoupled = isinstance(optimizer, torch.optim.AdamW) or group.get("decoupled_weight_decay")
            kernel = torch._fused_adamw_ if decoupled else torch._fused_adam_
            change = partial(kernel, **bound, beta1=beta1, beta2=beta2)
        found.append(_Kernel(group, parameters, list(lists.values()), lists.get("step", []), change))
    return found


@dataclass(frozen=True)
class Rewind:
    """Training went back to where `step` steps were made, and on from there with the learning rate times `factor`; `reason` says why."""

    step: int
    factor: float
    reason: str


class Schedule:
    """The learning rate, as a share of the highest one.

    All but "plateau" are functions of the position alone. The formulas are those of `torch.optim.lr_scheduler`; "cosine" and
    "one-cycle" change with every step, the others at the ends of epochs. A `function` of the user's own takes their place. Each of the
    `rewinds` cuts the rate from its step on.
    """

    def __init__(
        self, settings: ScheduleSettings, epochs: int, steps_per_epoch: int, total_steps: int, function: ScheduleFunction | None = None
    ) -> None:
        self.settings = settings
        self.function = function
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = total_steps
        self.cuts = 0
        self.best = math.inf
        self.bad_epochs = 0
        self.rewinds: list[Rewind] = []
        self.warmup_steps = round(settings.warmup * steps_per_epoch)
        if self.warmup_steps and settings.name == "one-cycle":
            raise RecipeError("The setting schedule.warmup does not work with one-cycle, which rises by itself.", "Use schedule.rise.")
        if self.warmup_steps >= total_steps:
            raise RecipeError(
                f"The setting schedule.warmup = {settings.warmup} is not shorter than the {epochs} epochs of training.", "Shorten it."
            )
        if function is not None:
            for step in {*range(0, total_steps, max(1, total_steps // _TRIED)), total_steps - 1}:
                _share(function, step)

    @property
    def is_constant(self) -> bool:
        """Whether the rate is the same in every step."""
        return self.function is None and self.settings.name == "constant" and not self.warmup_steps and not self.rewinds

    def factor(self, step: int) -> float:
        """Return the share for the step that comes after `step` others."""
        return self._planned(step) * math.prod(rewind.factor for rewind in self.rewinds_before(step))

    def rewinds_before(self, step: int) -> list[Rewind]:
        """Return the rewinds that count for the step that comes after `step` others."""
        return [rewind for rewind in self.rewinds if rewind.step <= step]

    def _planned(self, step: int) -> float:
        if self.function is not None:
            return _share(self.function, step)
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        epoch = step // self.steps_per_epoch
        settings = self.settings
        if settings.name == "step":
            return settings.factor ** (epoch // settings.every)
        if settings.name == "multi-step":
            return settings.factor ** sum(epoch >= end for end in settings.at)
        if settings.name == "plateau":
            return settings.factor**self.cuts
        if settings.name == "cosine":
            return _cosine(1.0, 0.0, (step - self.warmup_steps) / (self.total_steps - self.warmup_steps))
        if settings.name == "one-cycle":
            return self._one_cycle(step)
        return 1.0

    def epoch_done(self, loss: float) -> None:
        """Let "plateau" see the validation loss (the training loss where there is none)."""
        # As in ReduceLROnPlateau: better means better by a ten-thousandth.
        if loss < self.best * (1 - 1e-4):
            self.best, self.bad_epochs = loss, 0
            return
        self.bad_epochs += 1
        if self.bad_epochs > self.settings.patience:
            self.cuts, self.bad_epochs = self.cuts + 1, 0

    def _one_cycle(self, step: int) -> float:
        """Rise from 1/25 to 1, then fall to 1/250,000, along half cosines (Smith and Topin, 2017, as OneCycleLR has it)."""
        peak = self.settings.rise * self.total_steps - 1
        if 0 < peak >= step:
            return _cosine(1 / 25, 1.0, step / peak)
        # Where there is but one step, it lies in the middle of the fall.
        last = max(self.total_steps - 1, 1)
        return _cosine(1.0, 1 / 250_000, (step - peak) / (last - peak))


def _share(function: ScheduleFunction, step: int) -> float:
    """Return what the user's own schedule gives for a step. Raises `RecipeError` where that is no share of a rate."""
    if not callable(function):
        raise RecipeError(f"A {type(function).__name__} is no schedule.", "Pass a name, or a function: step -> share of the learning rate.")
    try:
        share = float(function(step))
    except (Exception, SystemExit) as error:  # the user's function may raise anything
        raise RecipeError(
            f"The schedule function fails for step {step}: {in_words(error)}.",
            "Fix it: it gets the number of steps made, and returns a number.",
        ) from error
    if not (math.isfinite(share) and share >= 0):
        raise RecipeError(f"The schedule function gives {share} for step {step}.", "Let it return a share of the learning rate, 0 or more.")
    return share


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


class MovingAverage:
    """A copy of a model, `module`, whose weights follow those of the model slowly.

    They are the exponential moving average with `decay`, which starts low, (1 + n) / (10 + n) after n steps, so that the random
    first weights are soon forgotten. Buffers (running statistics) are the model's latest. As
    `torch.optim.swa_utils.AveragedModel`, but without waiting for the device in each step.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self.steps = 0

    def update_parameters(self, model: nn.Module) -> None:
        """Move the average towards the weights of `model`."""
        share = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.steps else 1.0
        self.steps += 1
        with torch.no_grad():
            torch._foreach_lerp_(list(self.module.parameters()), list(model.parameters()), share)
            for kept, latest in zip(self.module.buffers(), model.buffers(), strict=True):
                kept.copy_(latest)
