"""A model behind a plain FastAPI endpoint, as tutorials show it: one picture at a time is computed, in FastAPI's pool of threads.

python -m benchmarks.serve_fastapi RUN PORT THREADS
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import torch
import uvicorn
from epochal.bundle import Bundle
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from PIL import Image


def build(bundle: Bundle) -> FastAPI:
    """Return the application."""
    app = FastAPI()

    def answer(body: bytes) -> dict[str, Any]:
        found = bundle.predict_inputs(bundle.inputs(Image.open(io.BytesIO(body))))[0]
        return {"label": found.label, "values": dict(found.values)}

    async def predict(request: Request) -> dict[str, Any]:
        return await run_in_threadpool(answer, await request.body())

    async def healthz() -> str:
        return "ok"

    # Types that are texts, as with annotations from the future, are looked up in the module.
    app.post("/predict")(predict)
    app.get("/healthz")(healthz)
    return app


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[3]))
    uvicorn.run(build(Bundle.load(Path(sys.argv[1]))), port=int(sys.argv[2]), log_level="error")
