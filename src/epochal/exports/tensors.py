"""safetensors: the weights with everything that is known about them, for programs that have the network themselves."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor

from epochal.bundle import DESCRIPTION, WEIGHTS, Bundle
from epochal.errors import ExportError
from epochal.io.checksums import with_checksum
from epochal.io.files import json_text, write_bytes, write_json

# The entry of the metadata from which a bundle can be made again.
_BUNDLE = "bundle"


def encode(bundle: Bundle, about: Mapping[str, str]) -> bytes:
    """Return the weights as a safetensors file, with `about` and the bundle's description as its metadata. Raises `ExportError`."""
    if bundle.origin is None:
        raise ExportError("The network is your own code, which no file of weights has.", "Use --to onnx or torch-export.")
    weights = {name: tensor.detach().clone().contiguous() for name, tensor in bundle.model.state_dict().items()}
    return safetensors.torch.save(weights, {**about, _BUNDLE: json_text(bundle.description())})


def decode(content: bytes) -> Callable[[Tensor], Tensor]:
    """Return a function from raw inputs to values, by the bundle that the file describes."""
    length = int.from_bytes(content[:8], "little")
    described = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][_BUNDLE])
    described["weights"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    with tempfile.TemporaryDirectory(prefix="epochal-") as folder:
        write_bytes(Path(folder) / WEIGHTS, content)
        write_json(Path(folder) / DESCRIPTION, with_checksum(described))
        return Bundle.load(folder).values
