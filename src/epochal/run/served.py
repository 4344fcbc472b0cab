"""What a server answers for inputs that are sent as JSON: its HTTP application, asked in this process."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
from collections.abc import Iterator, MutableMapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from epochal.data.inputs.base import InputRule
from epochal.data.inputs.table.columns import Column
from epochal.data.inputs.table.rule import TableRule
from epochal.data.inputs.values import Inputs
from epochal.errors import ExportError

# Of large inputs, fewer are sent at once than can be read from one request.
_AT_ONCE, _NUMBERS = 100, 500_000

# Stands for words that training data had not.
_UNSEEN = "(unseen)"


def served_values(folder: Path, model: Any, inputs: Inputs, texts: Sequence[str] | None = None) -> Tensor:
    """Return the values [n, outputs] that the server of a run answers for raw inputs, or for the `texts` that they are made from.

    Raises `ExportError` where it answers an error.
    """
    from epochal.serve.app import Service, build_app
    from epochal.serve.model import open_model

    served = open_model(folder, own=model)
    step = max(1, min(_AT_ONCE, _NUMBERS // served.rule.size))

    async def ask_all(app: Any) -> list[list[float]]:
        found: list[list[float]] = []
        for part in torch.arange(len(inputs)).split(step):
            items = _items(served.rule, inputs[part]) if texts is None else [texts[place] for place in part.tolist()]
            answers = await _ask(app, json.dumps({"inputs": items}).encode())
            found += [[answer["values"][name] for name in served.bundle.classes] for answer in answers]
        return found

    with Service([served], decoders=1) as service:
        return torch.tensor(asyncio.run(ask_all(build_app(service))), dtype=torch.float64)


def _items(rule: InputRule, inputs: Tensor) -> list[Any]:
    """Return inputs [n, *shape] as JSON has them: arrays, or rows of a table."""
    if not isinstance(rule, TableRule):
        return inputs.tolist()
    return [{column.name: _cell(column, value) for column, value in zip(rule.columns, row, strict=True)} for row in inputs.tolist()]


def _cell(column: Column, value: float) -> float | str | None:
    """Return the value of a column as a client has it."""
    if math.isnan(value):
        return None
    if column.kind == "category":
        return column.words[int(value) - 1] if value else next(word for word in _unseen() if word not in column.words)
    if column.kind == "date":
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=value + column.offset)).isoformat()
    return value + column.offset


def _unseen() -> Iterator[str]:
    return (_UNSEEN * count for count in itertools.count(1))


async def _ask(app: Any, body: bytes) -> Sequence[dict[str, Any]]:
    """Return the predictions that the application answers."""
    sent: list[MutableMapping[str, Any]] = []
    given = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> MutableMapping[str, Any]:
        if (message := next(given, None)) is None:
            await asyncio.Event().wait()  # The client stays.
            raise AssertionError
        return message

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http", "path": "/predict",
        "raw_path": b"/predict", "query_string": b"", "root_path": "", "headers": headers,
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    await app(scope, receive, send)
    answer = json.loads(b"".join(message.get("body", b"") for message in sent))
    wrong = answer.get("error") or next((one["error"] for one in answer["predictions"] if "error" in one), None)
    if wrong is not None:
        raise ExportError(f"The server refuses the inputs: {wrong['message']}", wrong["fix"])
    predictions: list[dict[str, Any]] = answer["predictions"]
    return predictions
