"""Networks that change tensors in place, keep hooks, or share tensors: what a recording must put back, repeat or leave alone."""

# What is here is against the rules.
# mypy: ignore-errors

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune

from tests.training.traced.cases import Net, Setup, at_epoch, case, tick


@case()
class InputsInPlace(Net):
    def forward(self, x: Tensor) -> Tensor:
        x += 1
        return self.last(self.first(x))


@case()
class InputsScaledInPlace(Net):
    """The inputs become part of what gradients flow through."""

    def forward(self, x: Tensor) -> Tensor:
        x *= self.first.bias[:6]
        return self.last(self.first(x))


@case()
class BufferInPlace(Net):
    def forward(self, x: Tensor) -> Tensor:
        scale = self.scale
        scale *= 0.99
        return self.last(self.first(x) * self.scale)


@case("a tensor of another kind")
class FrozenParameterInPlace(Net):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        factor = self.factor
        factor *= 0.99
        return self.last(self.first(x) * self.factor.clone())


@case()
class WeightDecayedInForward(Net):
    def forward(self, x: Tensor) -> Tensor:
        weight = self.first.weight.detach()
        weight *= 0.9
        return self.last(self.first(x))


@case()
class RunningStatistics(Net):
    """Batch norm by hand, with a frozen parameter for the running mean."""

    var: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(8), requires_grad=False)
        self.register_buffer("var", torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.batch_norm(self.first(x), self.mean, self.var, training=self.training))


@case("that requires|gradient")
def buffer_with_gradient(_: pytest.MonkeyPatch) -> Setup:
    """A buffer that is trained by a watcher, by what has been added up in its gradient."""
    net = Net()
    net.scale.requires_grad_()

    def change(net: Net) -> None:
        with torch.no_grad():
            assert net.scale.grad is not None
            net.scale -= 0.01 * net.scale.grad

    return at_epoch(net, change)


@case("has its weight as a Tensor")
def plain_tensor_for_weight(_: pytest.MonkeyPatch) -> Setup:
    net = Net()
    weight = net.first.weight.detach() * 2
    del net.first.weight
    net.first.weight = weight
    return at_epoch(net, lambda net: net.first.weight.mul_(3))


@case()
class SharedWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.unused = nn.Linear(6, 6)
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(torch.tanh(self.first(x))))


@case()
class SameGradient(Net):
    """Both parameters get the very same tensor as gradient, and the bias one that is expanded."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.zeros(8, 3))
        self.two = nn.Parameter(torch.zeros(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x)) + (self.one + self.two).sum() / 10 + (self.one + self.two)[: len(x)]


def _hooked(register: Any) -> Setup:
    net = Net()
    register(net)
    return {"model": net}


@case("Linear has hooks")
def forward_hook(_: pytest.MonkeyPatch) -> Setup:
    return _hooked(lambda net: net.first.register_forward_hook(lambda module, inputs, output: output * tick()))


@case("Linear has hooks")
def forward_pre_hook(_: pytest.MonkeyPatch) -> Setup:
    return _hooked(lambda net: net.first.register_forward_pre_hook(lambda module, inputs: (inputs[0] * tick(),)))


@case("Linear has hooks")
def backward_hook(_: pytest.MonkeyPatch) -> Setup:
    return _hooked(lambda net: net.last.register_full_backward_hook(lambda module, given, taken: (given[0] * tick(),)))


@case("a parameter of Linear has hooks")
def parameter_hook(_: pytest.MonkeyPatch) -> Setup:
    return _hooked(lambda net: net.last.weight.register_hook(lambda gradient: gradient * tick()))


def accumulated(parameter: Tensor) -> None:
    """Change a gradient."""
    assert parameter.grad is not None
    parameter.grad *= tick()


@case("a parameter of Linear has hooks")
def accumulated_hook(_: pytest.MonkeyPatch) -> Setup:
    return _hooked(lambda net: net.last.weight.register_post_accumulate_grad_hook(accumulated))


def hook_node(net: Any) -> None:
    """Hook what adds gradients up, as libraries for distributed training do; it lives as long as somebody has it."""
    weight = net.last.weight
    weight.node = weight.expand_as(weight).grad_fn.next_functions[0][0]
    weight.node.register_hook(lambda *_: accumulated(weight))


@case("a parameter of Linear has hooks")
def node_hook(_: pytest.MonkeyPatch) -> Setup:
    return _hooked(hook_node)


@case("a parameter of Linear has hooks")
def node_pre_hook(_: pytest.MonkeyPatch) -> Setup:
    def register(net: Any) -> None:
        net.last.node = net.last.weight.expand_as(net.last.weight).grad_fn.next_functions[0][0]
        net.last.node.register_prehook(lambda gradients: (gradients[0] * tick(),))

    return _hooked(register)


@case("has hooks")
def hook_of_all_modules(patch: pytest.MonkeyPatch) -> Setup:
    hooks = {0: lambda module, inputs, output: output * tick()}
    patch.setattr(nn.modules.module, "_global_forward_hooks", hooks)
    return {"model": nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))}


@case("has its mean replaced")
def method_of_tensor(_: pytest.MonkeyPatch) -> Setup:
    """An attribute of a tensor comes before a method of its class."""
    net = Averaged()
    net.scale.mean = lambda: net.scale.sum() * tick()
    return {"model": net}


@case("has its mean replaced")
def method_of_tensor_later(_: pytest.MonkeyPatch) -> Setup:
    return at_epoch(Averaged(), lambda net: setattr(net.scale, "mean", lambda: net.scale.sum() * tick()))


class Averaged(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) * self.scale.mean())


@case("has hooks")
def pruned(_: pytest.MonkeyPatch) -> Setup:
    net = Net()
    prune.l1_unstructured(net.first, "weight", 0.5)
    return {"model": net}


@case()
def state_assigned(_: pytest.MonkeyPatch) -> Setup:
    return at_epoch(Net(), lambda net: net.load_state_dict({n: v.clone() * 2 for n, v in net.state_dict().items()}, assign=True))


class Twins(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(torch.tanh(self.first(x))))


@case("gradients are kept")
def gradients_in_one_place(_: pytest.MonkeyPatch) -> Setup:
    """Both are added to the same memory, in an order that only backpropagation knows."""

    def change(net: Twins) -> None:
        net.first.weight.grad = net.second.weight.grad = torch.zeros(6, 6)

    net = Twins()
    return at_epoch(net, change) | {"optimizer": lambda _: torch.optim.SGD(net.last.parameters(), lr=0.1), "recipe": {"clip_norm": 1.0}}
