"""Watchers, losses, optimizers and datasets that meddle with a network, or with what it computes with, between or within steps."""

# What is here is against the rules.
# mypy: ignore-errors

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from epochal.data.load import load
from epochal.training.checkpoint import Checkpoints
from epochal.training.records import EpochDone, Record
from tests.training.traced.cases import Net, Setup, at_epoch, case, numbers, tick
from tests.training.traced.inplace import accumulated, hook_node

WEIGHT = 1.0


class WithMethods(Net):
    """Everything that `forward` uses can be replaced."""

    number: float = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.factor = 0.0
        self.size: Any = (1, 2)

    def change(self, x: Tensor, by: float = 1.0) -> Tensor:
        return x * by

    def forward(self, x: Tensor, more: float = 1.0) -> Tensor:
        x = self.change(self.first(x)) * self.number * more + self.factor
        return self.last(self.drop(x) * self.scale / self.size[0])


def _set(path: str, value: Any) -> Callable[[Any], None]:
    def change(net: Any) -> None:
        *parts, name = path.split(".")
        for part in parts:
            net = getattr(net, part)
        setattr(net, name, value)

    return change


def _replace_data(net: Net) -> None:
    net.last.weight.data = net.last.weight.data * 2


def _narrow(net: Net) -> None:
    # Of the same memory and strides, only shorter.
    net.scale.data = net.scale.data[:1]


def _shadow(net: Net) -> None:
    vars(net)["change"] = lambda x: x * tick()


def _forward(net: Net) -> None:
    vars(net)["forward"] = lambda x: nn.functional.linear(net.first(x), net.last.weight) * tick()


def _new_class(net: Net) -> None:
    net.__class__ = type("New", (WithMethods,), {"change": lambda self, x: x * tick()})


def _freeze(net: Net) -> None:
    net.first.weight.requires_grad_(False)


def _defaults(net: Net) -> None:
    type(net).forward.__defaults__ = (3.0,)


# What a watcher does after the first epoch, and the reason for plain steps from then on.
CHANGES: dict[str, tuple[Callable[[Any], object], str]] = {
    "probability": (_set("drop.p", 0.7), ""),
    "mode of a part": (lambda net: net.drop.eval(), ""),
    "frozen": (_freeze, ""),
    "parameter replaced": (lambda net: _set("first.bias", nn.Parameter(torch.ones(8)))(net), ""),
    "data replaced": (_replace_data, ""),
    "buffer replaced": (lambda net: _set("scale", torch.full((1,), 3.0))(net), ""),
    "buffer in place": (lambda net: net.scale.mul_(3), ""),
    "weights in place": (lambda net: net.first.weight.data.mul_(0.5), ""),
    "int for float": (_set("size", (2, 2)), ""),
    "list for tuple": (_set("size", [2, 2]), "self.size"),
    "tensors for numbers": (_set("size", (torch.ones(1), 2)), "self.size"),
    "layer replaced": (_set("drop", nn.AlphaDropout(0.3)), ""),
    "hook": (lambda net: net.first.register_forward_hook(lambda module, inputs, output: output * tick()), "has hooks"),
    "backward hook": (lambda net: net.last.register_full_backward_hook(lambda *given: (given[1][0] * tick(),)), "has hooks"),
    "parameter hook": (lambda net: net.last.weight.register_hook(lambda gradient: gradient * tick()), "has hooks"),
    "accumulated hook": (
        lambda net: net.last.weight.register_post_accumulate_grad_hook(accumulated), "has hooks",
    ),
    "node hook": (hook_node, "has hooks"),
    "method shadowed": (_shadow, "self.change"),
    "forward of the instance": (_forward, "its forward replaced"),
    "class": (_new_class, "not defined by a plain def"),
    "compiled": (lambda net: setattr(net, "_compiled_call_impl", lambda x: net.forward(x) * tick()), "replaced"),
}  # fmt: skip
for _name, (_change, _why) in CHANGES.items():

    def _made(_: pytest.MonkeyPatch, change: Callable[[Any], object] = _change) -> Setup:
        return at_epoch(WithMethods(), change)

    _made.__name__ = f"watcher: {_name}"
    case(_why)(_made)


def _patched(name: str, why: str) -> Callable[[Callable[[pytest.MonkeyPatch], None]], None]:
    """Add a case whose watcher replaces something that all networks use."""

    def add(change: Callable[[pytest.MonkeyPatch], None]) -> None:
        def made(patch: pytest.MonkeyPatch) -> Setup:
            net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))
            return at_epoch(net, lambda _: change(patch))

        made.__name__ = f"watcher: {name}"
        case(why)(made)

    return add


_patched("function replaced by another of PyTorch", "")(lambda patch: patch.setattr(F, "relu", F.relu6))
_patched("function replaced", "replaced")(lambda patch: patch.setattr(F, "relu", lambda x, inplace=False: x * tick()))
_patched("forward of a class", "forward has been replaced")(
    lambda patch: patch.setattr(nn.Linear, "forward", lambda self, x: F.linear(x, self.weight) * tick())
)
_patched("forward of another class", "forward of ReLU has been replaced")(lambda patch: patch.setattr(nn.ReLU, "forward", nn.Tanh.forward))
_patched("what a module of Python has", "")(lambda patch: patch.setattr(nn.modules.activation, "F", SimpleNamespace(relu=F.relu6)))


