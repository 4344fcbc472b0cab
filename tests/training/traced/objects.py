"""Networks of which some name does not stand for what it seems to: by Python's own means, or in PyTorch."""

# What is here is against the rules.
# mypy: ignore-errors

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.training.traced.cases import Net, Setup, case, tick


@case("which is computed")
class Property(Net):
    @property
    def factor(self) -> float:
        return tick()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) * self.factor)


class Ticking:
    """A descriptor."""

    def __get__(self, instance: Any, owner: Any = None) -> float:
        return tick()


@case("which is computed")
class Descriptor(Net):
    factor = Ticking()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) * self.factor)


class TickingDropout(nn.Dropout):
    """Its probability is computed at each call; PyTorch's own `forward` reads it."""

    @property
    def p(self) -> float:
        return tick() / 2

    @p.setter
    def p(self, value: float) -> None:
        pass


@case("TickingDropout")
class ComputedProbability(Net):
    def __init__(self) -> None:
        super().__init__()
        self.drop = TickingDropout()


class Noisy(float):
    """A number that is another one each time it is multiplied."""

    def __mul__(self, other: Any) -> Any:
        return other * tick()

    __rmul__ = __mul__

    def __float__(self) -> float:
        return tick() / 2


@case("self.factor")
class NoisyNumber(Net):
    def __init__(self) -> None:
        super().__init__()
        self.factor = Noisy(1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) * self.factor)


@case("Noisy")
class NoisyProbability(Net):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(Noisy(0.3))


@case("defines __getattr__")
class GetAttribute(Net):
    def __getattr__(self, name: str) -> Any:
        if name == "factor":
            return tick()
        return super().__getattr__(name)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) * self.factor)


@case("defines __call__")
class Called(Net):
    def __call__(self, x: Tensor) -> Any:
        return super().__call__(x) * tick()


@case("defines __setattr__")
class SetAttribute(Net):
    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)


class Shuffled(nn.Module):
    """A container of one's own that gives its layers in another order each time."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8)])

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(random.sample(list(self.layers), 3))

    def forward(self, x: Tensor) -> Tensor:
        return x


@case("defines __iter__")
class OrderOfLayers(Net):
    def __init__(self) -> None:
        super().__init__()
        self.middle = Shuffled()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for layer in self.middle:
            x = layer(x)
        return self.last(x)


class Scaled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * tick()

    def change(self, x: Tensor) -> Tensor:
        return x * tick()


@case("self.helper")
class HiddenModule(Net):
    """A module that is an attribute of the class is none of the network's modules."""

    helper = Scaled()

    def forward(self, x: Tensor) -> Tensor:
        helper = self.helper
        return self.last(helper(self.first(x)))


@case("modules|tick")
class HidesModules(Net):
    def __init__(self) -> None:
        super().__init__()
        self.scaled = Scaled()

    def modules(self) -> Iterator[nn.Module]:
        return iter([self.first, self.last])

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.scaled(self.first(x)))


class Harmless(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x

    def change(self, x: Tensor) -> Tensor:
        return x * tick()


@case("changes self")
class OtherSelf(Net):
    """After the first line, `self` is another module, with a method of the same name."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Harmless()

    def change(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.first(x))
        self = self.inner
        return self.change(x)


class CountedSequential(nn.Sequential):
    def __init__(self, *layers: Any) -> None:
        super().__init__(*layers)
        tick()
        for layer in self:
            if isinstance(layer, nn.Dropout):
                layer.p = tick() - 1


@case("picks|layers")
class SliceOfLayers(Net):
    """A slice of a container is a new container, made by the code of its class."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = CountedSequential(nn.Linear(6, 8), nn.Dropout(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:3]:
            x = layer(x)
        return x


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Any:
        return gradient * tick()


@case("Doubled")
class OwnFunction(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(Doubled.apply(self.first(x)))


class Changing(dict):
    """Parameters that are others each time."""

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        return value * tick() if name == "weight" else value


@case("keeps its parameters in a Changing")
def own_dictionary(_: pytest.MonkeyPatch) -> Setup:
    net = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))
    net[0]._parameters = Changing(net[0]._parameters)
    return {"model": net}


@case("not a function|defines|replaced")
def scripted(_: pytest.MonkeyPatch) -> Setup:
    return {"model": torch.jit.script(nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3)))}


@case("GraphModule|defines|source")
def symbolic(_: pytest.MonkeyPatch) -> Setup:
    return {"model": torch.fx.symbolic_trace(nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3)))}


class Shadowing(Net):
    """A layer that is one of PyTorch's but for a property of the class."""

    def __init__(self) -> None:
        super().__init__()
        self.first.__class__ = TickingLinear


class TickingLinear(nn.Linear):
    @property
    def weight(self) -> Any:
        return self._parameters["weight"] * tick()


case("TickingLinear")(Shadowing)


class Static(Net):
    """What is called is found on the class, but is not what a method is."""

    @staticmethod
    def change(x: Tensor) -> Tensor:
        return x * tick()

    @classmethod
    def other(cls, x: Tensor) -> Tensor:
        return x * tick()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.change(self.other(self.first(x))))


case("which is computed")(Static)


@case("has an expression")
class Walrus(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) * (y := 2.0) * y * tick())


@case("uses tick")
class CallsGiven(Net):
    """A helper is given something to call."""

    def forward(self, x: Tensor) -> Tensor:
        return self.last(apply(self.first(x), tick))


def apply(x: Tensor, values: Any) -> Tensor:
    return x * values()
