"""Networks whose forward pass is more than a function of inputs, parameters, buffers and mode."""

# What is here is against the rules.
# mypy: ignore-errors

from __future__ import annotations

import random
import time
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from tests.training.traced.cases import SEEN, Net, Setup, at_epoch, case, tick, words

COUNT = 0
FACTOR = 1.0


@case("has a statement .*self.calls")
class Counter(Net):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.last(self.first(x) * (1 + self.calls % 3))


@case("uses random")
class PythonRandom(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) * random.random())


@case("numpy.random")
class NumpyRandom(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) * numpy.random.rand())


@case("time")
class Clock(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) * (1.0 if time.time() > 0 else 2.0))


@case("branches on values")
class Branch(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if x.sum() > 0:
            x = x * 2
        return self.last(x)


@case("calls x.mean.*item")
class Item(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(x * (2.0 if x.mean().item() > 0 else 0.5))


@case("tolist")
class ToList(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) * (2.0 if x[0].tolist()[0] > 0 else 0.5))


@case("numpy")
class ToNumpy(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) * float(x.numpy()[0, 0] > 0))


@case("has an expression|branches on values")
class Formatted(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) * (2.0 if "-" in f"{x.sum()}" else 0.5))


class Flagged(nn.Module):
    """A tensor comes where a flag is expected; its text is read without an operation that could be recorded."""

    def forward(self, x: Tensor, flag: float = 0.0) -> Tensor:
        text = "%s" % flag  # noqa: UP031
        return x * 2 if text[7] == "-" else x / 2


@case("text|expression")
class TextOfTensor(Net):
    def __init__(self) -> None:
        super().__init__()
        self.flagged = Flagged()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.flagged(self.first(x), x.sum()))


class FlaggedText(nn.Module):
    def forward(self, x: Tensor, flag: float = 0.0) -> Tensor:
        return x * 2 if str(flag)[7] == "-" else x / 2


@case("text|str")
class StrOfTensor(Net):
    def __init__(self) -> None:
        super().__init__()
        self.flagged = FlaggedText()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.flagged(self.first(x), x.sum()))


@case("branches on values")
class LongChain(Net):
    """That `d` is a tensor shows in the fourth round of the loop only."""

    def forward(self, x: Tensor) -> Tensor:
        a = 0
        b = 0
        c = 0
        d = 0
        for _ in range(5):
            if d is None or d != 0:
                x = x * 2
            d = c
            c = b
            b = a
            a = x.sum()
        return self.last(self.first(x))


@case("has a statement")
class Prints(Net):
    def forward(self, x: Tensor) -> Tensor:
        print("batch", tick())
        return self.last(self.first(x) * (1 + len(SEEN) % 3))


@case("calls nn.Linear")
class MadeLate(Net):
    def __init__(self) -> None:
        super().__init__()
        self.extra: Any = None

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.extra is None:
            self.extra = nn.Linear(8, 8)
        x = self.first(x)
        return self.last(x if self.extra is None else self.extra(x))


@case("changes self.first.weight|has a statement")
class WeightReplaced(Net):
    def __init__(self) -> None:
        super().__init__()
        self.raw = nn.Parameter(self.first.weight.detach().clone())
        del self.first.weight
        self.first.weight = self.raw * 2

    def forward(self, x: Tensor) -> Tensor:
        self.first.weight = self.raw * 2
        return self.last(self.first(x))


@case("uses self.memory, which may change")
class TensorState(Net):
    def __init__(self) -> None:
        super().__init__()
        self.memory = torch.zeros(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x) + self.memory
        self.memory = x.detach().mean(0)
        return self.last(x)


@case("self.seen")
class ListState(Net):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        return self.last(self.first(x) * (1 + len(self.seen) % 3))


@case("has a statement|self.state")
class DictState(Net):
    def __init__(self) -> None:
        super().__init__()
        self.state = {"calls": 0}

    def forward(self, x: Tensor) -> Tensor:
        self.state["calls"] += 1
        return self.last(self.first(x) * (1 + self.state["calls"] % 3))


