"""The head of a pre-trained network: one for the data at hand."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from epochal.data.inputs.preprocess import Preprocess
from epochal.data.spec import DataSpec

# It comes within 50 epochs to where logistic regression ends (L-BFGS, on the same features).
HEAD = {
    "optimizer.name": "sgd", "optimizer.lr": 1e-3, "optimizer.momentum": 0.9, "optimizer.weight_decay": 0.1, "schedule.name": "cosine",
    "epochs": 50,
}  # fmt: skip

# What a trunk computes at once, without gradients: each picture has some megabytes of intermediate results.
AT_ONCE = 32


def with_head(trunk: nn.Module, features: int, spec: DataSpec) -> nn.Sequential:
    """Return a trunk with a linear head for its `features`, which are first brought to one scale (see `run/learner.py`)."""
    # With values also where the network is built without memory: arithmetic there imports PyTorch's compiler, for seconds.
    zeros = torch.zeros(features, dtype=torch.float64, device="cpu")
    scale = Preprocess(zeros, zeros + 1, "float32")
    linear = nn.Linear(features, len(spec.outputs))
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(OrderedDict(trunk=trunk, head=nn.Sequential(OrderedDict(scale=scale, linear=linear))))
