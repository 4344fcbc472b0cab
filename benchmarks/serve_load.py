"""Requests at a rate that does not depend on the answers (open loop), from a process of its own; the last line is the result in JSON.

    python -m benchmarks.serve_load PORT --rate 200 --seconds 5 --body FILE --type image/png

The time of an answer begins when its request was due, so a server that is late cannot hide it by slowing the client down.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PATIENCE = 20.0


class Client:
    """Connections that are kept open, and as many as needed."""

    def __init__(self, port: int, request: bytes) -> None:
        self._port = port
        self._request = request
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self) -> int:
        """Send the request, and return the status of the answer; 0 if there is none."""
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
                writer.write(self._request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(length)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, StopIteration):
            return 0
        if b"connection: close" not in head.lower():
            self._idle.append((reader, writer))
        return int(head.split(None, 2)[1])


async def run(client: Client, rate: float, seconds: float, health: Client) -> dict[str, Any]:
    """Ask at a rate for so many seconds."""
    answers: list[tuple[float, int, float]] = []
    healthy: list[float] = []
    begin = time.perf_counter()

    async def one(due: float) -> None:
        status = await client.ask()
        answers.append((due, status, time.perf_counter() - begin - due))

    async def look() -> None:
        while True:
            start = time.perf_counter()
            await health.ask()
            healthy.append(time.perf_counter() - start)
            await asyncio.sleep(0.1)

    looking = asyncio.ensure_future(look())
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            due = number / rate
            if (early := due - (time.perf_counter() - begin)) > 0:
                await asyncio.sleep(early)
            group.create_task(one(due))
    looking.cancel()
    return summary(answers, seconds, healthy)


def summary(answers: Sequence[tuple[float, int, float]], seconds: float, healthy: Sequence[float]) -> dict[str, Any]:
    """Return the number of answers by status, those accepted per second, and times in milliseconds."""
    good = sorted(took for _, status, took in answers if status == 200)
    refused = sorted(took for _, status, took in answers if status == 503)
    # Answers after the last request was due would make a server look faster than it is.
    in_time = sum(status == 200 and due + took <= seconds for due, status, took in answers)
    return {
        "sent": len(answers),
        "statuses": {str(status): count for status, count in Counter(status for _, status, _ in answers).items()},
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
    client = Client(options.port, request_of(options.port, "/predict", options.body.read_bytes(), options.type))
    health = Client(options.port, request_of(options.port, "/healthz", b"", "text/plain", "GET"))
    print(json.dumps(asyncio.run(run(client, options.rate, options.seconds, health))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
