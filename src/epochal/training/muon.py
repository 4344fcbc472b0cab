"""Muon: momentum with orthogonalized matrices."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

# The quintic that brings singular values from 0 to 1 near 1 in few rounds (Jordan, 2024).
_QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Steps of the same length in all directions of a weight matrix (Jordan et al., 2024, "Muon: An optimizer for hidden layers").

    Each weight with several axes is treated as a matrix [outputs, all others], and its momentum is replaced by the nearest orthogonal
    matrix before the step, so that directions with small gradients are learned as fast as those with large ones; steps of tall matrices
    are sqrt(rows / columns) times as long. The `head` (the parameters of the output layer), biases and scales take plain steps
    of Nesterov's momentum with the rate `plain_lr`, without the weight decay, which is decoupled. `torch.optim.Muon` takes matrices
    alone. Raises `ValueError` if there is no hidden layer.
    """

    def __init__(
        self,
        parameters: ParamsT,
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        plain_lr: float = 0.1,
        head: Collection[Tensor] = (),
    ) -> None:
        groups, head = [], frozenset(head)
        for group in _as_groups(parameters):
            for is_hidden in (True, False):
                chosen = [one for one in group["params"] if is_hidden == (_parameter(one).ndim > 1 and _parameter(one) not in head)]
                plain = {} if is_hidden else {"lr": plain_lr, "weight_decay": 0.0}
                if chosen:
                    groups.append({**group, "params": chosen, "is_hidden": is_hidden, **plain})
        if not any(group["is_hidden"] for group in groups):
            raise ValueError("it is for networks with hidden layers, and this one has none")
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Change the parameters that have a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._change(parameter, group)

    def _change(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum_buffer"]
        momentum.mul_(group["momentum"]).add_(gradient)
        step = gradient.add(momentum, alpha=group["momentum"])
        if group["is_hidden"]:
            step = orthogonal(step.flatten(1)).view_as(parameter)
        parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(step, alpha=-group["lr"])


def _as_groups(parameters: ParamsT) -> list[dict[str, Any]]:
    listed: list[Any] = list(parameters)
    return listed if listed and isinstance(listed[0], dict) else [{"params": listed}]


def _parameter(one: Tensor | tuple[str, Tensor]) -> Tensor:
    """Return a parameter that may come with its name."""
    return one[1] if isinstance(one, tuple) else one


def orthogonal(matrix: Tensor, rounds: int = 3) -> Tensor:
    """Return about U V^T of a matrix U S V^T, times sqrt(rows / columns) where it is tall, by Newton-Schulz iteration.

    Singular values come out between 0.7 and 1.2, and smaller ones grow 3.4 times in each of the `rounds`.
    """
    a, b, c = _QUINTIC
    rows, columns = matrix.shape
    is_tall = rows > columns
    wide = matrix.T if is_tall else matrix
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(rounds):
        square = wide @ wide.T
        wide = a * wide + (b * square + c * square @ square) @ wide
    made: Tensor = wide.T * (rows / columns) ** 0.5 if is_tall else wide
    return made
