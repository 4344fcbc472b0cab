"""Beyond capacity the server answers as many as it can, refuses the others at once, and is as before when there are fewer.

EPOCHAL_OVERLOAD=600 keeps it up for so many seconds. Strict figures, from a second process, are in benchmarks/serve.py.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from random import Random

import httpx
import pytest
import torch
from torch import Tensor

from epochal.predictor import Predictor
from epochal.serve.app import Service
from epochal.serve.limits import Room, Share
from epochal.serve.model import Served
from epochal.serve.refusal import RefusedError
from tests.serve.conftest import PATIENCE, serving
from tests.serve.sockets import connect, head
from tests.timing import in_one_of

SECONDS = float(os.environ.get("EPOCHAL_OVERLOAD", "2"))


class Slow(Predictor):
    """A model that takes its time, without using a core."""

    count = 0
    each = 0.02

    def __call__(self, inputs: Tensor) -> Tensor:
        self.count += len(inputs)
        self.compute(len(inputs))
        return super().__call__(inputs)

    def compute(self, count: int) -> None:
        time.sleep(self.each * (count + 0.5))


def slow(models: list[Served]) -> Served:
    numbers = next(model for model in models if model.name == "numbers")
    return replace(numbers, predictor=Slow(numbers.bundle))


@pytest.fixture(scope="module")
def model(models: list[Served]) -> Served:
    return slow(models)


@pytest.fixture
def may_compute(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Without this, slow models that are served already compute nothing."""
    event, slowly = threading.Event(), Slow.compute

    def compute(self: Slow, count: int) -> None:
        # Only the thread that computes for requests waits; what is measured at the start is as ever.
        if threading.current_thread().name == "epochal-compute":
            assert event.wait(PATIENCE)
        slowly(self, count)

    monkeypatch.setattr(Slow, "compute", compute)
    return event


def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait until something is so."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


@pytest.fixture(scope="module")
def service(model: Served) -> Service:
    return Service([model], deadline=600)


@pytest.fixture(scope="module")
def address(service: Service) -> Iterator[str]:
    with serving(service) as found, pytest.MonkeyPatch.context() as patch:
        # How many requests may wait follows from the pace, and one batch that another program was in the way of must not change it.
        for lane in service.batcher.lanes.values():
            patch.setattr(lane.pace, "add", lambda *_: None)
        yield found


BODY = {"inputs": [[1, 2, 3]]}