@case()
def method_of_class_replaced(patch: pytest.MonkeyPatch) -> Setup:
    return at_epoch(WithMethods(), lambda net: patch.setattr(WithMethods, "number", 2.0))


@case()
def buffer_shadowed_by_class(patch: pytest.MonkeyPatch) -> Setup:
    return at_epoch(WithMethods(), lambda net: patch.setattr(WithMethods, "scale", 5.0, raising=False))


@case("which is computed")
def property_added_later(patch: pytest.MonkeyPatch) -> Setup:
    return at_epoch(WithMethods(), lambda net: patch.setattr(WithMethods, "factor", property(lambda self: tick()), raising=False))


@case()
def defaults_replaced(patch: pytest.MonkeyPatch) -> Setup:
    return at_epoch(WithMethods(), lambda net: patch.setattr(WithMethods.forward, "__defaults__", (3.0,)))


@case()
def layers_exchanged(_: pytest.MonkeyPatch) -> Setup:
    one, two = nn.Linear(6, 6), nn.Linear(6, 6)
    net = nn.Sequential(one, two, one, nn.Linear(6, 3))
    return at_epoch(net, lambda net: net._modules.update({"2": two}))


class Attention(nn.Module):
    def __init__(self, activation: Any) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(6, 2, 12, 0.1, activation, batch_first=True)
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layer(x.view(-1, 1, 6)).mean(1))


@case()
def activation_replaced(_: pytest.MonkeyPatch) -> Setup:
    return at_epoch(Attention(F.relu), lambda net: setattr(net.layer, "activation", F.gelu))


@case("activation")
def own_activation(_: pytest.MonkeyPatch) -> Setup:
    return {"model": Attention(lambda x: x * tick())}


class Flash(nn.Module):
    """Attention between three pairs of numbers, in one of several kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 8)
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.view(-1, 1, 3, 2))
        return self.last(F.scaled_dot_product_attention(x, x, x).mean((1, 2)))


@case()
def attention_kernels(_: pytest.MonkeyPatch) -> Setup:
    return at_epoch(Flash(), lambda _: torch.backends.cuda.enable_flash_sdp(False))


class SignedZero(Net):
    def __init__(self) -> None:
        super().__init__()
        self.zero = 0.0

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) + torch.atan2(torch.zeros(1), torch.full((1,), self.zero)))


@case()
def negative_zero(_: pytest.MonkeyPatch) -> Setup:
    return at_epoch(SignedZero(), _set("zero", -0.0))


@case()
def default_type(_: pytest.MonkeyPatch) -> Setup:
    def watch(record: Record) -> None:
        if isinstance(record, EpochDone):
            torch.set_default_dtype(torch.float64 if record.epoch == 1 else torch.float32)

    return {"model": DefaultType(), "watchers": [watch]}


class DefaultType(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.last((self.first(x) * torch.ones(8) / 3 + torch.rand(8)).float())


# Losses of one's own.


def weighted(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets) * WEIGHT


@case()
def loss_reads_global(patch: pytest.MonkeyPatch) -> Setup:
    patch.setattr("tests.training.traced.meddlers.WEIGHT", 1.0)
    return at_epoch(Net(), lambda _: patch.setattr("tests.training.traced.meddlers.WEIGHT", 7.0)) | {"loss": weighted}


def printing(outputs: Tensor, targets: Tensor) -> Tensor:
    print(tick())
    return F.cross_entropy(outputs, targets) * (1 + tick())


@case("has a statement|calls print|uses print")
def loss_prints(_: pytest.MonkeyPatch) -> Setup:
    return {"loss": printing}


@case("partial")
def loss_partial(_: pytest.MonkeyPatch) -> Setup:
    return {"loss": partial(F.cross_entropy, label_smoothing=0.1)}


@case("around it|source")
def loss_closure(_: pytest.MonkeyPatch) -> Setup:
    return {"loss": torch.enable_grad()(printing)}


@case()
def loss_module_changed(_: pytest.MonkeyPatch) -> Setup:
    loss = nn.CrossEntropyLoss()
    return at_epoch(Net(), lambda _: setattr(loss, "label_smoothing", 0.3)) | {"loss": loss}


@case()
def loss_module_weight(_: pytest.MonkeyPatch) -> Setup:
    loss = nn.CrossEntropyLoss(torch.ones(3))
    return at_epoch(Net(), lambda _: setattr(loss, "weight", torch.tensor([1.0, 2.0, 3.0]))) | {"loss": loss}


class Statistics(nn.Module):
    """A loss that keeps statistics of outputs, and a count, in buffers."""

    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3, affine=False)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        count = self.count
        count += 1
        return F.cross_entropy(self.norm(outputs), targets) * (1 + self.count / 100)


@case()
def loss_with_statistics(_: pytest.MonkeyPatch) -> Setup:
    return {"loss": Statistics()}


@case("changes self.seen")
class LossOfNet(Net):
    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        return self.last(self.first(x))


@case("hooks")
def loss_module_hooked(_: pytest.MonkeyPatch) -> Setup:
    loss = nn.CrossEntropyLoss()
    return at_epoch(Net(), lambda _: loss.register_forward_hook(lambda module, inputs, output: output * tick())) | {"loss": loss}


# Optimizers and datasets.


class Touching(torch.optim.SGD):
    net: Any = None

    def step(self, closure: Any = None) -> Any:
        self.net.drop.p = tick() - 1
        return super().step(closure)


@case("your own optimizer")
def optimizer_class(_: pytest.MonkeyPatch) -> Setup:
    net = Net()
    Touching.net = net
    return {"model": net, "optimizer": lambda parameters: Touching(parameters, lr=0.1)}


def _with_step(net: Net, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    step = optimizer.step

    def changed() -> None:
        step()
        net.drop.p = tick() - 1

    optimizer.step = changed
    return optimizer


@case("your own optimizer")
def optimizer_step_replaced(_: pytest.MonkeyPatch) -> Setup:
    net = Net()
    return {"model": net, "optimizer": partial(_with_step, net)}


def _with_hook(net: Net, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    optimizer.register_step_post_hook(lambda *_: setattr(net.drop, "p", tick() - 1))
    return optimizer


@case("your own optimizer")
def optimizer_hook(_: pytest.MonkeyPatch) -> Setup:
    net = Net()
    return {"model": net, "optimizer": partial(_with_hook, net)}


@case("optimizer")
def optimizer_hooked_later(_: pytest.MonkeyPatch) -> Setup:
    net, made = Net(), []

    def make(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        made.append(torch.optim.SGD(parameters, lr=0.1))
        return made[0]

    setup = at_epoch(net, lambda _: made[0].register_step_post_hook(lambda *_: setattr(net.drop, "p", tick() - 1)))
    return setup | {"optimizer": make}


@case("optimizer")
def hook_of_all_optimizers(patch: pytest.MonkeyPatch) -> Setup:
    net = Net()
    hooks = {0: lambda *_: setattr(net.drop, "p", tick() - 1)}
    return at_epoch(net, lambda _: patch.setattr(sys.modules["torch.optim.optimizer"], "_global_optimizer_post_hooks", hooks))


@case()
def optimizer_of_some(_: pytest.MonkeyPatch) -> Setup:
    """The others' gradients are never cleared, and add up."""
    net = Net()
    return {"model": net, "optimizer": lambda _: torch.optim.SGD(net.last.parameters(), lr=0.1)}


