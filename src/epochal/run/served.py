"""What a server answers for inputs that are sent as arrays: its HTTP application, asked in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from epochal.data.inputs.values import Inputs
from epochal.errors import ExportError

# Of large inputs, fewer are sent at once than can be read from one request.
_AT_ONCE, _NUMBERS = 100, 500_000

# Kinds whose inputs can be sent as arrays; others are made of words, which raw inputs no longer have.
KINDS = ("picture", "sound", "numbers")


def served_values(folder: Path, model: Any, inputs: Inputs) -> Tensor:
    """Return the values [n, outputs] that the server of a run answers for raw inputs. Raises `ExportError` where it answers an error."""
    from epochal.serve.app import Service, build_app
    from epochal.serve.model import open_model

    served = open_model(folder, own=model)
    step = max(1, min(_AT_ONCE, _NUMBERS // served.rule.size))

    async def ask_all(app: Any) -> list[list[float]]:
        found: list[list[float]] = []
        for part in torch.arange(len(inputs)).split(step):
            answers = await _ask(app, json.dumps({"inputs": inputs[part].tolist()}).encode())
            found += [[answer["values"][name] for name in served.bundle.classes] for answer in answers]
        return found

    with Service([served], decoders=1) as service:
        return torch.tensor(asyncio.run(ask_all(build_app(service))), dtype=torch.float64)


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
