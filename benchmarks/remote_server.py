"""A web server of one folder behind a line: every answer comes so much later, and all together have so many bytes a second.

    python -m benchmarks.remote_server FOLDER MEGABYTES_A_SECOND LATENCY_IN_MS

It prints its port, and ends with its standard input. It sends ranges (RFC 9110, section 14), which is also all that downloads by S3's
protocol need: HEAD and GET of /BUCKET/NAME.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import sys
import time
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

# What is sent at a time: answers share the line.
_PIECE = 1 << 16


class Line(NamedTuple):
    """What is served, how fast (bytes/s), and how late (seconds)."""

    folder: Path
    rate: float
    latency: float


class Server:
    """Answers, and counts the bytes that it sent."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.free = 0.0
        self.files: dict[str, memoryview] = {}

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of a connection, one after the other."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                method, path, _ = first.split(" ")
                await asyncio.sleep(self.line.latency)
                await self._answer(writer, method, path.partition("?")[0], headers.get("range"))
        writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, method: str, path: str, asked: str | None) -> None:
        content = self._content(path)
        if content is None:
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        begin, end = 0, len(content)
        if asked is not None:
            low, _, high = asked.removeprefix("bytes=").partition("-")
            begin, end = int(low), min(int(high or end) + 1, end)
        status = (
            HTTPStatus.OK if asked is None else HTTPStatus.PARTIAL_CONTENT if begin < end else HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        )
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Length: {max(0, end - begin)}\r\nAccept-Ranges: bytes\r\n"
        head += (
            f'Content-Range: bytes {begin}-{end - 1}/{len(content)}\r\nETag: "{len(content)}"\r\nContent-Type: application/octet-stream\r\n'
        )
        writer.write(f"{head}Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n\r\n".encode())
        if method == "HEAD":
            return
        for place in range(begin, end, _PIECE):
            piece = content[place : min(place + _PIECE, end)]
            # The line has sent what was asked for before, then this.
            now = time.monotonic()
            self.free = max(now, self.free) + len(piece) / self.line.rate
            # The event loop's clock is too coarse for less.
            if self.free - now > 0.002:
                await asyncio.sleep(self.free - now)
            writer.write(piece)
            await writer.drain()

    def _content(self, path: str) -> memoryview | None:
        file = self.line.folder / path.lstrip("/")
        if path not in self.files and file.is_file():
            with file.open("rb") as opened:
                self.files[path] = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
        return self.files.get(path)


async def serve(line: Line) -> None:
    """Serve until the standard input ends."""
    server = await asyncio.start_server(Server(line).connected, "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(Line(Path(sys.argv[1]), 1e6 * float(sys.argv[2]), float(sys.argv[3]) / 1000)))
