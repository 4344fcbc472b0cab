"""Batches are the same whether data are resident or streamed, and by however many workers."""

from __future__ import annotations

import random as python_random
import threading
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from epochal.data.examples import Examples
from epochal.data.feed import Batch, Feed, feed
from epochal.data.inputs.picture.augment import Augment
from epochal.data.inputs.picture.rule import PictureRule
from epochal.data.inputs.values import Inputs
from epochal.data.mixing import Mixing
from epochal.data.spec import DataSpec
from epochal.random import key, permutation
from epochal.recipe import AugmentSettings
from epochal.tasks.single_label import SingleLabel
from tests.small import Filed, Slow

CPU = torch.device("cpu")
PIXELS = (torch.arange(13 * 25).reshape(13, 1, 5, 5) % 251).to(torch.uint8)
LABELS = torch.arange(13) * 10


class Jittered(Slow):
    """Each reading draws from all three generators."""

    def read(self, place: int) -> Tensor:
        return super().read(place) + torch.tensor([python_random.random(), float(numpy.random.rand()), float(torch.rand(()))])


def _examples(inputs: Inputs) -> Examples:
    return Examples(inputs, LABELS[: len(inputs)], "train", torch.arange(len(inputs)))


def _same(one: list[Batch], two: list[Batch]) -> bool:
    return len(one) == len(two) and all(
        torch.equal(a, b) for first, second in zip(one, two, strict=True) for a, b in zip(first[:3], second[:3], strict=True)
    )


