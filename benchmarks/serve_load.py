"""Requests at a rate that does not depend on the answers (open loop), from a process of its own; the last line is the result in JSON.

    python -m benchmarks.serve_load PORT --rate 200 --seconds 5 --body FILE --type image/png

The time of an answer begins when its request was due, so a server that is late cannot hide it by slowing the client down. The client shares
the cores with the server, so it does as little as possible: a callback for each answer, on connections that are kept open.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

# The seconds for which answers are waited for after the last request.
PATIENCE = 20.0

# Timers are late by up to a millisecond. Up to so many requests per second, the client looks at the clock instead.
EXACT = 200.0

_SIZE = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)


class Answer(NamedTuple):
    """When a request was due, the status of its answer, or 0 without one, and the seconds until then."""

    due: float
    status: int
    seconds: float


class Client:
    """Connections that are kept open, as many as needed, and the answers so far."""

    def __init__(self, port: int, request: bytes) -> None:
        self.request = request
        self.begin = time.perf_counter()
        self.idle: list[Line] = []
        self.sent = 0
        self.answers: list[Answer] = []
        self._port = port
        self._opening: set[asyncio.Task[None]] = set()

    def ask(self, due: float) -> None:
        """Send the request."""
        self.sent += 1
        while self.idle:
            line = self.idle.pop()
            if not line.transport.is_closing():
                line.send(due)
                return
        task = asyncio.ensure_future(self._ask_on_another(due))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _ask_on_another(self, due: float) -> None:
        try:
            _, line = await asyncio.get_running_loop().create_connection(lambda: Line(self), "127.0.0.1", self._port)
        except OSError:
            self.answered(due, 0)
        else:
            line.send(due)

    def answered(self, due: float, status: int) -> None:
        """Take an answer into account."""
        self.answers.append(Answer(due, status, time.perf_counter() - self.begin - due))


class Line(asyncio.Protocol):
    """A connection, with one request at a time."""

    transport: asyncio.Transport

    def __init__(self, client: Client) -> None:
        self._client = client
        self._due: float | None = None
        self._content = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what is written to."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def send(self, due: float) -> None:
        """Send the request."""
        self._due = due
        self.transport.write(self._client.request)

    def data_received(self, data: bytes) -> None:
        """Look whether the answer is complete."""
        self._content += data
        end = self._content.find(b"\r\n\r\n")
        size = _SIZE.search(self._content, 0, end)
        if end < 0 or size is None or len(self._content) < end + 4 + int(size[1]):
            return
        head, due, self._content, self._due = self._content[:end], self._due, b"", None
        assert due is not None
        self._client.answered(due, int(head[9:12]))
        if b"connection: close" in head.lower():
            self.transport.close()
        else:
            self._client.idle.append(self)

    def connection_lost(self, _: Exception | None) -> None:
        """Count a request without an answer."""
        if self._due is not None:
            self._client.answered(self._due, 0)
            self._due = None


async def run(client: Client, rate: float, seconds: float, health: Client) -> dict[str, Any]:
    """Ask at a rate for so many seconds."""
    total = int(rate * seconds)
    client.begin = health.begin = time.perf_counter()

    async def look() -> None:
        while True:
            health.ask(time.perf_counter() - health.begin)
            await asyncio.sleep(0.1)

    looking = asyncio.ensure_future(look())
    while client.sent < total:
        early = client.sent / rate - (time.perf_counter() - client.begin)
        if early <= 0:
            client.ask(client.sent / rate)
        else:
            await asyncio.sleep(early if rate > EXACT else max(0.0, early - 0.002))
    end = time.perf_counter() + PATIENCE
    while len(client.answers) < total and time.perf_counter() < end:
        await asyncio.sleep(0.01)
    looking.cancel()
    return summary(client, total, seconds, [answer.seconds for answer in health.answers])


def summary(client: Client, total: int, seconds: float, healthy: Sequence[float]) -> dict[str, Any]:
    """Return the number of answers by status, those accepted per second, and times in milliseconds."""
    good = sorted(answer.seconds for answer in client.answers if answer.status == 200)
    refused = sorted(answer.seconds for answer in client.answers if answer.status == 503)
    statuses = Counter(str(answer.status) for answer in client.answers)
    statuses["0"] += total - len(client.answers)
    # Answers after the last request was due would make a server look faster than it is.
    in_time = sum(answer.status == 200 and answer.due + answer.seconds <= seconds for answer in client.answers)
    return {
        "sent": total,
        "statuses": {status: count for status, count in statuses.items() if count},
        "goodput": in_time / seconds,
        **{name: 1000 * part(good, share) for name, share in (("p50", 0.5), ("p99", 0.99))},
        "refused_p50": 1000 * part(refused, 0.5),
        "refused_p99": 1000 * part(refused, 0.99),
        "health_p50": 1000 * statistics.median(healthy or [0.0]),
        "health_most": 1000 * max(healthy, default=0.0),
    }


def part(values: Sequence[float], share: float) -> float:
    """Return the value below which so large a share of the sorted `values` is; 0 of none."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def request_of(port: int, path: str, body: bytes, medium: str, method: str = "POST") -> bytes:
    """Return the bytes of a request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {medium}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def main() -> int:
    """Send requests, and print the result."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("port", type=int)
    made.add_argument("--rate", type=float, required=True)
    made.add_argument("--seconds", type=float, required=True)
    made.add_argument("--body", type=Path, required=True)
    made.add_argument("--type", required=True)
    options = made.parse_args()

    async def measure() -> dict[str, Any]:
        client = Client(options.port, request_of(options.port, "/predict", options.body.read_bytes(), options.type))
        health = Client(options.port, request_of(options.port, "/healthz", b"", "text/plain", "GET"))
        return await run(client, options.rate, options.seconds, health)

    print(json.dumps(asyncio.run(measure())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
