"""A model behind LitServe, as its documentation shows it: pictures are computed together, in a process of its own.

python -m benchmarks.serve_litserve RUN PORT THREADS
"""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path
from typing import Any

import litserve
import torch
from epochal.bundle import Bundle
from epochal.tasks.base import Prediction
from PIL import Image

BATCH, WAIT = 64, 0.005


class Api(litserve.LitAPI):
    """The model in LitServe's terms. `run` and `threads` are set before it is copied to the process that computes."""

    run: str
    threads: int

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Load the model."""
        torch.set_num_threads(self.threads)
        self.bundle = Bundle.load(Path(self.run))

    def decode_request(self, request: dict[str, str]) -> torch.Tensor:
        """Return the input of a picture file, which LitServe takes in JSON."""
        return self.bundle.inputs(Image.open(io.BytesIO(base64.b64decode(request["picture"]))))

    def batch(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """Join inputs."""
        return torch.cat(inputs)

    def predict(self, inputs: torch.Tensor) -> list[Prediction]:
        """Predict a batch."""
        return self.bundle.predict_inputs(inputs)

    def unbatch(self, output: list[Prediction]) -> list[Prediction]:
        """Take a batch apart."""
        return output

    def encode_response(self, output: Prediction) -> dict[str, Any]:
        """Return an answer."""
        return {"label": output.label, "values": dict(output.values)}


if __name__ == "__main__":
    api = Api(max_batch_size=BATCH, batch_timeout=WAIT, enable_async=False)
    api.run, api.threads = sys.argv[1], int(sys.argv[3])
    server = litserve.LitServer(api, accelerator="cpu", healthcheck_path="/healthz")
    server.run(port=int(sys.argv[2]), log_level="error", generate_client_file=False)
