"""The server's process: its socket, its threads, and how it ends."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from time import monotonic
from typing import cast

import uvicorn

from epochal.errors import RecipeError, reason_of
from epochal.serve.app import Service, build_app
from epochal.serve.connection import MAX_CONNECTIONS, Connection, Refuse
from epochal.serve.limits import RECEIVE_SECONDS, App
from epochal.serve.model import Served

# Files and pipes that are open besides connections.
_OTHER_FILES = 128

_LEAST_TOKEN = 16
_MAKE_ONE = 'python -c "import secrets; print(secrets.token_urlsafe())"'


def serve(
    models: Sequence[Served],
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    token: str = "",
    names: Sequence[str] = (),
    started: Callable[[str], object] = lambda _: None,
) -> None:
    """Serve models until a signal comes; then requests that have arrived are answered.

    `names` are host names that clients may use besides the address. `started` is called with the address of the page. Raises
    `RecipeError` if the address cannot be used, or is not of this machine alone and there is no `token`.
    """
    if token and (len(token) < _LEAST_TOKEN or not token.isascii() or not all(sign.isalnum() or sign in "-_.~" for sign in token)):
        raise RecipeError(f"A token has at least {_LEAST_TOKEN} letters, digits, or signs of -_.~", f"Make one: {_MAKE_ONE}")
    listener = listen(host, port)
    with listener:
        address, bound = listener.getsockname()[:2]
        is_own = ipaddress.ip_address(address).is_loopback
        if not is_own and not token:
            raise RecipeError(f"Others could use the server at {host}, and there is no token.", f"Pass --token TOKEN: {_MAKE_ONE}")
        with Service(models) as service:
            shown = f"[{address}]" if ":" in address else address
            app = build_app(service, ("localhost", *names) if is_own else names, token)
            server = make_server(app, service.refuse_unread, lambda: started(f"http://{shown}:{bound}"))
            # What is there now stays: without this, each full collection of garbage looks at all of it, and requests wait for that.
            gc.collect()
            gc.freeze()
            asyncio.run(server.serve(sockets=[listener]))


def listen(host: str, port: int) -> socket.socket:
    """Return a socket at an address. Raises `RecipeError` if it is taken, or not one of this machine."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048, reuse_port=False)
    except OSError as error:
        raise RecipeError(
            f"Port {port} of {host} cannot be used: {reason_of(error)}.", "Choose another one: --port 0 takes a free one."
        ) from error


def make_server(app: App, refuse: Refuse, started: Callable[[], object] = lambda: None) -> Server:
    """Return the server of an application; `serve` of that answers until a signal comes, or `should_exit` is set.

    What `refuse` answers itself does not reach the application.
    """
    for name in ("uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.ERROR)
    Connection.most = min(MAX_CONNECTIONS, _open_files() - _OTHER_FILES)
    config = uvicorn.Config(
        app,
        http=cast("type[asyncio.Protocol]", partial(Connection, refuse=refuse)),
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=int(RECEIVE_SECONDS),
        timeout_graceful_shutdown=15,
    )
    return Server(config, started)


class Server(uvicorn.Server):
    """Cuts slow connections off, and ends without an error when a signal asks for it."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], object]) -> None:
        super().__init__(config)
        self._started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        self._started()

    async def on_tick(self, counter: int) -> bool:
        """Look at all connections once a second; called ten times as often."""
        if counter % 10 == 0:
            now = monotonic()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.cut_off(now)
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """End at a signal, which is not sent again after that."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _open_files() -> int:
    """Allow as many open files as the system does, and return how many."""
    if sys.platform == "win32":
        return MAX_CONNECTIONS
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + _OTHER_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_CONNECTIONS + _OTHER_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted
    return wanted if soft == resource.RLIM_INFINITY else soft
