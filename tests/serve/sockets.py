"""Requests byte by byte, as no HTTP library would send them."""

from __future__ import annotations

import json
import socket
from typing import NamedTuple
from urllib.parse import urlsplit


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        found: str = json.loads(self.body)["error"]["code"] if self.body.startswith(b'{"error"') else ""
        return found


def connect(url: str, seconds: float = 60) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=seconds)


def read(sock: socket.socket, *, has_body: bool = True) -> Answer | None:
    """The next answer, or None if the connection is closed without one."""
    content = b""
    try:
        while b"\r\n\r\n" not in content:
            more = sock.recv(65536)
            if not more:
                return None
            content += more
        head, _, body = content.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        while has_body and len(body) < int(headers.get("content-length", 0)) and (more := sock.recv(65536)):
            body += more
    except ConnectionError:
        return None
    return Answer(int(first.split()[1]), headers, body)


def exchange(url: str, request: str, body: bytes = b"") -> Answer | None:
    """Send the bytes of a request, and return the answer."""
    with connect(url) as sock:
        sock.sendall(request.encode("latin-1") + body)
        return read(sock, has_body=not request.startswith("HEAD"))


def head(target: str, method: str = "GET", host: str | None = "HOST", headers: str = "", version: str = "1.1") -> str:
    own = "" if host is None else f"Host: {host}\r\n"
    return f"{method} {target} HTTP/{version}\r\n{own}{headers}\r\n"
