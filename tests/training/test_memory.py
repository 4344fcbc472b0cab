"""What a step needs is estimated from what autograd keeps, and refused only where it clearly does not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from epochal.data.load import load
from epochal.errors import RecipeError, TooLargeError
from epochal.training import memory
from epochal.training.loop import fit
from epochal.training.memory import Footprint, check_memory, measure_footprint
from tests.small import small_recipe

CPU = torch.device("cpu")


def _net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(10, 100), nn.Tanh(), nn.Linear(100, 3))


def _footprint(model: nn.Module, **changes: Any) -> Footprint:
    found = measure_footprint(model, torch.ones(2, 10), small_recipe(**changes), CPU)
    assert found is not None
    return found


WEIGHTS = 4 * (10 * 100 + 100 + 100 * 3 + 3)


def test_what_is_kept_for_backward() -> None:
    # Linear keeps its input, tanh its output, which is the next linear layer's input: 10 + 100 float32.
    assert _footprint(_net()).per_example == 4 * 110


def test_a_lower_precision_copies_weights_which_are_no_examples() -> None:
    # Inputs and outputs are kept as bfloat16, of two bytes.
    assert _footprint(_net(), precision="bf16").per_example == 2 * 110


@pytest.mark.parametrize(
    ("changes", "copies"),
    [
        # Gradients, and the weights of the best epoch, are two.
        ({"optimizer": "sgd"}, 2),
        ({"optimizer": "sgd", "momentum": 0.9}, 3),
        ({"optimizer": "rmsprop", "momentum": 0.9}, 4),
        ({"optimizer": "adagrad"}, 3),
        ({"optimizer": "adamw"}, 4),
        ({"optimizer": "adamw", "ema": 0.9}, 5),
    ],
)
def test_what_is_kept_for_each_weight(changes: dict[str, Any], copies: int) -> None:
    assert _footprint(_net(), **changes).fixed == copies * WEIGHTS


def test_frozen_weights_need_nothing() -> None:
    net = _net()
    net[0].requires_grad_(False)
    assert _footprint(net, optimizer="sgd").fixed == 2 * 4 * 303


def test_the_model_is_left_as_it_was() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(10)
            self.calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            outputs: Tensor = self.norm(x)
            return outputs

    net = Counting()
    assert _footprint(net).per_example > 0
    assert net.calls == 0
    assert net.training
    assert net.norm.num_batches_tracked == 0


def test_where_nothing_is_known_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Uncopied(nn.Linear):
        def __deepcopy__(self, memo: object) -> Uncopied:
            raise TypeError("not this one")

    monkeypatch.setattr(memory, "free_memory", lambda _: 1)
    assert measure_footprint(_net(), torch.ones(1, 10), small_recipe(), CPU) is None
    assert measure_footprint(Uncopied(10, 3), torch.ones(2, 10), small_recipe(), CPU) is None
    check_memory(Uncopied(10, 3), torch.ones(2, 10), 60, small_recipe(), CPU)
    monkeypatch.setattr(memory, "free_memory", lambda _: None)
    check_memory(_net(), torch.ones(2, 10), 60, small_recipe(batch_size=2**31), CPU)


def test_how_many_fit() -> None:
    assert Footprint(10, 100).fitting(200) == 12
    assert Footprint(10, 1000).fitting(200) == 0
    assert Footprint(0, 100).fitting(200) >= 2**31


# 4 * WEIGHTS are 22.4 kB, 440 bytes an example.
@pytest.mark.parametrize(
    ("free", "fix"),
    [
        (30_000, "Set batch_size to 23 or less, or accumulate to 3 or more; or use another device."),
        (20_000, "Use a smaller model or inputs, or another device."),
    ],
)
def test_too_large_a_batch_is_refused_before_training(monkeypatch: pytest.MonkeyPatch, free: int, fix: str) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda _: free)
    data = load((torch.randn(100, 10), torch.arange(100) % 3))
    seen: list[object] = []
    with pytest.raises(TooLargeError) as raised:
        fit(_net(), data, small_recipe(batch_size=64), watchers=[seen.append])
    assert seen == []
    assert isinstance(raised.value, RecipeError)
    assert raised.value.problem == (
        f"A step needs about 50.6 kB, but cpu has {free // 1000} kB free: 440 bytes for each of the examples at once (64), "
        "and 22.4 kB for gradients and the optimizer."
    )
    assert raised.value.fix == fix


@pytest.mark.parametrize("change", [{"batch_size": 23}, {"accumulate": 3}])
def test_the_fix_that_is_told_works(monkeypatch: pytest.MonkeyPatch, change: dict[str, int]) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda _: 30_000)
    data = load((torch.randn(100, 10), torch.arange(100) % 3))
    assert fit(_net(), data, small_recipe(epochs=1, **change)).finished.epochs == 1


def test_a_batch_is_no_larger_than_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda _: 30_000)
    check_memory(_net(), torch.ones(2, 10), 20, small_recipe(batch_size=1000), CPU)
