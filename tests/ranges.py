"""A web server on this machine that sends ranges of the files of a folder, with faults where a test wants them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FAULTS = ("slow", "cut", "500", "short", "long", "changed", "elsewhere", "closed")

# Which fault an answer has, by the path and the range that are asked for: one of FAULTS, or "".
Fault = Callable[[str, int, int], str]


class RangeServer(ThreadingHTTPServer):
    """The files below `root`; `asked` are the ranges that were asked for, and `faults` those that had a fault."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, root: Path, fault: Fault, latency: float, rate: float | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root, self.fault, self.latency, self.rate = root, fault, latency, rate
        self.asked: list[tuple[str, int, int]] = []
        self.faults: list[str] = []
        self.lock = threading.Lock()
        self.free = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that end."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RangeServer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        server, path = self.server, self.server.root / self.path.lstrip("/")
        if not path.is_file():
            self._answer(404, b"")
            return
        content = path.read_bytes()
        begin, _, last = self.headers.get("Range", f"bytes=0-{len(content) - 1}").removeprefix("bytes=").partition("-")
        first, end = int(begin), min(int(last) + 1, len(content))
        with server.lock:
            server.asked.append((self.path, first, end))
            fault = server.fault(self.path, first, end)
            if fault:
                server.faults.append(fault)
        time.sleep(server.latency)
        if first >= len(content):
            self._answer(416, b"")
            return
        self._send(fault, content[first:end], first, len(content))

    def do_HEAD(self) -> None:
        path = self.server.root / self.path.lstrip("/")
        self.send_response(200 if path.is_file() else 404)
        self.send_header("Content-Length", str(path.stat().st_size if path.is_file() else 0))
        self.end_headers()

    def _send(self, fault: str, part: bytes, first: int, size: int) -> None:
        if fault == "500":
            self._answer(500, b"sorry")
        elif fault == "closed":
            self.close_connection = True
        elif fault == "short":
            self._answer(206, part[: len(part) // 2], first, size)
        elif fault == "long":
            self._answer(206, part + b"more", first, size)
        elif fault == "changed":
            place = len(part) // 2
            self._answer(206, part[:place] + bytes([part[place] ^ 1]) + part[place + 1 :], first, size)
        elif fault == "elsewhere":
            self._answer(206, part, first + 1, size)
        else:
            self._answer(206, part, first, size, cut=fault == "cut", slow=fault == "slow")

    def _answer(self, code: int, content: bytes, first: int = 0, size: int = 0, *, cut: bool = False, slow: bool = False) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        if code == 206:
            self.send_header("Content-Range", f"bytes {first}-{first + len(content) - 1}/{size}")
        self.end_headers()
        if cut:
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return
        if slow:
            self.wfile.write(content[:1])
            self.wfile.flush()
            time.sleep(0.05)
            content = content[1:]
        self._wait(len(content))
        self.wfile.write(content)

    def _wait(self, count: int) -> None:
        """Wait until a line of the server's rate, which all connections share, would have sent so many bytes."""
        if self.server.rate is not None:
            with self.server.lock:
                now = time.monotonic()
                self.server.free = max(now, self.server.free) + count / self.server.rate
                until = self.server.free
            time.sleep(max(0.0, until - now))


def no_fault(_: str, first: int, end: int) -> str:
    return ""


def at_random(share: float, kinds: tuple[str, ...] = FAULTS, seed: int = 0) -> Fault:
    """Return faults of these kinds for a share of all answers."""
    draw = random.Random(seed)
    return lambda *_: draw.choice(kinds) if draw.random() < share else ""


@contextmanager
def range_server(root: Path, fault: Fault = no_fault, *, latency: float = 0.0, rate: float | None = None) -> Iterator[RangeServer]:
    """Serve the files below `root`: each answer `latency` seconds late, all together `rate` bytes a second."""
    server = RangeServer(root, fault, latency, rate)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
