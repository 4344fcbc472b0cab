"""What is around a training, or is set for all of PyTorch."""

# What is here is against the rules.
# mypy: ignore-errors

from __future__ import annotations

from typing import Any

import pytest
import torch

from epochal.training.records import EpochDone, Record
from tests.training.traced.cases import Setup, case, tick


class Twice(torch.overrides.TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        result = function(*given, **(named or {}))
        return result * tick() if function is torch.relu else result


@case("looks at|mode")
def function_mode(_: pytest.MonkeyPatch) -> Setup:
    mode = Twice()

    def watch(record: Record) -> None:
        if isinstance(record, EpochDone) and record.epoch < 3:
            mode.__enter__() if record.epoch == 1 else mode.__exit__(None, None, None)

    return {"watchers": [watch]}


@case("saved|mode")
def saved_tensors(_: pytest.MonkeyPatch) -> Setup:
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: tensor * tick() if tensor.is_floating_point() else tensor, lambda tensor: tensor
    )

    def watch(record: Record) -> None:
        if isinstance(record, EpochDone) and record.epoch < 3:
            hooks.__enter__() if record.epoch == 1 else hooks.__exit__(None, None, None)

    return {"watchers": [watch]}


@case()
def autocast_around(_: pytest.MonkeyPatch) -> Setup:
    def watch(record: Record) -> None:
        if isinstance(record, EpochDone):
            torch.set_autocast_enabled("cpu", record.epoch == 1)

    return {"watchers": [watch]}
