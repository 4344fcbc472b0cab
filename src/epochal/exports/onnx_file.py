"""ONNX: what runs without PyTorch, in ONNX Runtime and many others."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from epochal.bundle import Bundle
from epochal.errors import ExportError, MissingError
from epochal.exports.portable import dynamic_batch, portable, sample

INPUT = "input"

# A file of Protocol Buffers has less than 2 GB. Beyond that, weights would be in another file, which gets lost.
_MOST = 1_900_000_000


def encode(bundle: Bundle, about: Mapping[str, str]) -> bytes:
    """Return the model as an ONNX file, with `about` as its metadata. Raises `ExportError` or `MissingError`."""
    with installed():
        import onnx
        import onnxscript  # noqa: F401  PyTorch's exporter needs it
    size = sum(weights.nbytes for weights in bundle.model.state_dict().values())
    if size > _MOST:
        raise ExportError(f"The model has {size / 1e9:,.1f} GB of weights: an ONNX file holds 2.", "Use --to torch-export or safetensors.")
    with _quiet():
        program = torch.onnx.export(
            portable(bundle),
            (sample(bundle),),
            dynamo=True,
            dynamic_shapes=(dynamic_batch(),),
            input_names=[INPUT],
            output_names=["probabilities" if bundle.spec.task.has_accuracy else "values"],
            external_data=False,
            verbose=False,
        )
    assert program is not None
    file = program.model_proto
    onnx.helper.set_model_props(file, {**about, "opset": str(file.opset_import[0].version)})
    content: bytes = file.SerializeToString()
    return content


def described(content: bytes, about: Mapping[str, str]) -> bytes:
    """Return an ONNX file with more metadata."""
    with installed():
        import onnx
    file = onnx.load_model_from_string(content)
    for name, value in about.items():
        file.metadata_props.add(key=name, value=value)
    found: bytes = file.SerializeToString()
    return found


def decode(content: bytes, threads: int = 0) -> Callable[[Tensor], Tensor]:
    """Return a function from raw inputs to values, computed by ONNX Runtime on `threads` (0: all cores).

    Raises `ExportError` for a file that has weights in other files, which a stranger's file could have anywhere, and `MissingError`.
    """
    with installed():
        import onnx
        import onnxruntime
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(onnx.load_model_from_string(content).graph)):
        raise ExportError("The ONNX file has its weights in other files.", "Export the model again: as one file.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Without these, memory for the largest batch is kept, and each new size adds to it.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(inputs: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {INPUT: inputs.numpy()})[0])

    return run


@contextmanager
def installed() -> Iterator[None]:
    """Name the extra if a package is missing."""
    try:
        yield
    except ImportError as error:
        raise MissingError(f"ONNX needs the package {error.name}, which is not installed.", 'pip install "epochal[export]"') from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to ourselves what PyTorch's exporter says of its own progress."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield the tensors of a graph, and of the graphs within it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)
