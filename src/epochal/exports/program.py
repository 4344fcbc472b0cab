"""PyTorch's own format: a program of its operations with their weights, which torch.export.load reads in Python, and others in C++."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from epochal.bundle import Bundle
from epochal.exports.portable import dynamic_batch, portable, sample


def encode(bundle: Bundle, about: Mapping[str, str]) -> bytes:
    """Return the model as a .pt2 file, with `about` as files in it."""
    with warnings.catch_warnings():
        # Recurrent layers list their weights again in each pass, which changes nothing.
        warnings.filterwarnings("ignore", "The tensor attributes? .*_flat_weights")
        program = torch.export.export(portable(bundle), (sample(bundle),), dynamic_shapes=(dynamic_batch(),))
    file = io.BytesIO()
    torch.export.save(program, file, extra_files=dict(about))
    return file.getvalue()


def decode(content: bytes) -> Callable[[Tensor], Tensor]:
    """Return a function from raw inputs to values. Only for what `encode` returned: PyTorch does not read strangers' files safely."""
    model = torch.export.load(io.BytesIO(content)).module()

    def run(inputs: Tensor) -> Tensor:
        with torch.inference_mode():
            values: Tensor = model(inputs)
        return values

    return run
