"""Requests to web servers: connections that are used again, and answers that name another address."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from epochal.data.storage.remote.connections import Connections


class _Server(ThreadingHTTPServer):
    """Sends "content"; /to/URL is sent on to the URL. `said` are paths, ports of clients, and what they said of themselves."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.said: list[tuple[str, int, str | None]] = []
        self.ends = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        self.server.said.append((self.path, self.client_address[1], self.headers.get("Authorization")))
        is_moved = self.path.startswith("/to/")
        self.send_response(302 if is_moved else 200)
        if is_moved:
            self.send_header("Location", self.path.removeprefix("/to/"))
        self.send_header("Content-Length", "7")
        self.end_headers()
        self.wfile.write(b"content")
        # Without a word: the client finds out when it sends the next request.
        self.close_connection = self.server.ends


@contextmanager
def _server() -> Iterator[_Server]:
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _read(connections: Connections, url: str, count: int = 100) -> bytes:
    with connections.answer("GET", url, {"Authorization": "secret"}) as answer:
        return answer.read(count)


def test_a_connection_is_used_again_once_its_answer_was_read() -> None:
    connections = Connections(60.0)
    with _server() as server:
        assert [_read(connections, f"{server.url}/a b?c=d&e") for _ in range(3)] == [b"content"] * 3
        assert _read(connections, server.url, 3) == b"con"
        assert _read(connections, server.url) == b"content"
    paths, ports, _ = zip(*server.said, strict=True)
    assert paths == ("/a%20b?c=d&e",) * 3 + ("/", "/")
    assert len(set(ports[:4])) == 1
    assert ports[4] != ports[3]


def test_a_connection_that_the_server_has_ended_is_replaced() -> None:
    connections = Connections(60.0)
    with _server() as server:
        server.ends = True
        assert [_read(connections, server.url) for _ in range(3)] == [b"content"] * 3
    assert len({port for _, port, _ in server.said}) == 3
    with pytest.raises(ConnectionError):
        _read(connections, server.url)


def test_only_the_server_that_was_asked_gets_keys() -> None:
    connections = Connections(60.0)
    with _server() as server, _server() as other:
        assert _read(connections, f"{server.url}/to//there") == b"content"
        assert _read(connections, f"{server.url}/to/{other.url}/elsewhere") == b"content"
        assert [key for *_, key in server.said] == ["secret"] * 3
        assert [(path, key) for path, _, key in other.said] == [("/elsewhere", None)]
        assert len({port for _, port, _ in server.said}) == 1


@pytest.mark.parametrize(("to", "problem"), [("", "one address after the other"), ("file:///etc/passwd", "names an address with file")])
def test_what_is_not_followed(to: str, problem: str) -> None:
    with _server() as server, pytest.raises(HTTPException, match=problem):
        _read(Connections(60.0), f"{server.url}/to/{to}")
