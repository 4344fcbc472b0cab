"""Updating the weights, and the state of the optimizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from epochal.training.optim import Optimizer, groups_of, numbers_of
from epochal.training.saved import Saved, State, described, nested


class _Saved(Saved):
    groups: list[dict[str, int | float]]
    scaler: dict[str, Any]


class Update:
    """One update of the weights, then clearing the gradients: `optimizer.step()`, `optimizer.zero_grad()`.

    On a small network, what torch.optim does around its fused kernel (profiling, gathering each parameter's state in every step) takes
    longer than the kernel. Fused SGD, Adam and AdamW are therefore a single call of that kernel here, over lists that are gathered
    once: the same arithmetic, the same bits, and the state stays in `optimizer.state`. Other optimizers, the user's own (`is_own`),
    whose methods may do more, and those with a gradient scaler are used unchanged.
    """

    def __init__(self, optimizer: Optimizer, scaler: torch.amp.GradScaler, *, is_own: bool) -> None:
        self.optimizer = optimizer
        self.scaler = scaler
        self.has_kernel = (
            not is_own and not scaler.is_enabled() and _kind(optimizer) in _KERNELS and all(hasattr(torch, name) for name in _NEEDED)
        )
        self.kernels: list[_Kernel] = []

    def __call__(self) -> None:
        """Update the parameters, and clear the gradients."""
        # The kernel does not accept gaps: parameters without a gradient are left to torch.optim.
        if self.kernels and all(parameter.grad is not None for kernel in self.kernels for parameter in kernel.parameters):
            with torch.no_grad():
                for kernel in self.kernels:
                    kernel()
            return
        self.scaler.step(self.optimizer)  # type: ignore[arg-type]
        self.scaler.update()
        self.optimizer.zero_grad()
        if self.has_kernel and not self.kernels:
            # The first step has created the state.
            self.kernels = _gather(self.optimizer)  # type: ignore[arg-type]

    def state_dict(self) -> State:
        """Return the optimizer's state as "PLACE/NAME", the numbers of its groups (which it may change), and the scaler's state."""
        states = self.optimizer.state_dict()["state"] if isinstance(self.optimizer, torch.optim.Optimizer) else {}
        groups = [numbers_of(group) for group in groups_of(self.optimizer)]
        return {"groups": groups, "scaler": self.scaler.state_dict()} | nested(states)

    def load_state_dict(self, state: State) -> None:
        """Continue from a state. Raises `ValueError` for one that is not of this optimizer.

        Fused kernels trust the shapes of their state: they would write beyond the end of a smaller one.
        """
        if not isinstance(self.optimizer, torch.optim.Optimizer):
            raise ValueError("the state of an optimizer that is not from torch.optim cannot be saved")
        values = dict(state)
        saved = _Saved.read({name: values.pop(name, None) for name in ("groups", "scaler")})
        parameters = [(parameter, bool(group.get("fused"))) for group in self.optimizer.param_groups for parameter in group["params"]]
        states: dict[int, dict[str, Any]] = {}
        for path, value in values.items():
            place, _, name = path.partition("/")
            if not (place.isdecimal() and int(place) < len(parameters) and _fits(name, value, *parameters[int(place)])):
                raise ValueError(f"{path}{described(value)} does not belong to it")
            states.setdefault(int(place), {})[name] = _in_layout_of(value, parameters[int(place)][0])
        self.optimizer.load_state_dict({"state": states, "param_groups": self.optimizer.state_dict()["param_groups"]})
        for group, numbers in zip(self.optimizer.param_groups, saved.groups, strict=True):
            group.update({name: value for name, value in numbers.items() if name in numbers_of(group)})
        self.scaler.load_state_dict(saved.scaler)
        # They refer to the tensors of the previous state.
        self.kernels.clear()


def _fits(name: str, value: Any, parameter: Tensor, is_fused: bool) -> bool:
    if not isinstance(value, Tensor):
        return value is None or not is_fused
    if value.shape == (() if name == "step" else parameter.shape):
        return True
    # Other optimizers keep single numbers, or sums over rows and columns.
    return not is_fused and value.numel() <= max(1, parameter.numel())


def _in_layout_of(value: Any, parameter: Tensor) -> Any:
    """Return a tensor in the memory layout of its parameter: fused kernels traverse both in parallel."""
    if not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


# Private names of PyTorch: if one is missing, the optimizer itself makes the updates.
_NEEDED = ("_fused_sgd_", "_fused_adam_", "_fused_adamw_")

# For each class: the parts of its state that its kernel takes, in this order, and the settings.
_KERNELS: dict[type, tuple[tuple[str, ...], tuple[str, ...]]] = {
    torch.optim.SGD: (("momentum_buffer",), ("momentum", "dampening", "nesterov")),
    torch.optim.Adam: (("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "step"), ("eps", "amsgrad")),
    torch.optim.AdamW: (("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "step"), ("eps", "amsgrad")),
}


@dataclass
class _Kernel:
    """The update of one parameter group as a single call: everything but gradients and rate is bound once."""

    group: dict[str, Any]
    parameters: list[nn.Parameter]
    state: list[list[Tensor]]
    steps: Tensor | None
    change: Callable[..., object]

    def __call__(self) -> None:
        gradients = [parameter.grad for parameter in self.parameters]
        if self.steps is not None:
            self.steps.add_(1)
        self.change(self.parameters, gradients, *self.state, lr=self.group["lr"])
        for parameter in self.parameters:
            parameter.grad = None


def _kind(optimizer: Optimizer) -> type:
    """Return the class of `torch.optim` that an optimizer is an instance of."""
    return next(kind for kind in type(optimizer).__mro__ if kind.__module__.startswith("torch.optim."))


def _gather(optimizer: torch.optim.Optimizer) -> list[_Kernel]:
    """Bind the kernels; there are none if a parameter has no state yet, or a group is not uniform."""
    parts, settings = _KERNELS[_kind(optimizer)]
    found = []
    for group in optimizer.param_groups:
        parameters: list[nn.Parameter] = group["params"]
        states = [optimizer.state.get(parameter, {}) for parameter in parameters]
        # Features that are off have no state: momentum_buffer without momentum, max_exp_avg_sq without amsgrad.
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
        steps = None
        if "step" in parts:
            # With one tensor for the step counts of all parameters, counting is one addition.
            steps = torch.stack(lists["step"])
            lists["step"] = list(steps.unbind())
            for state, step in zip(states, lists["step"], strict=True):
                state["step"] = step
        found.append(_Kernel(group, parameters, list(lists.values()), steps, change))
    return found
