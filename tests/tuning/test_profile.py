"""The phases of a step add up, and its floor is its own arithmetic."""

from __future__ import annotations

import copy
import gc
import json
import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from epochal.data.feed import Batch
from epochal.data.load import Data, load
from epochal.device import PeakMemory
from epochal.errors import RecipeError
from epochal.training.build import build_training, training_feed
from epochal.training.loop import train_step
from epochal.training.state import Training
from epochal.tuning.profile import PHASES, Profile, _Recorder, arithmetic, profile
from tests.small import small_net, small_recipe
from tests.timing import in_one_of

CPU = torch.device("cpu")


@pytest.fixture
def data(blobs: tuple[Tensor, Tensor]) -> Data:
    return load(blobs)


def _training(model: nn.Module, data: Data, **changes: Any) -> tuple[Training, Batch]:
    recipe = small_recipe(**changes)
    batches = training_feed(data.train, data.spec, recipe, CPU)
    return build_training(model, batches, data.spec, recipe, CPU), next(batches.epoch(1))


def test_all_of_a_profile(data: Data) -> None:
    net = small_net()
    before = copy.deepcopy(net.state_dict())
    found = profile(net, data, small_recipe(), 0.02)
    assert (found.device, found.threads, found.batch_size) == ("cpu", 1, 16)
    assert found.examples_per_second > 0
    assert found.seconds_per_epoch == pytest.approx(60 / found.examples_per_second)
    assert tuple(found.shares) == PHASES
    assert sum(found.shares.values()) == pytest.approx(1)
    assert all(share > 0 for share in found.shares.values())
    assert found.floor is not None
    assert found.times_floor == pytest.approx(found.floor / found.examples_per_second)
    assert json.loads(json.dumps(found.to_json()))["times_floor"] == found.times_floor
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("phase", PHASES)
def test_each_phase_is_charged_for_what_it_does(phase: str, accumulate: int, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            if phase == "forward":
                time.sleep(0.08)
            return x * 1

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            if phase == "backward":
                time.sleep(0.08)
            return gradient

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = small_net()

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = Slow.apply(self.net(x))  # type: ignore[no-untyped-call]
            return found

    def step(training: Training, batch: Batch) -> None:
        train_step(training, batch)
        if phase == "optimizer":
            time.sleep(0.08)

    monkeypatch.setattr("epochal.tuning.profile.train_step", step)

    class Reading(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
        def __len__(self) -> int:
            return 60

        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            if phase == "feed":
                time.sleep(0.005)
            inputs = data.train.inputs
            assert isinstance(inputs, Tensor)
            # What differs at each reading is read again for each batch.
            return inputs[index] + torch.rand(2), data.train.targets[index]

    def measure() -> None:
        found = profile(Net(), load(Reading()), small_recipe(accumulate=accumulate), 0.02)
        assert max(found.shares, key=lambda name: found.shares[name]) == phase

    in_one_of(3, measure)


def test_arithmetic_is_that_of_the_step(data: Data) -> None:
    training, batch = _training(small_net(), data)
    with _Recorder() as recorder:
        train_step(training, batch)
    shapes = [[tuple(value.shape) for value in arguments if isinstance(value, Tensor)] for _, arguments, _ in recorder.calls]
    # Forward with the bias: two products; backward: the second layer's weights and inputs, the first layer's weights.
    assert shapes[:2] == [[(8,), (16, 2), (2, 8)], [(3,), (16, 8), (8, 3)]]
    assert sorted(shapes[2:]) == [[(3, 16), (16, 8)], [(8, 16), (16, 2)], [(16, 3), (3, 8)]]


def test_convolutions_too(pictures: tuple[Tensor, Tensor]) -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.float() / 255

    training, batch = _training(nn.Sequential(Scaled(), nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2)), load(pictures))
    with _Recorder() as recorder:
        train_step(training, batch)
    names = [str(operation) for operation, _, _ in recorder.calls]
    assert names[0] == "aten.convolution.default"
    assert names[-1] == "aten.convolution_backward.default"
    assert (arithmetic(training, batch, 0.001) or 0) > 0


def test_stand_ins_lie_in_memory_as_what_they_stand_for() -> None:
    with _Recorder() as recorder:
        torch.ones(3, 4).T @ torch.ones(3, 1).expand(3, 5)
        torch.ones(0, 4) @ torch.ones(4, 2)
    left, right = recorder.calls[0][1]
    assert (left.shape, left.stride()) == ((4, 3), (1, 4))
    assert (right.shape, right.stride()) == ((3, 5), (1, 0))
    assert not torch.equal(left, torch.ones(4, 3))
    assert recorder.calls[1][1][0].shape == (0, 4)


def test_without_products_there_is_no_floor(data: Data) -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return x[:, :1] * self.weight

    training, batch = _training(Scale(), data)
    assert arithmetic(training, batch, 0.001) is None
    assert Profile("cpu", 1, 16, 10.0, 6.0, {}, None, None).times_floor is None


def test_the_global_state_is_left_alone(data: Data) -> None:
    net = nn.Sequential(small_net(), nn.Dropout(0.1))
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    profile(net, data, small_recipe(threads=2), 0.001)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_settings_that_cannot_work_are_refused(data: Data) -> None:
    with pytest.raises(RecipeError, match="The loss mse is not for"):
        profile(small_net(), data, small_recipe(loss="mse"), 0.001)


def test_peak_memory() -> None:
    # What earlier tests have left is freed before, and not meanwhile.
    gc.collect()
    watched = PeakMemory(CPU)
    peak = watched.read()
    if peak is None:
        pytest.skip("this system does not say")
    held = torch.ones(200_000_000, dtype=torch.uint8)
    assert (watched.read() or 0) > peak + 20_000_000
    del held
    assert (PeakMemory(CPU).read() or 0) < (watched.read() or 0) + 20_000_000
    assert PeakMemory(torch.device("mps")).read() is None


def test_peak_memory_that_nobody_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("epochal.device.Path.write_text", refuse)
    assert PeakMemory(CPU).read() is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu(data: Data) -> None:
    found = profile(small_net(), data, small_recipe(device="cuda"), 0.1)
    assert found.peak_bytes is not None
    assert found.floor is not None
    assert sum(found.shares.values()) == pytest.approx(1)
