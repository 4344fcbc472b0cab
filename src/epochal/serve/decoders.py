"""Decoding what requests bring, in other processes: a file that crashes one, fills its memory, or keeps it busy for too long, is refused.

Another process is ready in a few milliseconds. Small bodies that wait for a process are handed over together: that costs more than decoding
them. Only a few texts or values from JSON, which Python and NumPy read, are decoded in the server itself.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from epochal.data.inputs.base import InputRule
from epochal.data.inputs.kinds import KINDS
from epochal.serve.decode import Decoded, decode, items_in
from epochal.serve.refusal import RefusedError

# Texts and JSON of at most so many bytes and items are decoded in the server.
_SMALL, _FEW = 1 << 12, 8

# So many bodies are handed to a process together, if they have at most so many bytes.
_TOGETHER, _TOGETHER_BYTES = 16, 1 << 16

# The seconds that a process may take, and the bytes of memory beyond those that it has at its start.
DECODE_SECONDS, _MEMORY = 5.0, 1 << 31

# The most bytes of a file that the process may write: a table is read twice.
_FILE = 1 << 28

# The bytes of a number before each message: how long its head is.
_LENGTH = 8

# Forked from a process of one thread, which has imported all that is needed, another one is ready in milliseconds.
if sys.platform == "win32":
    _CONTEXT = multiprocessing.get_context("spawn")
else:
    _CONTEXT = multiprocessing.get_context("forkserver")
    _CONTEXT.set_forkserver_preload(["epochal.serve.decoders"])


class _Asked(NamedTuple):
    """The body of a request to the model of that name, and who waits for what is in it."""

    name: str
    content_type: str
    body: bytes
    future: asyncio.Future[Decoded]


class Decoders:
    """Some processes that decode."""

    def __init__(self, rules: Mapping[str, InputRule], count: int) -> None:
        self._rules = dict(rules)
        dumped = {name: rule.model_dump_json() for name, rule in rules.items()}
        self._workers = [_Worker(dumped) for _ in range(count)]
        self._idle = list(self._workers)
        self._waiting: deque[_Asked] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Start the processes."""
        for worker in self._workers:
            worker.start()

    def close(self) -> None:
        """End all processes."""
        for worker in self._workers:
            worker.end()

    async def decode(self, name: str, content_type: str, body: bytes) -> Decoded:
        """Return what is in the body of a request to the model of that name. Raises `RefusedError`."""
        rule = self._rules[name]
        medium = content_type.partition(";")[0].strip().lower()
        if len(body) <= _SMALL and (medium == "application/json" or (medium == "text/plain" and rule.kind == "text")):
            items = items_in(rule.kind, content_type, body)
            if len(items) <= _FEW:
                return decode(rule, items)
        asked = _Asked(name, content_type, body, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        if self._idle:
            task = asyncio.ensure_future(self._work(self._idle.pop()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await asked.future

    async def _work(self, worker: _Worker) -> None:
        """Have a process decode until nothing is waiting."""
        try:
            while asked := self._next():
                for one, found in zip(asked, await _answers(worker, asked), strict=True):
                    if one.future.done():
                        continue
                    if isinstance(found, RefusedError):
                        one.future.set_exception(found)
                    else:
                        one.future.set_result(found)
        finally:
            self._idle.append(worker)

    def _next(self) -> list[_Asked]:
        """Take what is decoded next; what nobody waits for any longer is not."""
        taken, size = list[_Asked](), 0
        while self._waiting and len(taken) < _TOGETHER:
            size += len(self._waiting[0].body)
            if taken and size > _TOGETHER_BYTES:
                break
            asked = self._waiting.popleft()
            if not asked.future.done():
                taken.append(asked)
        return taken


async def _answers(worker: _Worker, asked: Sequence[_Asked]) -> list[Decoded | RefusedError]:
    """Have bodies decoded. If the process fails, each is decoded alone: only that which is the reason is refused."""
    try:
        return await worker.ask(asked)
    except TimeoutError:
        problem = f"The request took more than {DECODE_SECONDS:.0f} seconds to decode."
    except (EOFError, OSError):
        problem = "The decoder failed on a file: it is damaged, or takes too much memory."
    worker.end()
    if len(asked) > 1:
        return [(await _answers(worker, [one]))[0] for one in asked]
    return [RefusedError(422, "unreadable", problem, "Save it again, smaller or in another format.")]


class _Worker:
    """A process that decodes one message after the other."""

    def __init__(self, rules: Mapping[str, str]) -> None:
        self._rules = rules
        self._process: BaseProcess | None = None
        self._socket: socket.socket | None = None

    def start(self) -> socket.socket:
        """Start the process, unless it is running, and return what it is asked by."""
        if self._socket is not None and self._process is not None and self._process.is_alive():
            return self._socket
        self.end()
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        with theirs:
            self._process = _CONTEXT.Process(target=_serve, args=(theirs, self._rules), name="epochal-decode", daemon=True)
            self._process.start()
        return self._socket

    def end(self) -> None:
        """End the process at once."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
        if self._socket is not None:
            self._socket.close()
        self._process = self._socket = None

    async def ask(self, asked: Sequence[_Asked]) -> list[Decoded | RefusedError]:
        """Have bodies decoded. Raises `EOFError`, `OSError` or `TimeoutError` if that fails; then the process must be ended."""
        loop, ours = asyncio.get_running_loop(), self.start()
        async with asyncio.timeout(DECODE_SECONDS):
            await loop.sock_sendall(
                ours, _packed([(one.name, one.content_type, len(one.body)) for one in asked], [one.body for one in asked])
            )
            length = int.from_bytes(await _receive(loop, ours, _LENGTH), "big")
            heads = json.loads(await _receive(loop, ours, length))
            content = await _receive(loop, ours, sum(head.get("bytes", 0) for head in heads))
        found, begin = list[Decoded | RefusedError](), 0
        for head in heads:
            if "refused" in head:
                found.append(RefusedError(*head["refused"]))
                continue
            values = np.frombuffer(memoryview(content)[begin : begin + head["bytes"]], head["dtype"]).reshape(head["shape"])
            begin += head["bytes"]
            wrong = {int(place): (problem, fix) for place, (problem, fix) in head["wrong"].items()}
            found.append(Decoded(head["names"], torch.from_numpy(values), wrong, head["notes"]))
        return found


def _packed(head: Any, contents: Sequence[bytes | memoryview]) -> bytes:
    """Return a message: the length of its head, the head in JSON, and the contents."""
    words = json.dumps(head).encode()
    return b"".join((len(words).to_bytes(_LENGTH, "big"), words, *contents))


async def _receive(loop: asyncio.AbstractEventLoop, ours: socket.socket, count: int) -> bytearray:
    content = bytearray(count)
    view = memoryview(content)
    while view:
        received = await loop.sock_recv_into(ours, view)
        if not received:
            raise EOFError
        view = view[received:]
    return content


def _serve(theirs: socket.socket, dumped: Mapping[str, str]) -> None:
    """Decode what comes through a socket, until its other end is closed: the main function of a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit()
    torch.set_num_threads(1)
    rules = {name: KINDS[json.loads(rule)["kind"]].model_validate_json(rule) for name, rule in dumped.items()}
    with suppress(OSError), theirs, theirs.makefile("rb", 1 << 17) as source:
        while length := source.read(_LENGTH):
            heads, contents = list[dict[str, Any]](), list[memoryview]()
            for name, content_type, size in json.loads(source.read(int.from_bytes(length, "big"))):
                try:
                    found = decode(rules[name], items_in(rules[name].kind, content_type, source.read(size)))
                except RefusedError as error:
                    heads.append({"refused": [error.status, error.code, error.problem, error.fix]})
                    continue
                values = found.inputs.numpy()
                contents.append(values.data)
                kind = {"dtype": values.dtype.str, "shape": values.shape, "bytes": values.nbytes}
                heads.append({"names": found.names, "wrong": found.wrong, "notes": found.notes, **kind})
            theirs.sendall(_packed(heads, contents))


def _limit() -> None:
    """Limit the memory and the files of this process, and let others go first if there are too few cores."""
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE, _FILE))
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + _MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        os.nice(5)
