"""Watch: the page of a run in browsers while it trains, and its report once it is finished.

A small server on this machine alone looks at the files of the run, twice a second while a browser listens, and sends what has changed
(server-sent events): browsers ask once. A report is loaded again when folds, a curve or a check of labels have been added to the result.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from epochal.data.spec import DataSpec
from epochal.errors import BundleError
from epochal.io import safe_read
from epochal.io.lock import is_locked
from epochal.report.live import AGAIN, SOURCES, Live, page, pieces, title
from epochal.run.folder import CHECKPOINTS, DATA, METRICS, RECIPE, RESULT, how_to_resume, read_epochs, read_json, read_recipe
from epochal.run.report import render_run
from epochal.serve.limits import App, Guard
from epochal.serve.server import Server, listen, make_server
from epochal.training.checkpoint import checkpoints_in
from epochal.watch.progress_file import PROGRESS

# Seconds between two looks at the files, and after which something is sent to notice that a browser has gone.
_EVERY, _SILENT = 0.5, 10.0

# The page of a finished run has styles in it, and pictures.
_POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


def watch(folder: Path, port: int = 0, started: Callable[[str], object] = lambda _: None) -> None:
    """Show the run in `folder`, which need not exist yet, until a signal comes. `started` is called with the address of the page.

    Raises `BundleError` for what is there but no run, and `RecipeError` if the port cannot be used.
    """
    if folder.exists():
        read_recipe(folder)
    with listen("127.0.0.1", port) as listener:
        bound = listener.getsockname()[1]
        asyncio.run(serving(folder, lambda: started(f"http://127.0.0.1:{bound}")).serve(sockets=[listener]))


def serving(folder: Path, started: Callable[[], object]) -> Server:
    """Return the server that shows the run in `folder`."""

    def is_ending() -> bool:
        return server.should_exit

    server = make_server(build(folder, is_ending), lambda _, __: b"", started)
    return server


def build(folder: Path, is_ending: Callable[[], bool]) -> App:
    """Return the application that shows the run in `folder`; once `is_ending`, it sends no more."""
    seen = Seen(folder)

    async def index(_: Request) -> Response:
        if not seen.is_finished:
            return HTMLResponse(page(seen.look()))
        # First: what is added while the page is made is then noticed.
        script = f"{AGAIN}?{seen.result}"
        return HTMLResponse(render_run(folder, read_json(folder / RESULT), script=script))

    async def script(request: Request) -> Response:
        return Response(SOURCES[request.url.path.removeprefix("/")], media_type="text/javascript")

    async def again(request: Request) -> Response:
        return StreamingResponse(_again(seen, request.url.query, is_ending), media_type="text/event-stream")

    async def events(_: Request) -> Response:
        return StreamingResponse(_events(seen, is_ending), media_type="text/event-stream")

    routes = [Route("/", index), *(Route(f"/{name}", script) for name in SOURCES), Route("/events", events), Route("/again", again)]
    return Guard(Starlette(routes=routes), ("localhost",), policy=_POLICY)


async def _events(seen: Seen, is_ending: Callable[[], bool]) -> AsyncIterator[str]:
    """Yield what has changed, piece by piece."""
    sent: dict[str, str] = {}
    silent = 0.0
    while not is_ending():
        if seen.is_finished:
            yield _event("finished", {})
            return
        live = seen.look()
        new = {name: html for name, html in pieces(live).items() if sent.get(name) != html}
        if new:
            sent |= new
            yield _event("changed", {"title": title(live), "pieces": new})
        elif silent >= _SILENT:
            yield ": still here\n\n"
        silent = 0.0 if new or silent >= _SILENT else silent + _EVERY
        await asyncio.sleep(_EVERY)


async def _again(seen: Seen, result: str, is_ending: Callable[[], bool]) -> AsyncIterator[str]:
    """Say when the result is no longer the one that a report was made of: folds, a curve or a check of labels were added."""
    silent = 0.0
    while not is_ending():
        if seen.result != result:
            yield _event("changed", {})
            return
        if silent >= _SILENT:
            yield ": still here\n\n"
        silent = 0.0 if silent >= _SILENT else silent + _EVERY
        await asyncio.sleep(_EVERY)


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


class Seen:
    """The run in a folder as it was seen last; its files are read again where they have changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._live = Live(folder.resolve().name)
        self._state: object = None

    @property
    def is_finished(self) -> bool:
        """Whether there is a result."""
        return (self.folder / RESULT).exists()

    @property
    def result(self) -> str:
        """What differs once the result was written anew; "" without one."""
        return "-".join(map(str, _changed(self.folder / RESULT) or ()))

    def look(self) -> Live:
        """Return what is known of the run."""
        # What is being written, or removed, the next look will show.
        with suppress(BundleError, FileNotFoundError):
            is_stopped = self.folder.exists() and not is_locked(self.folder) and not self.is_finished
            state = is_stopped, *(_changed(self.folder / name) for name in (RECIPE, METRICS, PROGRESS))
            if state != self._state:
                self._live, self._state = self._read(is_stopped=is_stopped), state
        return self._live

    def _read(self, *, is_stopped: bool) -> Live:
        folder, name = self.folder, self._live.name
        if not (folder / RECIPE).exists():
            return Live(name)
        spec = DataSpec.model_validate(read_json(folder / DATA)["spec"])
        epochs = read_epochs(folder) if (folder / METRICS).exists() else []
        progress = safe_read.read_json(folder / PROGRESS) if (folder / PROGRESS).exists() and not is_stopped else None
        resume = how_to_resume(folder) if is_stopped and checkpoints_in(folder / CHECKPOINTS) else ""
        about = f"{spec.name} · {read_recipe(folder).model.name}"
        return Live(name, about, spec.task, tuple(epochs), progress, is_stopped, resume)


def _changed(path: Path) -> tuple[int, int] | None:
    """Return what differs where a file was written anew."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size
