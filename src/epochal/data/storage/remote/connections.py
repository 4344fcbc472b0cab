"""Connections to web servers, used again and again, by one thread at a time.

They are http.client's: urllib3 takes nearly twice as much of the processor's time for a range of 64 KB.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from ssl import SSLContext, create_default_context
from urllib.parse import SplitResult, quote, urljoin, urlsplit

# So often an answer may name another address.
_REDIRECTIONS = 5
_MOVED = (301, 302, 303, 307, 308)

# Bytes of an answer without content that are read to use its connection again.
_LITTLE = 1 << 16

# What addresses may have in them as it is.
_SAFE = "%/?:@!$&'()*+,;=~[]"

# Those of a process (they do not follow into its forks), a scheme and a server.
_Idle = dict[tuple[int, str, str], list[HTTPConnection]]


class Connections:
    """Sends requests, and gives a server up that sends nothing for `patience` seconds."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self._idle: _Idle = {}
        weakref.finalize(self, _close, self._idle)

    @contextmanager
    def answer(self, method: str, url: str, headers: Mapping[str, str]) -> Iterator[HTTPResponse]:
        """Yield the answer to a request, whose body has not been read. Raises `OSError` or `HTTPException`.

        Redirections are followed; another server does not get the header Authorization.
        """
        for _ in range(_REDIRECTIONS + 1):
            with self._answer(method, url, headers) as answer:
                location = answer.getheader("Location") if answer.status in _MOVED else None
                if location is None:
                    yield answer
                    return
                answer.read(_LITTLE)
            old, url = urlsplit(url), urljoin(url, location)
            new = urlsplit(url)
            if new.scheme not in ("http", "https"):
                raise HTTPException(f"the server names an address with {new.scheme}://")
            if (old.scheme, old.netloc) != (new.scheme, new.netloc):
                headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
        raise HTTPException("the server names one address after the other")

    @contextmanager
    def _answer(self, method: str, url: str, headers: Mapping[str, str]) -> Iterator[HTTPResponse]:
        parts = urlsplit(url)
        target = quote(f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/", safe=_SAFE)
        idle = self._idle.setdefault((os.getpid(), parts.scheme, parts.netloc), [])
        connection, answer = self._asked(parts, idle, method, target, headers)
        try:
            yield answer
        finally:
            # What was not read to its end cannot be used for another request.
            if answer.isclosed():
                idle.append(connection)
            else:
                connection.close()

    def _asked(
        self, parts: SplitResult, idle: list[HTTPConnection], method: str, target: str, headers: Mapping[str, str]
    ) -> tuple[HTTPConnection, HTTPResponse]:
        while True:
            try:
                connection, is_new = idle.pop(), False
            except IndexError:
                connection, is_new = self._new(parts), True
            try:
                connection.request(method, target, headers=headers)
                return connection, connection.getresponse()
            except ConnectionError:
                connection.close()
                # A server may end a connection that was not used for some time.
                if is_new:
                    raise
            except BaseException:
                connection.close()
                raise

    def _new(self, parts: SplitResult) -> HTTPConnection:
        server = parts.netloc.rpartition("@")[2]
        if parts.scheme == "https":
            return HTTPSConnection(server, timeout=self.patience, context=self._context)
        return HTTPConnection(server, timeout=self.patience)

    @cached_property
    def _context(self) -> SSLContext:
        return create_default_context()


def _close(idle: _Idle) -> None:
    for connections in idle.values():
        while connections:
            connections.pop().close()
