"""What training checks before its first step, and which epoch's weights it keeps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from epochal.data.feed import feed
from epochal.data.load import load
from epochal.data.spec import DataSpec
from epochal.errors import EpochalError, ModelError, RecipeError
from epochal.recipe import Recipe
from epochal.training.build import build_training, training_feed
from epochal.training.own import Own
from epochal.training.state import Training
from tests.small import small_net

SpecMaker = Callable[..., DataSpec]
CPU = torch.device("cpu")


def _built(model: nn.Module, what: Any, *, loss: Any = None, optimizer: Any = None, **changes: Any) -> Training:
    data, recipe = load(what), Recipe().updated({"threads": 1} | changes)
    batches = feed(data.train, recipe.examples_per_step, CPU, shuffle_seed=recipe.seed)
    return build_training(model, batches, data.spec, recipe, CPU, Own(loss, optimizer))


def _refused(kind: type[EpochalError], model: nn.Module, what: Any, **changes: Any) -> str:
    with pytest.raises(kind) as raised:
        _built(model, what, **changes)
    return str(raised.value)


def _numbers(count: int) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 2), torch.arange(count) % 3


def test_a_device_without_float64_is_refused_where_it_is_needed() -> None:
    data = load((1.7e9 + torch.arange(20, dtype=torch.float64)[:, None] / 20, torch.arange(20) % 2))
    told = "These data need float64, which the device mps does not have.\nUse --device cpu, or shift them closer to 0."
    with pytest.raises(RecipeError) as raised:
        training_feed(data.train, data.spec, Recipe(), torch.device("mps"))
    assert str(raised.value) == told


def test_steps_are_counted(blobs: tuple[Tensor, Tensor]) -> None:
    assert _built(small_net(), blobs, batch_size=7, epochs=3).total_steps == 27
    assert _built(small_net(), blobs, batch_size=7, epochs=3, max_steps=5).total_steps == 5
    assert _built(small_net(), blobs, batch_size=7, epochs=3, max_steps=500).total_steps == 27
    assert _built(small_net(), blobs).deadline == math.inf


def test_what_cannot_work(blobs: tuple[Tensor, Tensor]) -> None:
    quantities = (blobs[0], blobs[0][:, 0])
    assert _refused(RecipeError, nn.Linear(2, 1), quantities, monitor="accuracy") == (
        "The setting monitor = accuracy does not work for regression.\nUse monitor = loss."
    )
    assert _refused(RecipeError, small_net(), blobs, precision="fp16") == (
        "The setting precision = fp16 does not work on cpu.\nUse precision = bf16 or fp32."
    )
    assert _refused(RecipeError, nn.Sequential(nn.Linear(2, 3)).requires_grad_(False), blobs) == (
        "The model has no parameters to train.\nGive it layers with weights."
    )
    assert _refused(ModelError, nn.Linear(2, 4), blobs).startswith("For 2 inputs the model gives outputs of shape (2, 4);")
    assert _refused(ModelError, nn.Linear(5, 3), blobs).startswith("The model cannot take inputs of shape 2: ")
    assert _refused(RecipeError, small_net(), blobs, **{"loss.name": "mse"}).startswith("The loss mse is not for single-label targets.")
    with pytest.raises(RecipeError, match="The loss nll needs log-probabilities"):
        _built(small_net(), blobs, **{"loss.name": "nll"})


class _Plain:
    """An optimizer that has nothing but what training asks of one."""

    def __init__(self, parameters: Any) -> None:
        self.parameters = list(parameters)

    def step(self) -> None: ...

    def zero_grad(self) -> None: ...


def test_own_optimizer_and_schedule(blobs: tuple[Tensor, Tensor]) -> None:
    for changes in ({"schedule": "one-cycle"}, {"schedule": "constant", "warmup": 1}):
        with pytest.raises(RecipeError) as raised:
            _built(small_net(), blobs, optimizer=_Plain, **changes)
        assert (
            str(raised.value) == "An optimizer without param_groups, each with its lr, cannot follow a schedule.\nSet schedule = constant."
        )
    assert _built(small_net(), blobs, optimizer=_Plain, schedule="constant").rates == []


def test_own_optimizer_gets_what_can_be_trained(blobs: tuple[Tensor, Tensor]) -> None:
    model = small_net()
    model[0].requires_grad_(False)
    training = _built(model, blobs, optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.5))
    assert training.rates == [0.5]
    groups = training.optimizer.param_groups  # type: ignore[attr-defined]
    assert [parameter.shape for parameter in groups[0]["params"]] == [(3, 8), (3,)]


@pytest.mark.parametrize(
    ("count", "changes", "meets_one"),
    [
        (21, {"batch_size": 20}, True),
        (22, {"batch_size": 20}, False),
        (20, {"batch_size": 20}, False),
        (20, {"batch_size": 1}, True),
        (21, {"batch_size": 100}, False),
        # 20 in 19 parts: ten of two.
        (20, {"batch_size": 20, "accumulate": 19}, False),
        (20, {"batch_size": 20, "accumulate": 20}, True),
        # 5 in 4 parts: 2, 2 and 1.
        (20, {"batch_size": 5, "accumulate": 4}, True),
        # The last batch is never reached.
        (21, {"batch_size": 20, "max_steps": 1}, False),
        (21, {"batch_size": 20, "max_steps": 2}, True),
    ],
)
def test_single_example_and_batch_norm(count: int, changes: dict[str, int], meets_one: bool) -> None:
    model = small_net(nn.BatchNorm1d(8))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    if meets_one:
        told = _refused(RecipeError, model, _numbers(count), **changes)
        batch_size, accumulate = changes["batch_size"], changes.get("accumulate", 1)
        assert told == (
            f"With {count} training examples, batch_size = {batch_size} and accumulate = {accumulate} the model would be given a single "
            "example, which it cannot train on: Expected more than 1 value per channel when training, got input size torch.Size([1, 8]).\n"
            "Choose another batch_size (or accumulate), so that at least two are together."
        )
    else:
        _built(model, _numbers(count), **changes)
    # The check leaves no trace, and does not disturb models that can train on one.
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    _built(small_net(), _numbers(count), **changes)


def test_single_picture_and_batch_norm(pictures: tuple[Tensor, Tensor]) -> None:
    # Over the pixels of one picture there are statistics.
    class Scaled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x / 255

    model = nn.Sequential(Scaled(), nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 2))
    statistics = model[1].running_mean.clone()  # type: ignore[operator]
    _built(model, pictures, batch_size=23)
    assert torch.equal(model[1].running_mean, statistics)  # type: ignore[arg-type]
