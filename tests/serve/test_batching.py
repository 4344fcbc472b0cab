"""Requests are computed together, in order, by priority, and not at all if nobody waits for them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from epochal.serve.batching import Batcher, Lane, Pace


class Slow:
    """Takes `each` seconds for an input, and returns the double of its inputs; notes its batches."""

    def __init__(self, each: float = 0.0) -> None:
        self.each = each
        self.batches: list[list[float]] = []

    def __call__(self, inputs: Tensor) -> Tensor:
        time.sleep(self.each * len(inputs))
        self.batches.append(inputs[:, 0].tolist())
        if (inputs < 0).any():
            raise ValueError("negative")
        return inputs * 2


class Held(Slow):
    """Computes so many batches, once it is let: who asks meanwhile, or not any more, does not depend on how fast the machine is."""

    def __init__(self) -> None:
        super().__init__()
        self._began, self._may = threading.Event(), threading.Semaphore(0)

    def __call__(self, inputs: Tensor) -> Tensor:
        self._began.set()
        assert self._may.acquire(timeout=60)
        return super().__call__(inputs)

    async def begun(self) -> None:
        """Wait until the first batch has begun."""
        assert await asyncio.to_thread(self._began.wait, 60)

    def let(self, batches: int) -> None:
        self._may.release(batches)


class Known(Pace):
    """A pace that no batch changes."""

    def __init__(self, each: float, once: float) -> None:
        super().__init__()
        self.each, self.once = each, once

    def add(self, count: int, seconds: float) -> None:
        pass


@contextmanager
def running(lanes: dict[str, Lane]) -> Iterator[Batcher]:
    batcher = Batcher(lanes)
    batcher.start()
    try:
        yield batcher
    finally:
        batcher.close()


def numbers(*values: float) -> Tensor:
    return torch.tensor(values)[:, None]


@pytest.mark.parametrize(("each", "once"), [(1e-3, 5e-3), (1e-5, 2e-3), (1e-2, 0.0), (1e-4, 1e-4)])
def test_the_pace_is_learned(each: float, once: float) -> None:
    pace = Pace()
    for _ in range(3):
        for count in (1, 3, 9, 40):
            pace.add(count, each * count + once)
    assert pace.each == pytest.approx(each, rel=0.01)
    assert pace.once == pytest.approx(once, rel=0.01, abs=1e-6)
    # It follows a machine that becomes half as fast.
    for _ in range(60):
        for count in (1, 3, 9, 40):
            pace.add(count, 2 * (each * count + once))
    assert pace.seconds(10) == pytest.approx(2 * (10 * each + once), rel=0.05)


def test_one_size_alone_says_something_too() -> None:
    pace = Pace()
    for _ in range(10):
        pace.add(4, 0.02)
    assert pace.seconds(4) == pytest.approx(0.02)
    pace.add(1, 0.0)
    assert pace.each > 0


@pytest.mark.parametrize(
    ("each", "once", "most", "size"),
    [(1e-3, 1e-3, 256, 9), (1e-6, 1e-2, 256, 256), (1e-2, 0.0, 256, 1), (1e-3, 2e-2, 256, 80), (1.0, 9.0, 256, 1)],
)
def test_batches_are_as_large_as_pays(each: float, once: float, most: int, size: int) -> None:
    lane = Lane(Slow(), most)
    for count in (1, 8, 64):
        lane.pace.add(count, each * count + once)
    assert lane.size == pytest.approx(size, abs=1)
    assert lane.wait == 0


def test_a_batch_waits_only_while_others_are_expected() -> None:
    lane = Lane(Slow(), 256)
    for count in (1, 8, 64):
        lane.pace.add(count, 1e-4 * count + 4e-3)
    for place in range(100):
        lane.asked(place * 1e-3)
    assert lane.wait == pytest.approx(4e-3, rel=0.1)
    for place in range(100):
        lane.asked(1 + place * 1e-1)
    assert lane.wait == 0


def test_what_comes_meanwhile_is_computed_together() -> None:
    model = Held()
    lane = Lane(model, 256)
    lane.pace = Known(each=1e-6, once=0.05)
    with running({"a": lane}) as batcher:

        async def ask() -> list[Tensor]:
            first = asyncio.ensure_future(batcher.compute("a", numbers(0, 1, 2)))
            await model.begun()
            others = [asyncio.ensure_future(batcher.compute("a", numbers(*range(place, place + 3)))) for place in range(1, 20)]
            await asyncio.sleep(0)
            model.let(2)
            return await asyncio.gather(first, *others)

        found = asyncio.run(ask())
    assert all(torch.equal(outputs, 2 * numbers(*range(place, place + 3))) for place, outputs in enumerate(found))
    assert list(map(len, model.batches)) == [3, 19 * 3]


def test_quick_models_are_computed_by_the_event_loop_in_short_batches() -> None:
    threads = set[str]()

    def compute(inputs: Tensor) -> Tensor:
        threads.add(threading.current_thread().name)
        if (inputs < 0).any():
            raise ValueError("negative")
        return inputs * 2

    lane = Lane(compute, 256)
    lane.warm_up(numbers(1.0), may_be_quick=True)
    assert lane.is_quick
    lane.pace.each, lane.pace.once = 2e-4, 1.0
    assert lane.size == 1
    lane.pace.once = 2e-3
    assert lane.pace.seconds(lane.size) <= 0.005
    threads.clear()
    with running({"a": lane}) as batcher:

        async def ask() -> list[Tensor | BaseException]:
            requests = [batcher.compute("a", values) for values in (numbers(1.0), numbers(*range(100)), numbers(-1.0), numbers(3.0))]
            return await asyncio.gather(*requests, return_exceptions=True)

        first, many, wrong, last = asyncio.run(ask())
    assert isinstance(wrong, ValueError)
    assert torch.equal(torch.cat([one for one in (first, many, last) if isinstance(one, Tensor)]), 2 * numbers(1.0, *range(100), 3.0))
    assert threads == {threading.current_thread().name}


def test_models_that_take_long_or_as_long_as_they_like_are_not_quick() -> None:
    for model, may_be_quick in ((Slow(each=1e-3), True), (Slow(), False)):
        lane = Lane(model, 256)
        lane.warm_up(numbers(1.0), 0.05, may_be_quick=may_be_quick)
        assert not lane.is_quick


def test_many_inputs_are_computed_in_several_batches() -> None:
    model = Slow()
    with running({"a": Lane(model, 16)}) as batcher:
        batcher.lanes["a"].pace.once = 1.0
        found = asyncio.run(batcher.compute("a", numbers(*range(100))))
    assert torch.equal(found, 2 * numbers(*range(100)))
    assert max(map(len, model.batches)) <= 16


def test_only_what_fails_fails() -> None:
    model = Held()
    lane = Lane(model, 256)
    lane.pace = Known(each=1e-6, once=0.05)
    with running({"a": lane}) as batcher:

        async def ask() -> list[Tensor | BaseException]:
            first = asyncio.ensure_future(batcher.compute("a", numbers(9.0)))
            await model.begun()
            tasks = [asyncio.ensure_future(batcher.compute("a", numbers(value))) for value in (0.0, 1.0, -1.0, 2.0)]
            await asyncio.sleep(0)
            model.let(6)
            return await asyncio.gather(first, *tasks, return_exceptions=True)

        found = asyncio.run(ask())
    assert [isinstance(one, ValueError) for one in found] == [False, False, False, True, False]
    # Together, and then each alone.
    assert model.batches == [[9.0], [0.0, 1.0, -1.0, 2.0], [0.0], [1.0], [-1.0], [2.0]]


def test_the_urgent_come_first() -> None:
    model = Held()
    with running({"a": Lane(model, 1)}) as batcher:

        async def ask() -> None:
            later = asyncio.ensure_future(batcher.compute("a", numbers(*range(10)), is_urgent=False))
            await model.begun()
            urgent = asyncio.ensure_future(batcher.compute("a", numbers(100.0)))
            await asyncio.sleep(0)
            model.let(2)
            await urgent
            assert not later.done()
            model.let(9)
            await later

        asyncio.run(ask())
    assert model.batches == [[0], [100], *([place] for place in range(1, 10))]


def test_models_take_turns() -> None:
    one, two = Slow(each=0.01), Slow(each=0.01)
    with running({"a": Lane(one, 4), "b": Lane(two, 4)}) as batcher:

        async def ask() -> list[Tensor]:
            return await asyncio.gather(*(batcher.compute("ab"[place % 2], numbers(place)) for place in range(12)))

        found = asyncio.run(ask())
    assert [outputs.item() for outputs in found] == [2 * place for place in range(12)]
    assert sum(map(len, one.batches)) == sum(map(len, two.batches)) == 6


def test_what_nobody_waits_for_is_not_computed() -> None:
    model = Held()
    with running({"a": Lane(model, 1)}) as batcher:

        async def ask() -> None:
            tasks = [asyncio.ensure_future(batcher.compute("a", numbers(place))) for place in range(40)]
            await model.begun()
            for task in tasks[3:]:
                task.cancel()
            await asyncio.sleep(0)
            model.let(40)
            await asyncio.gather(*tasks[:3])

        asyncio.run(ask())
        assert batcher.waiting == 0
    assert model.batches == [[0], [1], [2]]


def test_closing_computes_what_is_waiting() -> None:
    model = Slow(each=0.02)
    batcher = Batcher({"a": Lane(model, 1)})
    batcher.start()

    async def ask() -> list[Tensor]:
        tasks = [asyncio.ensure_future(batcher.compute("a", numbers(place))) for place in range(5)]
        await asyncio.sleep(0)
        await asyncio.to_thread(batcher.close)
        return await asyncio.gather(*tasks)

    assert [outputs.item() for outputs in asyncio.run(ask())] == [0, 2, 4, 6, 8]


def test_callers_that_have_ended_are_no_matter() -> None:
    model = Slow(each=0.05)
    with running({"a": Lane(model, 1)}) as batcher:

        async def leave() -> None:
            asyncio.ensure_future(batcher.compute("a", numbers(1.0)))  # noqa: RUF006
            await asyncio.sleep(0.01)

        asyncio.run(leave())
        found: Callable[[], Tensor] = lambda: asyncio.run(batcher.compute("a", numbers(2.0)))  # noqa: E731
        assert found().item() == 4
