"""int8: ONNX files whose convolutions and matrix products are computed in whole numbers of eight bits, and what that costs and brings."""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from epochal.data.examples import Examples
from epochal.data.inputs.values import Inputs
from epochal.errors import ExportError
from epochal.exports.onnx_file import INPUT, installed
from epochal.progress import progress
from epochal.random import permutation
from epochal.tasks.base import Task
from epochal.tasks.intervals import growth, paired

# The ranges of values are measured on so many training examples.
_CALIBRATED = 200

# What is computed in eight bits. Activations are among it, so that what they cut off takes none of the range.
_OPERATIONS = ("Conv", "MatMul", "Gemm", "Relu", "Clip")

# The speed is measured with these batch sizes, so many times each.
SIZES = (1, 64)
_TIMES = 7

_BATCH = 64

_Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Int8:
    """What eight bits cost and bring, on `examples` with known answers.

    `before` and `after` are the accuracy (0 to 1) of the model and of its file, or the root mean square error, in the units of
    `Task.units`. `loss`, with its 95 % `interval`, is what is lost, in percentage points; or by how many percent the error grows. `worse`
    and `better` count examples that only the model gets right, or only the file; they are `None` for quantities. `sizes` are the bytes
    of the file with float32 and with int8; `milliseconds` the median time of a batch with both, on one core, by its size.
    """

    examples: int
    before: float
    after: float
    loss: float
    interval: tuple[float, float]
    worse: int | None
    better: int | None
    sizes: tuple[int, int]
    milliseconds: dict[int, tuple[float, float]]

    @property
    def cost(self) -> str:
        """The loss in words."""
        low, high = (f"{end:.2f}" for end in self.interval)
        if self.worse is None:
            return f"the error grows by {self.loss:.2f} % (95 %: {low} to {high}; n = {self.examples:,})"
        return (
            f"accuracy {100 * self.after:.2f} instead of {100 * self.before:.2f} %: {self.loss:.2f} points lost "
            f"(95 %: {low} to {high}; n = {self.examples:,}, {self.worse:,} worse and {self.better:,} better)"
        )

    @property
    def gain(self) -> str:
        """The size and the speed in words."""
        before, after = (f"{size / 1e6:,.2f}" for size in self.sizes)
        one, many = (before / after for before, after in self.milliseconds.values())
        first, last = self.milliseconds
        return (
            f"{after} instead of {before} MB; {one:.1f} times as fast in batches of {first}, "
            f"{many:.1f} times as fast in batches of {last}, on one core here"
        )

    def check(self, most: float) -> None:
        """Raise `ExportError` if more is lost than `most` points or percent."""
        if not self.loss <= most:
            raise ExportError(
                f"In eight bits, {self.cost}: more than {most:g}.", "Nothing was written. Allow more: --max-loss; or leave --quantize out."
            )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def quantized(content: bytes, training: Inputs) -> bytes:
    """Return an ONNX file of a model as one that computes in eight bits, by the ranges that values have for raw `training` inputs.

    Ranges and scales are fixed, so that an answer does not depend on the other examples of a batch. Preprocessing, and what turns outputs
    into probabilities, stay in float32. Raises `ExportError` if the file has nothing to compute in eight bits.
    """
    with installed():
        import onnx
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter(_some(training).split(8))

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch.numpy()}

    model = onnx.load_model_from_string(content)
    nodes = [node for node in model.graph.node if node.op_type in _OPERATIONS]
    kept = [node.name for node in nodes if _is_preprocessing(node)]
    if len(kept) == len(nodes):
        raise ExportError("The network has no convolution or matrix product.", "Leave --quantize out.")
    with tempfile.TemporaryDirectory(prefix="epochal-") as folder, _quiet():
        path = Path(folder) / "model.onnx"
        quantize_static(
            model,
            path,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_OPERATIONS),
            nodes_to_exclude=kept,
            per_channel=True,
            # On x86, int8 inputs take twice as long.
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return path.read_bytes()


def measure(run: _Run, float32: _Run, values: Callable[[Tensor], Tensor], examples: Examples, task: Task, sizes: tuple[int, int]) -> Int8:
    """Return what int8 costs and brings: `run` computes in eight bits, `float32` does not, and `values` are those of the model.

    `sizes` are the bytes of the two files.
    """
    found, wanted = [], []
    with progress("Measuring", len(examples)) as advance:
        for places in torch.arange(len(examples)).split(_BATCH):
            raw = examples.inputs[places]
            found.append(run(raw))
            wanted.append(values(raw))
            advance(len(places))
    before, after = torch.cat(wanted), torch.cat(found)
    milliseconds = {size: _times(run, float32, examples.inputs[torch.arange(size) % len(examples)]) for size in SIZES}
    judged = [task.judge(some, examples.targets, task.outputs) for some in (before, after)]
    right = [one.right for one in judged if one is not None and one.right is not None]
    count = len(examples)
    if len(right) == 2:
        worse, better = (int((one & ~other).sum()) for one, other in (right, right[::-1]))
        interval = paired(worse, better, count)
        first, second = (float(one.double().mean()) for one in right)
        points = (100 * interval[0], 100 * interval[1])
        return Int8(count, first, second, 100 * (worse - better) / count, points, worse, better, sizes, milliseconds)
    units = torch.tensor(task.units, dtype=torch.float64)
    truth = examples.targets.double().reshape(before.shape)
    errors = (((before.double() - truth) / units).square().mean(1), ((after.double() - truth) / units).square().mean(1))
    first, second = (float(some.mean().sqrt()) for some in errors)
    grown, interval = growth(*errors)
    return Int8(count, first, second, 100 * grown, (100 * interval[0], 100 * interval[1]), None, None, sizes, milliseconds)


def one_by_one(run: _Run) -> _Run:
    """Return a function that gives each input to `run` alone."""
    return lambda inputs: torch.cat([run(one) for one in inputs.split(1)])


def _some(training: Inputs) -> Tensor:
    """Return training inputs drawn at random, always the same."""
    order = permutation(0, len(training))
    return training[order[:_CALIBRATED].sort().values]


def _is_preprocessing(node: Any) -> bool:
    """Whether PyTorch's exporter has a node from the layer before the network."""
    return any(entry.key == "pkg.torch.onnx.name_scopes" and "'model.preprocess'" in entry.value for entry in node.metadata_props)


def _times(run: _Run, float32: _Run, inputs: Tensor) -> tuple[float, float]:
    """Return the median milliseconds of a batch, of each: they take turns, since others use the cores."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(_TIMES):
        for one, taken in zip((float32, run), times, strict=True):
            one(inputs)
            began = time.perf_counter()
            one(inputs)
            taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(times[0]), statistics.median(times[1])


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to ourselves what ONNX Runtime advises."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
