"""safetensors: the weights with everything that is known about them, which any program can read, and `Bundle.load` opens."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from epochal.bundle import WEIGHTS, Bundle
from epochal.io.files import write_bytes
from epochal.models.windows import Windows
from epochal.progress import silent


def encode(bundle: Bundle, about: Mapping[str, str]) -> bytes:
    """Return the bundle as one file of weights, with `about` and its description as its metadata."""
    return bundle.to_file(about)


def decode(content: bytes, bundle: Bundle) -> Callable[[Tensor], Tensor]:
    """Return a function from raw inputs to values, by the bundle that the file is; `bundle` has the network, if that is the user's."""
    net = bundle.model.get_submodule("net")
    net = net.net if isinstance(net, Windows) else net
    with tempfile.TemporaryDirectory(prefix="epochal-") as folder:
        path = Path(folder) / WEIGHTS
        write_bytes(path, content)
        return Bundle.load(path, copy.deepcopy(net) if bundle.origin is None else None, log=silent).values
