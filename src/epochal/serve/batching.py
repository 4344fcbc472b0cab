"""Requests are computed together, one batch at a time, in batches whose size follows from how long batches take.

What a network takes for n inputs is close to a·n + b seconds: b does not depend on n, so inputs that are computed together share it.
`Pace` fits a and b to the batches as they come. A batch has as many inputs as bring the share of b down to a tenth, or as are there;
a batch waits for others only if more are expected within b, the time that one of them saves.

A thread of its own computes. Where that would cost more than it saves, because batches are so quick, the event loop itself does: each
operation of a network in another thread would have to take the interpreter's lock from the loop, and give it back.

Whoever asks awaits a future. If that is cancelled, because the client has gone or its time is up, its inputs are never computed.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

# Raw inputs [n, *shape] to decoded values [n, outputs].
Compute: TypeAlias = Callable[[Tensor], Tensor]

# The most seconds that a batch may take, and that it waits for others.
_MAX_SECONDS, _MAX_WAIT = 0.1, 0.005

# A model is quick if it computes so many inputs in so many seconds; and the most seconds that its batches may take.
_QUICK_COUNT, _QUICK, _MAX_QUICK = 8, 0.002, 0.005

# Batches are so large that b is at most this share of their time.
_OVERHEAD = 0.1

# A batch is computed so often at the start.
_TIMES = 4

# The share of the latest batch, or of the latest pause between two requests, in what is known of the earlier ones.
_LATEST = 0.1


class Pace:
    """How long a batch of n takes: `each`·n + `once` seconds."""

    def __init__(self) -> None:
        self.each, self.once = 1e-3, 0.0
        # Mean size and time of the latest batches with sizes of as many bits: what was measured of other sizes is not forgotten.
        self._known: dict[int, tuple[float, float]] = {}

    def add(self, count: int, seconds: float) -> None:
        """Take a batch into account."""
        mean, time = self._known.get(count.bit_length(), (count, seconds))
        self._known[count.bit_length()] = (mean + _LATEST * (count - mean), time + _LATEST * (seconds - time))
        # Least squares of relative errors: without weights, only the largest batches would count.
        weights = [(n, t, 1 / t**2) for n, t in self._known.values() if t > 0]
        total, mean_n, mean_t = sum(w for *_, w in weights), 0.0, 0.0
        if not total:
            return
        mean_n, mean_t = sum(n * w for n, _, w in weights) / total, sum(t * w for _, t, w in weights) / total
        spread = sum((n - mean_n) ** 2 * w for n, _, w in weights)
        slope = sum((n - mean_n) * (t - mean_t) * w for n, t, w in weights) / spread if spread > 0 else mean_t / mean_n
        self.each = min(max(slope, 1e-7), mean_t / mean_n)
        self.once = max(mean_t - self.each * mean_n, 0.0)

    def seconds(self, count: int) -> float:
        """Return how long a batch is expected to take."""
        return self.each * count + self.once


class Lane:
    """One model: what computes it, up to so many inputs at once, how fast, and how often it is asked."""

    def __init__(self, compute: Compute, most: int) -> None:
        self.compute = compute
        self.pace = Pace()
        # Whether the event loop computes it.
        self.is_quick = False
        self._most = most
        self._gap = 1.0
        self._asked = 0.0

    @property
    def size(self) -> int:
        """How many inputs a batch has at most."""
        wanted = self.pace.once / self.pace.each * (1 / _OVERHEAD - 1)
        in_time = ((_MAX_QUICK if self.is_quick else _MAX_SECONDS) - self.pace.once) / self.pace.each
        return int(max(1, min(wanted, in_time, self._most)))

    @property
    def per_second(self) -> float:
        """How many inputs are computed in a second."""
        return self.size / self.pace.seconds(self.size)

    @property
    def wait(self) -> float:
        """For how many seconds a batch that is not full waits for others."""
        saved = min(self.pace.once, _MAX_WAIT)
        return saved if self._gap < saved else 0.0

    def asked(self, now: float) -> None:
        """Take a request into account."""
        self._gap += _LATEST * (min(now - self._asked, 1.0) - self._gap)
        self._asked = now

    def warm_up(self, example: Tensor, seconds: float = 0.5, *, may_be_quick: bool = False) -> None:
        """Compute batches of some sizes, for about so many seconds. The least time counts: others use the cores, too.

        `may_be_quick` if a batch takes as long for all inputs, so that the event loop may compute it.
        """
        begin, count = perf_counter(), 1
        while count <= self._most and perf_counter() - begin < seconds:
            batch, times = example.expand(count, *example.shape[1:]).contiguous(), []
            for _ in range(_TIMES):
                started = perf_counter()
                self.compute(batch)
                times.append(perf_counter() - started)
            self.pace.add(count, min(times))
            count *= 4
        self.is_quick = may_be_quick and self.pace.seconds(_QUICK_COUNT) <= _QUICK


@dataclass(eq=False)
class _Job:
    """The inputs of a request [n, *shape], of which the first `taken` are in batches, and their outputs so far."""

    lane: Lane
    inputs: Tensor
    future: asyncio.Future[Tensor]
    loop: asyncio.AbstractEventLoop
    arrived: float
    taken: int = 0
    outputs: list[Tensor] = field(default_factory=list)

    @property
    def left(self) -> int:
        return len(self.inputs) - self.taken


class _Piece(NamedTuple):
    job: _Job
    inputs: Tensor


class Batcher:
    """The thread that computes, and the two queues before it: the second is served while the first is empty. Quick models have their own.

    `on_batch` is called after each batch, with its size and seconds.
    """

    def __init__(self, lanes: Mapping[str, Lane], on_batch: Callable[[int, float], object] = lambda _, __: None) -> None:
        self.lanes = lanes
        self._on_batch = on_batch
        self._queues: tuple[deque[_Job], deque[_Job]] = (deque(), deque())
        self._quick: deque[_Job] = deque()
        self._ready = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="epochal-compute", daemon=True)

    def start(self) -> None:
        """Begin to compute."""
        self._thread.start()

    def close(self) -> None:
        """Compute what is waiting, and stop."""
        with self._ready:
            self._is_closed = True
            self._ready.notify()
        self._thread.join()

    @property
    def waiting(self) -> int:
        """How many requests are waiting."""
        return len(self._quick) + sum(map(len, self._queues))

    async def compute(self, name: str, inputs: Tensor, *, is_urgent: bool = True) -> Tensor:
        """Return the decoded values [n, outputs] of inputs [n, *shape], n > 0, by the model of that name."""
        loop, now = asyncio.get_running_loop(), perf_counter()
        job = _Job(self.lanes[name], inputs, loop.create_future(), loop, now)
        if job.lane.is_quick:
            self._quick.append(job)
            if len(self._quick) == 1:
                # After others that are about to ask.
                loop.call_soon(self._run_quick, loop)
            return await job.future
        with self._ready:
            job.lane.asked(now)
            self._queues[not is_urgent].append(job)
            self._ready.notify()
        return await job.future

    def _run_quick(self, loop: asyncio.AbstractEventLoop) -> None:
        """Compute a batch in the event loop, and come again for the others."""
        _drop_done(self._quick)
        if self._quick:
            pieces = _take(self._quick, self._quick[0].lane)
            _deliver(list(zip((piece.job for piece in pieces), self._results(pieces), strict=True)))
        if self._quick:
            loop.call_soon(self._run_quick, loop)

    def _run(self) -> None:
        while pieces := self._next():
            results = self._results(pieces)
            loops = {piece.job.loop for piece in pieces}
            for loop in loops:
                _call(
                    loop, _deliver, [(piece.job, result) for piece, result in zip(pieces, results, strict=True) if piece.job.loop is loop]
                )

    def _next(self) -> list[_Piece]:
        """Wait for a batch, and return it; an empty one at the end."""
        with self._ready:
            while True:
                for queue in self._queues:
                    _drop_done(queue)
                queue = next(filter(None, self._queues), self._queues[0])
                if not queue:
                    if self._is_closed:
                        return []
                    self._ready.wait()
                    continue
                lane = queue[0].lane
                pause = queue[0].arrived + lane.wait - perf_counter()
                if pause <= 0 or self._is_closed or sum(job.left for job in queue if job.lane is lane) >= lane.size:
                    return _take(queue, lane)
                self._ready.wait(pause)

    def _results(self, pieces: list[_Piece]) -> list[Tensor | Exception]:
        """Compute a batch. If that fails, each request is computed alone: only those fail that are the reason."""
        lane, inputs = pieces[0].job.lane, torch.cat([piece.inputs for piece in pieces])
        begin = perf_counter()
        try:
            outputs = lane.compute(inputs)
        except Exception as error:  # noqa: BLE001  of the user's own network, anything.
            return [error] if len(pieces) == 1 else [self._results([piece])[0] for piece in pieces]
        seconds = perf_counter() - begin
        lane.pace.add(len(inputs), seconds)
        self._on_batch(len(inputs), seconds)
        return list(outputs.split([len(piece.inputs) for piece in pieces]))


def _drop_done(queue: deque[_Job]) -> None:
    for job in [job for job in queue if job.future.done()]:
        queue.remove(job)


def _take(queue: deque[_Job], lane: Lane) -> list[_Piece]:
    """Take a batch of the first jobs of a lane; those of which all inputs are taken leave the queue."""
    pieces, size = [], lane.size
    for job in [job for job in queue if job.lane is lane]:
        count = min(size, job.left)
        pieces.append(_Piece(job, job.inputs[job.taken : job.taken + count]))
        job.taken += count
        size -= count
        if not job.left:
            queue.remove(job)
        if not size:
            break
    return pieces


def _call(
    loop: asyncio.AbstractEventLoop,
    function: Callable[[list[tuple[_Job, Tensor | Exception]]], None],
    results: list[tuple[_Job, Tensor | Exception]],
) -> None:
    try:
        loop.call_soon_threadsafe(function, results)
    except RuntimeError:
        return  # The loop has ended, and nobody is waiting.


def _deliver(results: list[tuple[_Job, Tensor | Exception]]) -> None:
    """Give outputs to those who wait for them, in their event loop."""
    for job, result in results:
        if job.future.done():
            continue
        if isinstance(result, Exception):
            job.future.set_exception(result)
            continue
        job.outputs.append(result)
        if sum(map(len, job.outputs)) == len(job.inputs):
            job.future.set_result(job.outputs[0] if len(job.outputs) == 1 else torch.cat(job.outputs))