class Load:
    """Requests at a rate, whatever the answers; their status, and the seconds until each."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, float]] = []

    async def one(self, client: httpx.AsyncClient) -> None:
        begin = time.perf_counter()
        answer = await client.post("/predict", json=BODY)
        self.answers.append((answer.status_code, time.perf_counter() - begin))

    async def run(self, url: str, rate: float, seconds: float) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, limits=limits) as client, asyncio.TaskGroup() as group:
            begin, sent = time.perf_counter(), 0
            while (now := time.perf_counter() - begin) < seconds:
                for _ in range(int(now * rate) - sent):
                    group.create_task(self.one(client))
                    sent += 1
                await asyncio.sleep(0.005)

    def times(self, status: int) -> list[float]:
        return sorted(seconds for found, seconds in self.answers if found == status)


def test_goodput_beyond_capacity(models: list[Served], monkeypatch: pytest.MonkeyPatch) -> None:
    # So slow that whoever sends the requests, in this process, has no part in it.
    monkeypatch.setattr(Slow, "each", 0.1)
    with serving(Service([slow(models)])) as address:
        in_one_of(4, lambda: _overload(address, 10))


def _overload(address: str, capacity: float) -> None:
    unloaded, load, health = Load(), Load(), list[float]()
    asyncio.run(unloaded.run(address, 4, 1))
    ended = threading.Event()

    def look() -> None:
        with httpx.Client(base_url=address, timeout=PATIENCE) as client:
            while not ended.wait(0.1):
                begin = time.perf_counter()
                assert client.get("/healthz").status_code == 200
                health.append(time.perf_counter() - begin)

    thread = threading.Thread(target=look)
    thread.start()
    begin = time.perf_counter()
    asyncio.run(load.run(address, 4 * capacity, SECONDS))
    seconds = time.perf_counter() - begin
    ended.set()
    thread.join()
    assert {status for status, _ in load.answers} == {200, 503}
    accepted, refused = load.times(200), load.times(503)
    assert len(accepted) / seconds > 0.4 * capacity  # Whoever sends is in this process, and late on a busy machine.
    assert accepted[len(accepted) // 2] < 2.0
    assert refused[len(refused) // 2] < 0.1
    assert sorted(health)[len(health) // 2] < 0.2
    # Recovered within a second.
    time.sleep(1)
    after = Load()
    asyncio.run(after.run(address, 2, 1))
    assert {status for status, _ in after.answers} == {200}
    assert after.times(200)[0] < 3 * max(unloaded.times(200)[0], 0.05)


def test_refusals_say_when_to_come_again(model: Served, may_compute: threading.Event) -> None:
    async def burst(address: str) -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=address, timeout=PATIENCE, limits=httpx.Limits(max_connections=None)) as client:
            tasks = [asyncio.ensure_future(client.post("/predict", json=BODY)) for _ in range(150)]
            while sum(task.done() for task in tasks) <= 50:
                await asyncio.wait([task for task in tasks if not task.done()], return_when=asyncio.FIRST_COMPLETED)
            # Nothing was computed until now, so these were refused.
            may_compute.set()
            return await asyncio.gather(*tasks)

    # A server of its own: for some seconds after, it lets fewer in at a time.
    with serving(Service([model], deadline=600)) as address:
        answers = asyncio.run(burst(address))
    refused = [answer for answer in answers if answer.status_code == 503]
    assert 50 < len(refused) < 150
    assert all(answer.headers["retry-after"] == "1" and answer.json()["error"]["code"] == "busy" for answer in refused)


def test_a_burst_is_answered(address: str) -> None:
    async def burst() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=address, timeout=PATIENCE) as client:
            return await asyncio.gather(*(client.post("/predict", json=BODY) for _ in range(12)))

    assert [answer.status_code for answer in asyncio.run(burst())] == [200] * 12


def test_a_request_may_have_more_items_than_the_queue(address: str) -> None:
    answer = httpx.post(f"{address}/predict", json={"inputs": [[1, 2, 3]] * 90}, timeout=PATIENCE)
    assert answer.status_code == 200
    assert len(answer.json()["predictions"]) == 90


def test_a_large_request_is_decoded_while_another_is_computed_and_a_third_refused() -> None:
    room = Room()
    with room.one(10, 4) as first, room.one(10, 4) as second:
        first.add(200)
        second.add(200)
        with pytest.raises(RefusedError, match="more requests"), room.one(10, 4):
            pass
        assert (room.requests, room.items) == (2, 402)
    assert (room.requests, room.items) == (0, 0)


@pytest.mark.parametrize("load", [0.5, 0.9, 1.5, 4.0])
def test_a_burst_waits_and_lasting_overload_is_refused(load: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests come at random to a server that computes 50 a second one by one; all that are in the room at a time wait for each other."""
    clock, random, each = [0.0], Random(0), 0.02
    monkeypatch.setattr("epochal.serve.limits.monotonic", lambda: clock[0])
    room = Room()
    inside: deque[tuple[float, ExitStack]] = deque()
    seconds, refused, asked, free_at = list[float](), 0, 0, 0.0
    while clock[0] < 60:
        clock[0] += random.expovariate(load / each)
        while inside and inside[0][0] <= clock[0]:
            inside.popleft()[1].close()
        asked += 1
        one = ExitStack()
        try:
            one.enter_context(room.one(1 / each, 4))
        except RefusedError:
            refused += 1
            continue
        free_at = max(free_at, clock[0]) + each
        inside.append((free_at, one))
        seconds.append(free_at - clock[0])
    later = seconds[len(seconds) // 2 :]
    if load < 1:
        assert not refused
        assert max(later) < 0.5
    else:
        assert refused > 0.9 * (1 - 1 / load) * asked
        assert len(seconds) > 0.9 * 60 / each
        assert max(later) <= 4 * each + 1e-9  # As many as are let in at any rate.
    for _, one in inside:
        one.close()
    clock[0] += 2.0
    with ExitStack() as burst:
        for _ in range(25):
            burst.enter_context(room.one(1 / each, 4))


def test_requests_beyond_capacity_are_refused_unread(model: Served) -> None:
    service = Service([model])
    with serving(service) as url, httpx.Client(base_url=url, timeout=PATIENCE) as client, ExitStack() as inside:
        lane = service.batcher.lanes[model.name]
        while not service.room.is_full(lane.per_second, 4):
            inside.enter_context(service.room.one(lane.per_second, 4))
        before = service.room.requests
        for path in ("/predict", f"/predict/{model.name}", "/explain"):
            answer = client.post(path, json=BODY, headers={"accept-language": "zh"})
            assert (answer.status_code, answer.headers["retry-after"], answer.json()["error"]["code"]) == (503, "1", "busy")
            assert answer.json()["error"]["message"].isascii() is False
            assert answer.headers["content-security-policy"]
        # Others are looked at as ever, and so are those whose connection ends with the answer.
        assert client.get("/healthz").status_code == 200
        assert client.post("/predict/none", json=BODY).status_code == 404
        assert client.post("/predict", json=BODY, headers={"host": "elsewhere", "connection": "close"}).status_code == 421
        assert client.post("/predict", json=BODY, headers={"connection": "close"}).json()["error"]["code"] == "busy"
        assert service.room.requests == before
        inside.close()
        assert client.post("/predict", json=BODY).status_code == 200


def test_abandoned_requests_are_not_computed(
    address: str, service: Service, model: Served, may_compute: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, room, came = model.predictor, service.room.one, 0
    assert isinstance(predictor, Slow)
    before = predictor.count

    def one(per_second: float, least: int) -> AbstractContextManager[Share]:
        nonlocal came
        came += 1
        return room(per_second, least)

    monkeypatch.setattr(service.room, "one", one)
    place = address.removeprefix("http://")
    body = b'{"inputs": [[1, 2, 3]]}'
    for _ in range(15):
        with connect(address) as sock:
            sock.sendall(
                head("/predict", "POST", place, f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n").encode() + body
            )
    until(lambda: came == 15 and not service.room.requests)
    may_compute.set()
    assert httpx.post(f"{address}/predict", json=BODY, timeout=PATIENCE).status_code == 200
    assert predictor.count - before < 10


def test_deadlines(models: list[Served]) -> None:
    model = slow(models)
    with serving(Service([model], deadline=0.3)) as url:
        answer = httpx.post(f"{url}/predict", json={"inputs": [[1, 2, 3]] * 100}, timeout=PATIENCE)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "too_late")
        assert isinstance(model.predictor, Slow)
        time.sleep(0.3)
        count = model.predictor.count
        time.sleep(0.3)
        assert model.predictor.count == count


def test_ending_answers_what_has_arrived(models: list[Served], may_compute: threading.Event) -> None:
    answers: list[int] = []

    def ask(url: str) -> None:
        answers.append(httpx.post(f"{url}/predict", json={"inputs": [[1, 2, 3]] * 4}, timeout=PATIENCE).status_code)

    service = Service([slow(models)], deadline=600)
    with serving(service) as url:
        threads = [threading.Thread(target=ask, args=(url,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: service.room.requests == 4)
        assert not answers
        # About when the server has been told to end.
        threading.Timer(0.1, may_compute.set).start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 4


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_at_a_signal(bundles: dict[str, Path], number: signal.Signals) -> None:
    command = [sys.executable, "-m", "epochal", "serve", f"rows={bundles['numbers']}", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving rows at http://127.0.0.1:")
        url = line.split(" at ")[1].split()[0]
        assert httpx.post(f"{url}/predict", json=BODY, timeout=PATIENCE).status_code == 200
        process.send_signal(number)
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output, errors) == (0, "stopped\n", "")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--host", "0.0.0.0"], "there is no token"),
        (["--host", "0.0.0.0", "--token", "short"], "at least 16"),
        (["--token", "ö" * 20], "at least 16"),
        (["--host", "203.0.113.1"], "cannot be used"),
        (["--host", "no.such.host.invalid"], "cannot be used"),
    ],
)
def test_unsafe_or_impossible_addresses(bundles: dict[str, Path], options: list[str], problem: str) -> None:
    from epochal.errors import RecipeError
    from epochal.serve.model import open_model
    from epochal.serve.server import serve

    given = dict(zip(options[::2], options[1::2], strict=True))
    with pytest.raises(RecipeError, match=problem):
        serve([open_model(bundles["numbers"])], given.get("--host", "127.0.0.1"), 0, token=given.get("--token", ""))


def test_two_models_of_one_name(bundles: dict[str, Path]) -> None:
    from epochal.errors import DataError
    from epochal.serve.model import check_names, named, open_model

    models = [open_model(bundles["numbers"]), open_model(bundles["numbers"], "other"), open_model(bundles["numbers"])]
    check_names(models[:2])
    with pytest.raises(DataError, match="Two models are named numbers"):
        check_names(models)
    assert named("other=x/y") == ("other", Path("x/y"))
    assert named(str(bundles["numbers"])) == ("", bundles["numbers"])
    assert torch.equal(models[0].predictor(torch.ones(1, 3)), models[1].predictor(torch.ones(1, 3)))
