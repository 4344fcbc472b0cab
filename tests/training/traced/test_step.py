"""When a step is traced, and when it is not: refused, changed on the way, too rare, too long."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from epochal.data.load import load
from epochal.errors import RecipeError
from epochal.training.loop import fit
from epochal.training.records import EpochDone, Record
from epochal.training.traced import step as traced_step
from epochal.training.traced.step import TracedStep
from tests.small import Slow, small_net, small_recipe, stateful_net
from tests.training.traced.comparing import differences, trained, weights

Arrays = tuple[Tensor, Tensor]


class Deciding(nn.Module):
    """What it does depends on a value."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            x = -x
        outputs: Tensor = self.layer(x)
        return outputs


class OwnSGD(torch.optim.SGD):
    """An optimizer that might do anything."""


def _hooked() -> nn.Module:
    net = small_net()
    net[0].register_forward_hook(lambda *_: None)
    return net


def _average() -> nn.Module:
    return small_net(nn.BatchNorm1d(8, momentum=None))


# What is trained, the recipe's changes, the user's own functions, and why that cannot be traced.
REFUSED: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], dict[str, Any], str]] = {
    "compiled": (small_net, {"compile": "on"}, {}, "the model is compiled"),
    "own schedule": (small_net, {}, {"schedule": lambda step: 1.0}, "your own schedule may change the model in any step"),
    "own optimizer": (
        small_net, {}, {"optimizer": lambda parameters: OwnSGD(parameters, lr=0.1)}, "your own optimizer may change the model in any step",
    ),
    "hooks": (_hooked, {}, {}, "Linear has hooks"),
    "branches": (Deciding, {}, {}, r"Deciding.forward branches on values: x.sum\(\) > 0 \(test_step.py, line \d+\)"),
    "own loss": (small_net, {}, {"loss": lambda outputs, targets: functional.cross_entropy(outputs, targets)}, r".*lambda.*"),
    # These are only noticed when the step is recorded.
    "reads a value": (_average, {}, {}, "Python reads a value of a tensor"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_the_reason_against_a_traced_step_is_told(blobs: Arrays, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    make, changes, own, reason = REFUSED[name]
    if name == "compiled":
        monkeypatch.setattr(torch, "compile", lambda model, **_: model)
    recipe = small_recipe(**changes)
    with pytest.raises(RecipeError, match=rf"^The step cannot be traced: {reason}\.\nUse step = auto\.$"):
        fit(make(), blobs, recipe.updated({"step": "traced"}), **own)
    plain, _, model = trained(make, blobs, recipe, "plain", **own)
    auto, history, other = trained(make, blobs, recipe, "auto", **own)
    assert auto.traced == 0
    assert history.finished.untraced
    assert differences(plain.state, auto.state) == []
    assert differences(weights(model), weights(other)) == []


def test_data_that_are_read_by_code_of_the_user(blobs: Arrays) -> None:
    data = load(blobs)
    data = replace(data, train=replace(data.train, inputs=Slow(blobs[0])))
    with pytest.raises(RecipeError, match="cannot be traced: code of your own reads examples between steps"):
        fit(small_net(), data, small_recipe(step="traced"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_steps_on_a_gpu_are_plain(blobs: Arrays) -> None:
    with pytest.raises(RecipeError, match="cannot be traced: steps are traced on the CPU only, not on cuda"):
        fit(small_net(), blobs, small_recipe(step="traced", device="cuda"))


def _net() -> nn.Module:
    return small_net(nn.Dropout(0.3), nn.BatchNorm1d(8))


def _replace_weight(net: Any) -> None:
    net[0].weight.data = net[0].weight.data * 2


def _replace_layer(net: Any) -> None:
    net[3] = nn.Tanh()


CHANGES: dict[str, Callable[[Any], object]] = {
    "a setting of a layer": lambda net: setattr(net[1], "p", 0.6),
    "a number of a layer": lambda net: setattr(net[2], "momentum", 0.5),
    "a weight elsewhere in memory": _replace_weight,
    "a value of a weight": lambda net: net[0].weight.data.mul_(0.5),
    "another layer": _replace_layer,
    "a frozen layer": lambda net: net[0].requires_grad_(False),
    "a hook": lambda net: net[4].register_forward_hook(lambda module, inputs, output: output * 2),
    "a hook for gradients": lambda net: net[4].weight.register_hook(lambda gradient: gradient * 2),
    "another forward": lambda net: setattr(net[3], "forward", torch.sigmoid),
    "the order": lambda net: net.append(net.pop(3)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes_between_epochs_are_followed(blobs: Arrays, name: str) -> None:
    found = []
    for kind in ("plain", "auto"):
        model = _net()

        def change(record: Record, model: nn.Module = model) -> None:
            if isinstance(record, EpochDone) and record.epoch == 2:
                CHANGES[name](model)

        found.append(trained(lambda model=model: model, blobs, small_recipe(epochs=4, batch_size=10), kind, watchers=[change]))  # type: ignore[misc]
    (plain, _, model), (auto, _, other) = found
    assert differences(weights(model), weights(other)) == []
    assert differences(plain.state, auto.state) == []
    # Of six steps in an epoch, three were plain.
    assert auto.traced >= 9


def test_a_function_of_pytorch_that_is_replaced_during_training_counts(blobs: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    real, found = functional.relu, []
    for kind in ("plain", "auto"):
        monkeypatch.setattr(functional, "relu", real)

        def replace(record: Record) -> None:
            if isinstance(record, EpochDone) and record.epoch == 2:
                monkeypatch.setattr(functional, "relu", lambda x, inplace=False: real(x, inplace) * 2)

        found.append(trained(_net, blobs, small_recipe(epochs=4, batch_size=10), kind, watchers=[replace])[0])
    assert differences(found[0].state, found[1].state) == []
    assert found[1].traced == 9


def test_tensors_that_a_layer_holds_on_to_are_compared_by_identity() -> None:
    net = small_net()
    net.pair = (torch.ones(2),)  # type: ignore[assignment]
    made = TracedStep(net, _loss_of(net), insists=True)
    batch = torch.randn(6, 2), torch.arange(6) % 3
    assert [made(*batch, None) is not None for _ in range(5)] == [False] * 3 + [True] * 2
    net.pair = (torch.ones(2),)  # type: ignore[assignment]
    made.check()
    assert made(*batch, None) is not None


def test_changes_of_the_own_loss_are_followed(blobs: Arrays) -> None:
    found = []
    for kind in ("plain", "traced"):
        loss = nn.CrossEntropyLoss()

        def change(record: Record, loss: nn.CrossEntropyLoss = loss) -> None:
            if isinstance(record, EpochDone) and record.epoch == 2:
                loss.label_smoothing = 0.3

        found.append(trained(_net, blobs, small_recipe(epochs=4, batch_size=10), kind, watchers=[change], loss=loss))
    assert differences(found[0][0].state, found[1][0].state) == []
    assert found[1][0].traced == 21


def _loss_of(net: nn.Module) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    def loss_of(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        outputs = net(x)
        return functional.cross_entropy(outputs, y), outputs

    return loss_of


def _steps(net: nn.Module, count: int, **options: Any) -> list[bool]:
    """Make steps on batches of 6, 4, 6, 4, ..., and return which were traced."""
    made = TracedStep(net, _loss_of(net), **options)
    return [made(torch.randn(size, 2), torch.arange(size) % 3, None) is not None for size in (6, 4) * count]


def test_a_shape_is_recorded_when_it_comes_up_for_the_fourth_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traced_step, "LONG", 1e9)
    assert _steps(small_net(), 5) == [False] * 6 + [True] * 4


def test_long_steps_stay_plain_unless_the_user_insists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traced_step, "LONG", 0.0)
    assert _steps(small_net(), 5) == [False] * 10
    assert _steps(small_net(), 5, insists=True) == [False] * 6 + [True] * 4


def test_a_traced_step_runs_neither_modules_nor_autograd() -> None:
    net = stateful_net()
    made = TracedStep(net, _loss_of(net), insists=True)
    watched = {torch.Tensor.backward.__code__: 0, nn.Module._call_impl.__code__: 0, torch.autograd.grad.__code__: 0}

    def look(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code in watched:
            watched[frame.f_code] += 1

    counts = []
    for _ in range(6):
        sys.setprofile(look)
        made(torch.randn(6, 2), torch.arange(6) % 3, None)
        sys.setprofile(None)
        counts.append(tuple(watched.values()))
    backward, modules, grad = counts[3]
    assert counts == [(0, 0, 0)] * 3 + [(backward, modules, grad)] * 3
    assert (backward, grad) == (1, 2)
    assert modules > 0


class InPlace(nn.Module):
    """Changes its inputs, a weight and its statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.SiLU(inplace=True)
        self.embedding = nn.Embedding(6, 8, max_norm=0.1)
        self.norm = nn.BatchNorm1d(8)
        self.last = nn.Linear(10, 3)
        self.unused = nn.Parameter(torch.ones(3))
        self.register_buffer("ones", torch.ones(1).expand(4))

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[0])
        x = self.first(x)
        outputs: Tensor = self.last(torch.cat([x, functional.dropout(self.norm(self.embedding(places)), 0.3, self.training)], dim=1))
        return outputs


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("share", [None, 0.25, torch.tensor(0.3)], ids=str)
def test_recording_leaves_everything_as_a_step_leaves_it(begun: bool, share: Any) -> None:
    torch.manual_seed(0)
    net = InPlace()
    other = copy.deepcopy(net)
    made = TracedStep(net, _loss_of(net), insists=True)
    labels = torch.arange(6) % 3
    for step in range(6):
        x = torch.randn(6, 2)
        x_too = x.clone()
        if begun:
            # The gradient of an earlier part of the batch.
            for one in (net, other):
                for parameter in one.parameters():
                    parameter.grad = torch.full_like(parameter, 0.5)
        torch.manual_seed(step)
        found = made(x, labels, share)
        if found is None:
            loss, outputs = _loss_of(net)(x, labels)
            loss = loss if share is None else loss * share
            loss.backward()
        else:
            loss, outputs = found
        state = torch.get_rng_state()
        torch.manual_seed(step)
        wanted, wanted_outputs = _loss_of(other)(x_too, labels)
        wanted = wanted if share is None else wanted * share
        wanted.backward()
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(loss, wanted)
        assert torch.equal(outputs, wanted_outputs)
        assert torch.equal(x, x_too)
        assert differences(weights(net), weights(other)) == []
        gradients = [{name: parameter.grad for name, parameter in one.named_parameters()} for one in (net, other)]
        assert differences(*gradients) == []
        assert (gradients[0]["unused"] is None) != begun
        for one in (net, other):
            with torch.no_grad():
                for parameter in one.parameters():
                    parameter.sub_(0.0 if parameter.grad is None else parameter.grad, alpha=0.5)
                    parameter.grad = None
    assert not made.why_not


def test_whatever_recording_raises_the_plain_step_goes_on(blobs: Arrays) -> None:
    def net() -> nn.Module:
        torch.manual_seed(0)
        return Remembering()

    plain, _, _ = trained(net, blobs, small_recipe(), "plain")
    auto, history, _ = trained(net, blobs, small_recipe(), "auto")
    assert history.finished.untraced.startswith("recording fails: ")
    assert auto.traced == 0
    assert differences(plain.state, auto.state) == []


class Remembering(nn.Module):
    """PyTorch does not let its LSTM be repeated outside of autograd."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.LSTM(1, 4, batch_first=True)
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x, _ = self.net(x.unsqueeze(2))
        outputs: Tensor = self.last(x[:, -1])
        return outputs