@case()
def metric_changes(_: pytest.MonkeyPatch) -> Setup:
    net = Net()

    def metric(predictions: Any, targets: Any) -> float:
        net.drop.p = tick() - 1
        return 0.0

    inputs, targets = numbers()
    return {"model": net, "data": {"train": (inputs, targets), "valid": (inputs[:9], targets[:9])}, "metrics": {"own": metric}}


@case()
def checkpoints_change(_: pytest.MonkeyPatch) -> Setup:
    """Whatever reads the state, in the middle of an epoch, changes the network."""
    net = Net()
    net.register_state_dict_pre_hook(lambda *_: setattr(net.drop, "p", tick() - 1))
    return {"model": net, "checkpoints": Checkpoints(Path(tempfile.mkdtemp()), every=0.0)}


class Labelled(torch.Tensor):
    """Inputs of a class of one's own."""

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        tick()
        return super().__torch_function__(function, types, given, named or {})


@case()
def inputs_of_own_class(_: pytest.MonkeyPatch) -> Setup:
    inputs, targets = numbers()
    return {"data": (inputs.as_subclass(Labelled), targets)}


class Reading(Dataset[Any]):
    def __init__(self, net: Net, noise: Callable[[], float]) -> None:
        self.net = net
        self.noise = noise
        self.inputs, self.targets = numbers()

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, place: int) -> Any:
        self.net.drop.p = place % 4 / 5
        self.net.factor = place / 10
        return self.inputs[place] * self.noise(), int(self.targets[place])


@case("")
def dataset_in_memory(_: pytest.MonkeyPatch) -> Setup:
    net = WithMethods()
    return {"model": net, "data": Reading(net, lambda: 1.0)}


@case("reads examples")
def dataset_items(_: pytest.MonkeyPatch) -> Setup:
    net = WithMethods()
    return {"model": net, "data": load(Reading(net, tick), memory=1e-9)}


@case()
def stop_changes(_: pytest.MonkeyPatch) -> Setup:
    net = Net()

    def stop(done: EpochDone) -> str:
        net.drop.p += 0.1
        net.last.weight.requires_grad_(done.epoch != 1)
        return ""

    return {"model": net, "stop": stop}
