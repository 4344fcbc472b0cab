"""The moving average of weights."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from epochal.training.saved import Count, Saved, State, nested, part


class _Saved(Saved):
    steps: Count


class MovingAverage:
    """A copy of a model, `module`, whose weights follow those of the model slowly.

    They are the exponential moving average with `decay`, which starts low, (1 + n) / (10 + n) after n steps, so that the random first
    weights are soon forgotten. Buffers (running statistics) are the model's current ones. Like `torch.optim.swa_utils.AveragedModel`,
    but without waiting for the device in each step.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self.steps = 0

    def update_parameters(self, model: nn.Module) -> None:
        """Move the average towards the weights of `model`."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.steps else 0.0
        get_ema_multi_avg_fn(decay)(list(self.module.parameters()), list(model.parameters()), None)
        self.steps += 1
        with torch.no_grad():
            for kept, latest in zip(self.module.buffers(), model.buffers(), strict=True):
                kept.copy_(latest)

    def state_dict(self) -> State:
        """Return the averaged weights, and how many steps are in them."""
        return {"steps": self.steps} | nested({"weights": self.module.state_dict()})

    def load_state_dict(self, state: State) -> None:
        """Continue from a state. Raises `ValueError`."""
        saved = _Saved.read(state, nested({"weights": self.module.state_dict()}))
        self.module.load_state_dict(part(state, "weights"))
        self.steps = saved.steps
