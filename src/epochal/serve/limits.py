"""Who may ask what, and how much: checks before a request is read, while it is read, and before it is computed."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import math
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from http.cookies import CookieError, SimpleCookie
from time import monotonic
from typing import Any, TypeAlias
from urllib.parse import parse_qs

from epochal.serve.refusal import RefusedError, bad, busy, spoken, too_large

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

# The most bytes of the body of a request, and of all bodies at a time.
MAX_BODY, MAX_BODIES = 32_000_000, 256_000_000

# The most seconds until a request has arrived, from its first byte.
RECEIVE_SECONDS = 8.0

# The most requests that are worked on at a time.
_MAX_REQUESTS = 256

# So many seconds of computing may wait; and so many while more than this share of the requests of about the last two seconds is refused,
# and there was one in the last second.
_BURST_SECONDS, _BUSY_SECONDS, _REFUSED, _LATELY, _OVER = 0.5, 0.01, 0.2, 2.0, 1.0

COOKIE = "epochal-token"

# Without scripts, styles or anything else from other places; pictures and sounds also from the page's own memory.
_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), microphone=(self), geolocation=()"),
    (b"cache-control", b"no-cache"),
]


class Guard:
    """Refuses requests from other sites and under other names, and without the token if there is one.

    A web page anywhere can send requests to this machine, and make its own host name point here (DNS rebinding). So Host must be the
    address at which the request arrived, or one of `names`; and Origin, if there is one, must be the same. Host decides nothing else.
    `policy` says what pages may load.
    """

    def __init__(self, app: App, names: Sequence[str] = (), token: str = "", policy: str = _POLICY) -> None:
        self.app = app
        self._headers = [(name, policy.encode() if name == b"content-security-policy" else value) for name, value in HEADERS]
        self._names = frozenset(name.lower() for name in names)
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        try:
            found = self._check(scope)
        except RefusedError as error:
            more = [(b"www-authenticate", b"Bearer")] if error.status == 401 else []
            accepted = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"accept-language"), "")
            return await answer(guarded, error.status, spoken(error.to_json(), accepted), more)
        if found:
            return await answer(guarded, 303, {}, found)
        return await self.app(scope, receive, guarded)

    def _check(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """Return the headers of a redirection, if there is one. Raises `RefusedError`."""
        values: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            values.setdefault(name, []).append(value)
        hosts, origins = values.get(b"host", []), values.get(b"origin", [])
        if len(hosts) != 1:
            raise bad("A request has one Host.")
        if not self._is_ours(hosts[0], scope):
            raise RefusedError(421, "wrong_host", "This server does not answer under that name.", "Start it with --name NAME to allow one.")
        if len(origins) > 1 or any(origin.lower() not in _origins(hosts[0]) for origin in origins):
            raise RefusedError(403, "wrong_origin", "Pages of other sites may not use this server.", "Open its own page.")
        if not self._token or scope["path"] == "/healthz":
            return []
        if scope["path"] == "/" and scope["query_string"]:
            given = _token_in(scope["query_string"].decode("latin-1"))
            if self._is_right(given.encode()):
                return [(b"location", b"/"), (b"set-cookie", f"{COOKIE}={given}; HttpOnly; SameSite=Strict; Path=/".encode("latin-1"))]
        if any(self._is_right(token) for token in _tokens(values)):
            return []
        raise RefusedError(401, "no_token", "The server asks for its token.", "Send Authorization: Bearer TOKEN, or open /?token=TOKEN.")

    def _is_right(self, token: bytes) -> bool:
        return hmac.compare_digest(token, self._token)

    def _is_ours(self, host: bytes, scope: Scope) -> bool:
        whole = host.decode("latin-1").lower()
        name, colon, port = whole.rpartition(":")
        if not colon or "]" in port:
            name, port = whole, "80"
        if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
            return False
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name[1:-1] if name.startswith("[") else name)
            return (address.version == 6) == name.startswith("[") and address == ipaddress.ip_address(scope["server"][0])
        except (ValueError, TypeError):
            return False


def _token_in(query: str) -> str:
    try:
        return parse_qs(query, max_num_fields=8).get("token", [""])[0]
    except ValueError:
        raise bad("The query has too many fields.", "Open /?token=TOKEN.") from None


def _origins(host: bytes) -> tuple[bytes, ...]:
    host = host.lower()
    return b"http://" + host, b"https://" + host


def _tokens(headers: dict[bytes, list[bytes]]) -> Iterator[bytes]:
    for value in headers.get(b"authorization", ()):
        scheme, _, token = value.partition(b" ")
        if scheme.lower() == b"bearer":
            yield token.strip()
    for value in headers.get(b"cookie", ()):
        try:
            cookie = SimpleCookie(value.decode("latin-1")).get(COOKIE)
        except CookieError:
            continue
        if cookie is not None:
            yield cookie.value.encode("latin-1")


async def answer(send: Send, status: int, body: object, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
    """Send an answer in JSON."""
    content = json.dumps(body, ensure_ascii=False).encode()
    own = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": own})
    await send({"type": "http.response.body", "body": content})


class Room:
    """How much the server works on at a time: requests, their items, and the bytes of their bodies.

    Half a second of work may wait: that is a burst. Once many requests are refused, there are more than can be computed for longer, and
    only as many may wait as keep the thread that computes busy. So those that are accepted are answered soon, and the server has recovered
    as soon as there are fewer.
    """

    def __init__(self) -> None:
        self.requests = self.items = self.bytes = 0
        # How many requests there were lately, and how many of them were refused; those before count less and less.
        self._came = self._refused = 0.0
        self._counted = monotonic()
        self._refused_at = -math.inf

    @contextmanager
    def one(self, per_second: float, least: int) -> Iterator[Share]:
        """Count a request for the block, of a model that computes so many items per second; as many as `least` are always accepted.

        Raises `RefusedError` if there is no room.
        """
        if self.is_full(per_second, least):
            self.refuse()
            raise busy()
        self._count()
        share = Share(self, self._most(per_second, least))
        self.requests += 1
        try:
            share.add(1)
            yield share
        finally:
            self.requests -= 1
            self.items -= share.items
            self.bytes -= share.bytes

    def is_full(self, per_second: float, least: int) -> bool:
        """Return whether `one` would refuse a request now."""
        return self.requests >= _MAX_REQUESTS or (self.requests >= 2 and self.items + 1 > self._most(per_second, least))

    def _most(self, per_second: float, least: int) -> float:
        """Return how many items there may be."""
        is_overloaded = self._refused > _REFUSED * self._came and monotonic() - self._refused_at < _OVER
        return max(least, per_second * (_BUSY_SECONDS if is_overloaded else _BURST_SECONDS))

    def refuse(self) -> None:
        """Count a request that is refused."""
        self._count()
        self._refused += 1
        self._refused_at = self._counted

    def _count(self) -> None:
        now = monotonic()
        past = math.exp((self._counted - now) / _LATELY)
        self._came, self._refused, self._counted = 1 + past * self._came, past * self._refused, now


class Share:
    """What one request has of the `Room`: it may bring the items of all to more than `most` only while there is at most one other request.

    So a large one can be decoded while another is computed.
    """

    def __init__(self, room: Room, most: float) -> None:
        self.items = self.bytes = 0
        self._room = room
        self._most = most

    def add(self, items: int) -> None:
        """Count further items. Raises `RefusedError`."""
        if self._room.requests > 2 and self._room.items + items > self._most:
            raise busy()
        self.items += items
        self._room.items += items

    def add_bytes(self, count: int) -> None:
        """Count further bytes of the body. Raises `RefusedError`."""
        if self._room.bytes + count > MAX_BODIES:
            raise busy()
        self.bytes += count
        self._room.bytes += count


async def read_body(scope: Scope, receive: Receive, share: Share) -> bytes:
    """Read the body of a request. Raises `RefusedError` as soon as it is too large or too slow."""
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if int(declared) > MAX_BODY:
        raise _too_large()
    pieces, size = [], 0
    try:
        async with asyncio.timeout(RECEIVE_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise asyncio.CancelledError
                piece = message.get("body", b"")
                size += len(piece)
                if size > MAX_BODY:
                    raise _too_large()
                share.add_bytes(len(piece))
                pieces.append(piece)
                if not message.get("more_body"):
                    return b"".join(pieces)
    except TimeoutError:
        raise RefusedError(408, "too_slow", f"The body did not arrive within {RECEIVE_SECONDS:.0f} seconds.", "Send it again.") from None


def _too_large() -> RefusedError:
    return too_large(f"The body has more than {MAX_BODY:,} bytes.", "Send less, or several requests.")