@case("around it")
def closure(_: pytest.MonkeyPatch) -> Setup:
    calls = 0

    class Closure(Net):
        def forward(self, x: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return self.last(self.first(x) * (1 + calls % 3))

    return {"model": Closure()}


@case("has a statement")
class GlobalCounter(Net):
    def __init__(self) -> None:
        global COUNT
        super().__init__()
        COUNT = 0

    def forward(self, x: Tensor) -> Tensor:
        global COUNT
        COUNT += 1
        return self.last(self.first(x) * (1 + COUNT % 3))


@case("")
def global_number(patch: pytest.MonkeyPatch) -> Setup:
    patch.setattr("tests.training.traced.stateful.FACTOR", 1.0)
    return at_epoch(GlobalNumber(), lambda _: patch.setattr("tests.training.traced.stateful.FACTOR", 3.0))


class GlobalNumber(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) * FACTOR)


@case("changes|a statement")
class MaskedInPlace(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).clone()
        x[x > 1] = 0
        return self.last(x)


@case("picks elements by values")
class PickedRows(Net):
    def forward(self, x: Tensor) -> Tensor:
        rows = self.first(x)
        return self.last(rows) + rows[rows > 0].mean()


@case("picks elements by values|calls")
class Nonzero(Net):
    def forward(self, x: Tensor) -> Tensor:
        rows = self.first(x)
        return self.last(rows) + len(torch.nonzero(rows > 0)) / 100


@case("has a statement|changes")
class BufferReplaced(Net):
    def forward(self, x: Tensor) -> Tensor:
        self.scale = self.scale * 0.9
        return self.last(self.first(x) * self.scale)


@case("uses random")
class StochasticDepth(Net):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            if self.training and random.random() < 0.5:
                continue
            x = x + block(x)
        return self.last(x)


@case("calls checkpoint")
class Checkpointed(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(checkpoint(self.first, x, use_reentrant=False))


@case("has a statement")
class NoGradients(Net):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.first(x)
        return self.last(x)


@case("has a statement")
class Autocast(Net):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            x = self.first(x)
        return self.last(x.float())


@case("parametri")
def weight_norm(_: pytest.MonkeyPatch) -> Setup:
    return {"model": nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, 3))}


@case("parametri")
def spectral_norm(_: pytest.MonkeyPatch) -> Setup:
    return {"model": nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, 3))}


@case("has hooks")
def old_weight_norm(_: pytest.MonkeyPatch) -> Setup:
    return {"model": nn.Sequential(nn.utils.weight_norm(nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, 3))}


@case("has hooks")
def old_spectral_norm(_: pytest.MonkeyPatch) -> Setup:
    return {"model": nn.Sequential(nn.utils.spectral_norm(nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, 3))}


@case("reads a value")
def cumulative_batch_norm(_: pytest.MonkeyPatch) -> Setup:
    return {"model": nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8, momentum=None), nn.Linear(8, 3))}


def _embedding(**options: Any) -> Setup:
    return {"model": nn.Sequential(nn.Embedding(10, 4, **options), nn.Flatten(), nn.Linear(20, 3)), "data": words()}


@case("another kind|sparse")
def sparse_embedding(_: pytest.MonkeyPatch) -> Setup:
    return _embedding(sparse=True) | {"optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.1)}


@case("")
def renormed_embedding(_: pytest.MonkeyPatch) -> Setup:
    return _embedding(max_norm=0.7)


@case("uses values of tensors")
class AdaptiveSoftmax(Net):
    def __init__(self) -> None:
        super().__init__()
        self.soft = nn.AdaptiveLogSoftmaxWithLoss(8, 3, [2])

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x)) + self.soft(self.first(x), x[:, 0].long() * 0)[1]


@case("_compiled_call_impl replaced")
def compiled(_: pytest.MonkeyPatch) -> Setup:
    net = Net()
    net._compiled_call_impl = lambda x: net.forward(x) * tick()
    return {"model": net}


class OwnParameter(nn.Parameter):
    """It may do anything."""


@case("has a OwnParameter")
def parameter_class(_: pytest.MonkeyPatch) -> Setup:
    net = Net()
    net.first.weight = OwnParameter(net.first.weight.detach())
    return {"model": net}
