"""What the server answers: its routes.

GET  /               the page, and /static/NAME its files
POST /predict        predictions of what is in the body; of several models, by /predict/NAME
POST /explain        what speaks for the prediction of one item; likewise
GET  /model          which models there are
GET  /healthz  /metrics  /openapi.json
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from time import perf_counter
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote

import torch
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from epochal.data.inputs.picture.decoding import cores
from epochal.serve.batching import Batcher, Lane
from epochal.serve.decode import Decoded, text_in
from epochal.serve.decoders import Decoders
from epochal.serve.explain import losses, plan, seen
from epochal.serve.limits import HEADERS, App, Guard, Room, Share, read_body
from epochal.serve.metrics import MEDIUM, Metrics
from epochal.serve.model import Served
from epochal.serve.openapi import describe
from epochal.serve.refusal import RefusedError, bad, busy, spoken

Result = TypeVar("Result")

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]
# A status and what is answered with it.
_Answer: TypeAlias = tuple[int, dict[str, Any]]

# The most seconds from the head of a request to its answer.
DEADLINE = 10.0

# Of more answers than this, words are made by another thread.
_MANY = 64

# Whose value says in which language people want to read.
_ACCEPTED = "accept-language"

# The files of the page by suffix: nothing else is served.
_MEDIA = {"html": "text/html; charset=utf-8", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "png": "image/png"}


class Service:
    """The models that are served, and what computes and decodes for them; `with` starts and ends it."""

    def __init__(self, models: Sequence[Served], decoders: int = 2, deadline: float = DEADLINE) -> None:
        self.models = {model.name: model for model in models}
        self.deadline = deadline
        self.decoders = Decoders({name: model.rule for name, model in self.models.items()}, decoders)
        self.room = Room()
        self.metrics = Metrics(lambda: self.batcher.waiting)
        lanes = {name: Lane(model.predictor, model.most) for name, model in self.models.items()}
        self.batcher = Batcher(lanes, self.metrics.batch)
        # One for each decoder, and one that is computed; and of these as many as there are cores, while one waits.
        self._least = min(decoders + 1, cores()) + 1
        # What asks for a model, without regard to other ways of writing the same path.
        self._asked = {
            f"{verb}{name and '/' + quote(name)}".encode(): (verb, lane)
            for verb in ("/predict", "/explain")
            for one, lane in lanes.items()
            for name in ((one, "") if len(lanes) == 1 else (one,))
        }
        self._explaining = asyncio.Semaphore(1)

    def __enter__(self) -> Service:
        self.decoders.start()
        for name, lane in self.batcher.lanes.items():
            lane.warm_up(self.models[name].rule.zeros(), may_be_quick=self.models[name].is_regular)
        self.batcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.batcher.close()
        self.decoders.close()

    def choose(self, name: str | None) -> Served:
        """Return the model of that name; of one model, the name may be left out. Raises `RefusedError`."""
        if name is None and len(self.models) == 1:
            return next(iter(self.models.values()))
        if name is None:
            raise bad("Several models are served.", f"Choose one: /predict/{next(iter(self.models))}.")
        if name not in self.models:
            raise RefusedError(404, "no_model", "There is no model of that name.", "See /model for their names.")
        return self.models[name]

    @contextmanager
    def enter(self, model: Served) -> Iterator[Share]:
        """Take one request in for the block. Raises `RefusedError` if there is no room for it."""
        with self.room.one(self.batcher.lanes[model.name].per_second, self._least) as share:
            yield share

    def refuse_unread(self, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Return the answer to a request for which there is no room, known from its target alone; b"" for others."""
        verb, lane = self._asked.get(target, ("", None))
        if lane is None or not self.room.is_full(lane.per_second, self._least):
            return b""
        self.room.refuse()
        self.metrics.requests.labels(verb, "503").inc()
        return refused_unread(next((value.decode("latin-1") for name, value in headers if name == _ACCEPTED.encode()), ""))

    async def predict(self, model: Served, share: Share, content_type: str, body: bytes) -> _Answer:
        """Return status and answer for a body."""
        decoded = await self.decoders.decode(model.name, content_type, body)
        share.add(max(len(decoded.names) - 1, 0))
        found: list[dict[str, Any]] = []
        if len(decoded.inputs):
            values = await self.batcher.compute(model.name, decoded.inputs)
            found = model.answers(values) if len(values) <= _MANY else await asyncio.to_thread(model.answers, values)
        self.metrics.items.inc(len(found))
        answer = {"model": model.name, "predictions": list(_in_order(decoded, found))}
        return (200 if found else 422), {**answer, **({"notes": decoded.notes} if decoded.notes else {})}

    async def explain(self, model: Served, _: Share, content_type: str, body: bytes) -> _Answer:
        """Return status and explanation of one item; it is computed while no predictions are asked for."""
        if self._explaining.locked():
            raise busy()
        async with self._explaining:
            decoded = await self.decoders.decode(model.name, content_type, body)
            if len(decoded.names) != 1:
                raise bad("One item is explained at a time.", "Send one file, or one input.")
            if decoded.wrong:
                return 422, {"model": model.name, "predictions": list(_in_order(decoded, []))}
            example = decoded.inputs[0]
            text = await asyncio.to_thread(text_in, content_type, body) if model.rule.kind == "text" else ""
            made = await asyncio.to_thread(plan, model.rule, example, text)
            values = await self.batcher.compute(model.name, torch.cat((example[None], made.inputs)), is_urgent=False)
            picture = await asyncio.to_thread(seen, model.rule, example)
        lost = losses(values, model.bundle.spec.task)
        prediction = next(_in_order(decoded, model.answers(values[:1])))
        return 200, {"model": model.name, "seen": picture, "map": made.draw(lost), "prediction": prediction}


