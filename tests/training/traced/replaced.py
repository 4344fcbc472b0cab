"""Functions that have been replaced or wrapped, in PyTorch or in a network, and source that is not what runs."""

# What is here is against the rules.
# mypy: ignore-errors

from __future__ import annotations

import functools
import linecache
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from epochal.user_code import concise
from tests.training.traced.cases import Net, Setup, case, tick


@case("Linear.weight has been replaced")
def property_of_torch(patch: pytest.MonkeyPatch) -> Setup:
    net = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))
    patch.setattr(nn.Linear, "weight", property(lambda self: self._parameters["weight"] * tick()), raising=False)
    return {"model": net}


@case("its forward replaced")
def forward_of_instance(_: pytest.MonkeyPatch) -> Setup:
    net = Net()
    net.last.forward = lambda x: nn.Linear.forward(net.last, x) * tick()
    return {"model": net}


@case("around it")
def forward_of_class(patch: pytest.MonkeyPatch) -> Setup:
    forward = Net.forward
    patch.setattr(Net, "forward", lambda self, x: forward(self, x) * tick())
    return {}


@case("Linear")
def forward_of_torch(patch: pytest.MonkeyPatch) -> Setup:
    forward = nn.Linear.forward
    patch.setattr(nn.Linear, "forward", lambda self, x: forward(self, x) * tick())
    return {"model": nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))}


@case("Module.__call__")
def call_of_torch(patch: pytest.MonkeyPatch) -> Setup:
    call = nn.Module.__call__
    patch.setattr(nn.Module, "__call__", lambda self, *inputs: call(self, *inputs) * tick())
    return {"model": nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))}


@case("relu has been replaced")
def function_of_torch(patch: pytest.MonkeyPatch) -> Setup:
    relu = F.relu
    patch.setattr(F, "relu", lambda x, inplace=False: relu(x) * tick())
    return {"model": nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))}


class Calls:
    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self.function(*given, **named) * tick()


@case("relu has been replaced")
def object_for_function(patch: pytest.MonkeyPatch) -> Setup:
    patch.setattr(F, "relu", Calls(F.relu))
    return {"model": nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))}


@case("relu has been replaced")
def wrapped_function(patch: pytest.MonkeyPatch) -> Setup:
    patch.setattr(F, "relu", torch.enable_grad()(Calls(F.relu)))
    return {"model": nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))}


@case("relu has been replaced")
def method_for_function(patch: pytest.MonkeyPatch) -> Setup:
    patch.setattr(torch, "relu", MethodType(lambda self, x: self(x), Calls(torch.relu)))
    return {}


@case("source|around|decorat")
class WrappedByTorch(Net):
    """What wraps it is a function of PyTorch's, in a file of PyTorch's."""

    @torch.enable_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) * tick())


@case("around it|source")
class WrappedByEpochal(Net):
    @concise
    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) * tick())


def ticking(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*given: Any) -> Any:
        return function(*given) * tick()

    return inner


@case("around it")
class Decorated(Net):
    @ticking
    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x))


@case("not a function")
class Partial(Net):
    forward = functools.partialmethod(lambda self, factor, x: self.last(self.first(x) * factor * tick()), 2.0)


@case("not defined by a plain def")
class Lambda(Net):
    forward = lambda self, x: self.last(self.first(x) * tick())  # noqa: E731


def _executed(file: str) -> type[nn.Module]:
    space: dict[str, Any] = {"Net": Net, "tick": tick}
    source = "class Executed(Net):\n    def forward(self, x):\n        return self.last(self.first(x) * tick())\n"
    exec(compile(source, file, "exec"), space)
    return space["Executed"]


@case("source of .* not known")
def executed(_: pytest.MonkeyPatch) -> Setup:
    return {"model": _executed("<made>")()}


@case("source of .* not known")
def beside_torch(_: pytest.MonkeyPatch) -> Setup:
    """A package next to PyTorch, whose name begins with its name."""
    return {"model": _executed(f"{Path(torch.__file__).parent}_nasty/net.py")()}


def _changed(source: str, then: str) -> Setup:
    """A network from a file that has been changed since it was imported."""
    space: dict[str, Any] = {}
    exec(compile(source, "changed.py", "exec"), space)
    linecache.cache["changed.py"] = (len(then), None, then.splitlines(keepends=True), "changed.py")
    return {"model": space["Changed"]()}


_SOURCE = """
from tests.training.traced.cases import Net, tick

class Changed(Net):
    def forward(self, x):
        return self.last(self.first(x)) * {}
"""


@case("not what runs")
def source_changed(_: pytest.MonkeyPatch) -> Setup:
    return _changed(_SOURCE.format("tick()"), _SOURCE.format("2.0"))


@case("not what runs")
def constant_changed(_: pytest.MonkeyPatch) -> Setup:
    # True is 1, but not of the same type.
    return _changed(_SOURCE.format("(2, 1)[len(x) % 2]"), _SOURCE.format("(2, True)[len(x) % 2]"))
