"""Connections that cannot be used to hold the server up: limits on time and size below HTTP, which uvicorn does not have."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, TypeAlias

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from epochal.serve.limits import RECEIVE_SECONDS

# The most bytes of the first line and the headers of a request.
MAX_HEAD = 32_768

# The most requests of a connection that wait for the answers before theirs.
MAX_PIPELINED = 32

# The most connections; for another one, that is closed which has been waiting for longest.
MAX_CONNECTIONS = 4096

# From the target and the headers of a request to the whole answer of one that is refused unread; b"" for others.
Refuse: TypeAlias = Callable[[bytes, Sequence[tuple[bytes, bytes]]], bytes]


class Connection(HttpToolsProtocol):
    """A connection that is closed if it sends a request too slowly, sends none for too long, or does not read its answers."""

    most = MAX_CONNECTIONS

    def __init__(self, *arguments: Any, refuse: Refuse, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._refuse_unread = refuse
        # Since when it has been in its present state: waiting for a request or for the rest of one, or being answered.
        self.since = monotonic()
        self._head = 0
        self._is_in_head = self._is_in_body = self._is_new = False
        self._unread: float | None = None

    @property
    def is_answered(self) -> bool:
        """Whether a complete request is being answered."""
        return self._is_busy and not self._is_in_head and not self._is_in_body

    @property
    def _is_busy(self) -> bool:
        """Whether an earlier request is still being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room for it, if there are too many."""
        super().connection_made(transport)
        # Head and body are two writes, and without this the second would wait for 40 ms.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > self.most:
            waiting = [one for one in self.connections if isinstance(one, Connection) and not one.is_answered]
            min(waiting, key=lambda one: one.since).transport.abort()

    def data_received(self, data: bytes) -> None:
        """Refuse a head that goes on and on."""
        was_in_head, self._is_new = self._is_in_head, False
        super().data_received(data)
        # Of a head that begins in these data, it is not known where.
        if was_in_head and self._is_in_head and not self._is_new:
            self._head += len(data)
            if self._head > MAX_HEAD:
                self._refuse(b"431 Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        """Count time and bytes of the head."""
        super().on_message_begin()
        self.since, self._head, self._is_in_head, self._is_new = monotonic(), 0, True, True

    def on_headers_complete(self) -> None:
        """Refuse what is no path, and a long head that came at once; begin to answer."""
        self._is_in_head, self._is_in_body = False, True
        if len(self.pipeline) >= MAX_PIPELINED:
            # Reading goes on with each answer: without a limit, requests of one who reads no answers would fill the memory.
            self.transport.abort()
            raise ValueError("there are too many requests before their answers")
        if not self.url.startswith(b"/"):
            raise ValueError("the target of a request is not a path")  # The parser's error, which becomes an answer.
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD:
            self._refuse(b"431 Request Header Fields Too Large")
            return
        # Beyond capacity most requests are refused. Each that became a task would take a part of the time in which others are computed.
        may_go_on = not self._is_busy and not self.expect_100_continue and self.parser.should_keep_alive()
        if may_go_on and (refused := self._refuse_unread(self.url, self.headers)):
            self.transport.write(refused)
            return
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Count the time of the answer."""
        self.since, self._is_in_body = monotonic(), False
        if self.cycle is not None:
            super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        """Ignore the body of what is refused."""
        if self.cycle is not None:
            super().on_body(body)

    def on_response_complete(self) -> None:
        """Count the time until the next request."""
        self.since = self.since if self._is_in_body else monotonic()
        super().on_response_complete()

    def cut_off(self, now: float) -> None:
        """Close the connection if it has been too slow; called once a second."""
        if self.transport.get_write_buffer_size():
            self._unread = self._unread or now
            if now - self._unread > RECEIVE_SECONDS:
                self.transport.abort()
            return
        self._unread = None
        if self.is_answered or now - self.since <= RECEIVE_SECONDS:
            return
        if self._is_in_head:
            self._refuse(b"408 Request Timeout")
        elif self._is_in_body and self.cycle is not None and not self.cycle.response_started:
            return  # Who reads the body answers.
        else:
            self.transport.close()

    def _refuse(self, status: bytes) -> None:
        self.transport.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()