@given(st.integers(1, 15), st.integers(0, 5), st.integers(0, 5))
def test_an_epoch_has_every_example_once_in_the_order_of_seed_and_epoch(batch_size: int, seed: int, epoch: int) -> None:
    batches = feed(_examples(PIXELS), batch_size, CPU, shuffle_seed=seed)
    got = list(batches.epoch(epoch))
    assert len(got) == len(batches) == -(-13 // batch_size)
    places = torch.cat([batch.places for batch in got])
    assert torch.equal(places, permutation(key(seed, epoch, "order"), 13))
    assert torch.equal(torch.cat([batch.inputs for batch in got]), PIXELS[places])
    assert torch.equal(torch.cat([batch.targets for batch in got]), LABELS[places])
    assert [len(batch.targets) for batch in got[:-1]] == [batch_size] * (len(got) - 1)


@pytest.mark.parametrize("inputs", [PIXELS, Slow(PIXELS), Filed(PIXELS)])
def test_without_a_seed_examples_keep_their_order(inputs: Inputs) -> None:
    for epoch in (0, 1):
        batches = list(feed(_examples(inputs), 4, CPU).epoch(epoch))
        assert torch.cat([batch.places for batch in batches]).tolist() == list(range(13))


AUGMENTS: list[Callable[[], Augment | None]] = [lambda: None, lambda: Augment(AugmentSettings(shift=2, flip=True), 3)]


@pytest.mark.parametrize("make_augment", AUGMENTS, ids=["plain", "augmented"])
@pytest.mark.parametrize("start", [0, 2, 4])
def test_resident_and_streamed_batches_are_the_same(make_augment: Callable[[], Augment | None], start: int) -> None:
    def batches(inputs: Inputs, number: int) -> list[Batch]:
        whole = feed(_examples(inputs), 4, CPU, shuffle_seed=1, augment=make_augment())
        return list(whole.epoch(number, start))

    for epoch in (1, 2):
        resident = batches(PIXELS, epoch)
        assert len(resident) == 4 - start
        assert _same(resident, batches(Slow(PIXELS), epoch))
        assert _same(resident, batches(Filed(PIXELS), epoch))
    # A start in the middle gives the rest of the same epoch.
    whole = list(feed(_examples(PIXELS), 4, CPU, shuffle_seed=1, augment=make_augment()).epoch(2))
    assert _same(whole[start:], resident)


EVERYTHING = AugmentSettings(
    shift=1, flip=True, rotate=15, scale=0.1, shear=5, brightness=0.2, contrast=0.2, policy="rand", erase=0.5, mixup=0.4, cutmix=1
)
SPEC = DataSpec(
    name="made", task=SingleLabel(outputs=tuple(map(str, range(121)))),
    input=PictureRule(shape=(1, 5, 5), mean=(0.5,), std=(0.2,)), counts={"train": 13}, fingerprint="0",
)  # fmt: skip


def _mixed(inputs: Inputs, epoch: int, batch_size: int = 4, start: int = 0, workers: int = 0) -> list[Batch]:
    augment, mixing = Augment(EVERYTHING, 3), Mixing(EVERYTHING, SPEC, 3)
    made = feed(_examples(inputs), batch_size, CPU, shuffle_seed=1, augment=augment, mixing=mixing, workers=workers)
    return list(made.epoch(epoch, start))


@pytest.mark.parametrize("workers", [0, 2])
def test_mixtures_are_the_same_resident_and_streamed(workers: int) -> None:
    resident = _mixed(PIXELS, 1)
    assert _same(resident, _mixed(Slow(PIXELS), 1, workers=workers))
    assert _same(resident, _mixed(Filed(PIXELS), 1, workers=workers))
    assert _same(resident[1:], _mixed(Filed(PIXELS), 1, start=1))
    assert _same(resident[2:], _mixed(Slow(PIXELS), 1, start=2, workers=workers))
    assert _same(resident[3:], _mixed(PIXELS, 1, start=3))
    assert not _same(resident, _mixed(PIXELS, 2))


@given(st.integers(1, 15))
def test_mixtures_do_not_depend_on_the_size_of_batches(batch_size: int) -> None:
    batches, whole = _mixed(PIXELS, 1, batch_size), _mixed(PIXELS, 1, 13)[0]
    assert [len(batch.inputs) for batch in batches] == [len(batch.places) for batch in batches] == [len(batch.targets) for batch in batches]
    for parts, together in zip(zip(*(batch[:3] for batch in batches), strict=True), whole[:3], strict=True):
        assert torch.equal(torch.cat(parts), together)


def test_each_example_is_mixed_with_the_next_and_the_last_with_the_first() -> None:
    batches = _mixed(PIXELS, 1)
    places = torch.cat([batch.places for batch in batches])
    assert torch.equal(places, permutation(key(1, 1, "order"), 13))
    targets = torch.cat([batch.targets for batch in batches])
    torch.testing.assert_close(targets.sum(1), torch.ones(13))
    for target, own, other in zip(targets, LABELS[places].tolist(), LABELS[places.roll(-1)].tolist(), strict=True):
        assert float(target[own] + target[other]) == pytest.approx(1)


def test_a_single_example_is_mixed_with_itself() -> None:
    (batch,) = _mixed(PIXELS[:1], 1)
    assert batch.targets[0, 0] == 1


def _by_place(batches: list[Batch]) -> dict[int, Any]:
    return {int(place): value.tolist() for batch in batches for place, value in zip(batch.places, batch.inputs, strict=True)}


def _jittered_feed(batch_size: int = 4, seed: int = 1, workers: int = 0) -> Feed:
    return feed(_examples(Jittered(torch.zeros(13, 3))), batch_size, CPU, shuffle_seed=seed, workers=workers)


def test_workers_change_nothing() -> None:
    alone = list(_jittered_feed().epoch(1))
    assert _same(alone, list(_jittered_feed(workers=2).epoch(1)))
    assert _same(alone[1:], list(_jittered_feed(workers=1).epoch(1, 1)))


def test_random_transforms_are_a_function_of_seed_epoch_and_place() -> None:
    first = _by_place(list(_jittered_feed().epoch(1)))
    assert _by_place(list(_jittered_feed(batch_size=7).epoch(1))) == first
    # No two examples, epochs or seeds draw the same, in any of the three generators.
    others = [first, _by_place(list(_jittered_feed().epoch(2))), _by_place(list(_jittered_feed(seed=2).epoch(1)))]
    for column in range(3):
        assert len({values[place][column] for values in others for place in range(13)}) == 39


def test_shuffling_does_not_change_what_an_example_becomes() -> None:
    plain = feed(_examples(Jittered(torch.zeros(13, 3))), 5, CPU)
    shuffled = feed(_examples(Jittered(torch.zeros(13, 3))), 5, CPU, shuffle_seed=0)
    assert _by_place(list(plain.epoch(3))) == _by_place(list(shuffled.epoch(3)))


@pytest.mark.parametrize("workers", [0, 1])
def test_global_generators_are_left_alone(workers: int) -> None:
    def states() -> tuple[Any, ...]:
        return python_random.getstate(), str(numpy.random.get_state(legacy=False)), torch.get_rng_state().tolist()

    before = states()
    list(_jittered_feed(workers=workers).epoch(1))
    list(feed(_examples(PIXELS), 4, CPU, shuffle_seed=1, augment=Augment(AugmentSettings(shift=1, flip=True), 0)).epoch(1))
    assert states() == before


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_reading_comes_through(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # So long PyTorch waits for a process that has failed.
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2)

    class Broken(Slow):
        def read(self, place: int) -> Tensor:
            if place == 7:
                raise ValueError("the file of 7 is damaged")
            return super().read(place)

    with pytest.raises(ValueError, match="the file of 7 is damaged"):
        list(feed(_examples(Broken(PIXELS)), 4, CPU, workers=workers).epoch(0))


def test_an_error_in_reading_ahead_comes_in_its_turn() -> None:
    class Broken(Filed):
        def __getitem__(self, index: Tensor) -> Tensor:
            if 7 in index:
                raise ValueError("the file of 7 is damaged")
            return super().__getitem__(index)

    batches = feed(_examples(Broken(PIXELS)), 4, CPU).epoch(0)
    assert torch.equal(next(batches).inputs, PIXELS[:4])
    with pytest.raises(ValueError, match="the file of 7 is damaged"):
        next(batches)


def test_an_epoch_that_is_left_early_ends_its_thread() -> None:
    # Threads of earlier tests may end meanwhile.
    before = set(threading.enumerate())
    batches = feed(_examples(Filed(PIXELS)), 2, CPU).epoch(0)
    next(batches)
    (reader,) = (thread for thread in set(threading.enumerate()) - before if thread.name.startswith("ThreadPoolExecutor"))
    del batches
    assert not reader.is_alive()


def test_only_one_batch_is_read_ahead() -> None:
    class Counted(Filed):
        read = 0

        def __getitem__(self, index: Tensor) -> Tensor:
            self.read += len(index)
            return super().__getitem__(index)

    inputs = Counted(PIXELS)
    batches = feed(_examples(inputs), 2, CPU).epoch(0)
    next(batches)
    assert inputs.read <= 4
    batches.close()  # type: ignore[attr-defined]


def test_batches_are_copies() -> None:
    examples = _examples(PIXELS.clone())
    for batch in feed(examples, 4, CPU).epoch(0):
        batch.inputs.zero_()
        batch.targets.zero_()
    assert torch.equal(examples.input(3), PIXELS[3])
    assert torch.equal(examples.targets, LABELS)