def _in_order(decoded: Decoded, found: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    answers = iter(found)
    for place, name in enumerate(decoded.names):
        if place in decoded.wrong:
            problem, fix = decoded.wrong[place]
            yield {"name": name, "error": {"message": problem, "fix": fix}}
        else:
            yield {"name": name, **next(answers)}


def build_app(service: Service, names: Sequence[str] = ("localhost",), token: str = "") -> App:
    """Return the ASGI application of a service, which answers under `names`, and to those who have the `token` if there is one."""
    page = _static(_page_files())

    async def metrics(_: Request) -> Response:
        return Response(service.metrics.text(), media_type=MEDIUM)

    routes = [
        Route("/", page),
        Route("/static/{name}", page),
        *(
            Route(path, _asked(service, verb, work), methods=["POST"])
            for verb, work in (("/predict", service.predict), ("/explain", service.explain))
            for path in (verb, f"{verb}/{{model:path}}")
        ),
        Route("/model", _fixed({"models": [model.card for model in service.models.values()]})),
        Route("/healthz", _fixed({"status": "ok"})),
        Route("/metrics", metrics),
        Route("/openapi.json", _fixed(describe(service.models, has_token=bool(token)))),
    ]
    app = Starlette(routes=routes, exception_handlers={RefusedError: _refused, HTTPException: _not_found, Exception: _failed})
    # Starlette would build the address from Host.
    app.router.redirect_slashes = False
    return Guard(app, names, token)


def _asked(service: Service, path: str, work: Callable[[Served, Share, str, bytes], Coroutine[Any, Any, _Answer]]) -> Endpoint:
    """Return what reads a request, has it answered by `work` while it is wanted, and counts it."""

    async def endpoint(request: Request) -> Response:
        begin, status = perf_counter(), 500
        try:
            model = service.choose(request.path_params.get("model"))
            with service.enter(model) as share:
                body = await read_body(request.scope, request.receive, share)
                kind = request.headers.get("content-type", "")
                status, found = await _while_wanted(service, request, work(model, share, kind, body))
            accepted = request.headers.get(_ACCEPTED, "")
            found = await asyncio.to_thread(spoken, found, accepted) if accepted else found
            return _json({**found, "milliseconds": round(1000 * (perf_counter() - begin), 2)}, status)
        except RefusedError as error:
            status = error.status
            raise
        finally:
            service.metrics.requests.labels(path, str(status)).inc()
            service.metrics.seconds.labels(path).observe(perf_counter() - begin)

    return endpoint


@functools.lru_cache(64)
def refused_unread(accepted: str) -> bytes:
    """Return the whole answer to a request beyond capacity, by the value of its Accept-Language header."""
    body = json.dumps(spoken(busy().to_json(), accepted), ensure_ascii=False).encode()
    own = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"retry-after", b"1")]
    return b"".join((b"HTTP/1.1 503 Service Unavailable\r\n", *(b"%b: %b\r\n" % pair for pair in (*own, *HEADERS)), b"\r\n", body))


def _fixed(content: object) -> Endpoint:
    """Return what always gives the same answer."""
    response = _json(content)

    async def endpoint(_: Request) -> Response:
        return response

    return endpoint


def _static(page: Mapping[str, tuple[bytes, str]]) -> Endpoint:
    """Return what gives the files of the page, and nothing else."""

    async def endpoint(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in page:
            raise HTTPException(404)
        content, medium = page[name]
        return Response(content, media_type=medium)

    return endpoint


async def _while_wanted(service: Service, request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Return the result of `work`, which is cancelled when the client leaves or its time is up: then it is not computed."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((task, gone), timeout=service.deadline, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        service.metrics.dropped.inc()
        raise RefusedError(503, "too_late", f"There was no answer within {service.deadline:g} seconds.", "Send it again later, or less.")
    finally:
        task.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    body = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return Response(body, status, headers, "application/json")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return _refusal(request, error, {"retry-after": "1"} if error.status == 503 else None)


async def _not_found(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code, problem = ("wrong_method", "The path has other methods.") if error.status_code == 405 else ("not_found", "There is nothing here.")
    return _refusal(request, RefusedError(error.status_code, code, problem, "See /openapi.json."), error.headers)


async def _failed(request: Request, _: Exception) -> Response:
    return _refusal(request, RefusedError(500, "failed", "The server has failed on this request."))


def _refusal(request: Request, error: RefusedError, headers: Mapping[str, str] | None = None) -> Response:
    return _json(spoken(error.to_json(), request.headers.get(_ACCEPTED, "")), error.status, headers)


def _page_files() -> dict[str, tuple[bytes, str]]:
    """Return the files of the page by name, with their types."""
    folder = resources.files("epochal.serve").joinpath("page")
    if not folder.is_dir():
        return {}
    media = ((file, _MEDIA.get(file.name.rpartition(".")[2])) for file in folder.iterdir())
    return {file.name: (file.read_bytes(), medium) for file, medium in media if medium}
