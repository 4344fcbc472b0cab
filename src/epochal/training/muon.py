"""Muon: momentum whose matrices are made orthogonal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

# The quintic that brings singular values from 0 to 1 near 1 in few rounds (Jordan, 2024).
_QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Steps of the same length in all directions of a weight matrix (Jordan et al., 2024, "Muon: An optimizer for hidden layers").

    Each weight with several axes is taken as a matrix [outputs, all else], and its momentum is replaced by the nearest orthogonal
    matrix before the step, so that directions with small gradients are learned as fast as those with large ones; tall matrices
    take steps sqrt(rows / columns) times as long. The output layer (the last weight with several axes), biases and scales take
    plain steps of Nesterov's momentum with the rate `plain_lr`, without the weight decay, which is decoupled. `torch.optim.Muon`
    takes matrices alone. Raises `ValueError` where no layer is hidden.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.0, plain_lr: float = 0.1
    ) -> None:
        everything = list(parameters)
        matrices = [parameter for parameter in everything if parameter.ndim > 1]
        hidden, output = matrices[:-1], matrices[-1:]
        plain = [parameter for parameter in everything if parameter.ndim < 2] + output
        if not hidden:
            raise ValueError("it is for networks with hidden layers, and here at most one weight has several axes")
        groups = [
            {"params": hidden, "lr": lr, "weight_decay": weight_decay, "is_hidden": True},
            {"params": plain, "lr": plain_lr, "weight_decay": 0.0, "is_hidden": False},
        ]
        super().__init__(groups, {"momentum": momentum})

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
