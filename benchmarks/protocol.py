"""What all contestants share: the data, the model, the clock, and how they tell what came out.

A contestant is a file with a function `Job -> Outcome`, which it gives to `main`. It is started in a process of its own with
`--data-dir --epochs --batch-size --seed`, and the last line that it prints is one JSON object: `seconds` (of each epoch: training
alone, without start-up and evaluation), `accuracy` (on the test data, at the end) and `peak_mib` (memory of the process).
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

MEAN, STD, RATE = 0.1307, 0.3081, 0.001
# A schema is gone when the library that defined it is.
_LIBRARIES: list[torch.library.Library] = []


@dataclass(frozen=True)
class Job:
    """What to train on, and how long."""

    data_dir: Path
    epochs: int
    batch_size: int
    seed: int


@dataclass(frozen=True)
class Outcome:
    """The seconds of each epoch, and the share of test examples that are right; `None` for what does not learn."""

    seconds: Sequence[float]
    accuracy: float | None


@dataclass
class Stopwatch:
    """The seconds between each `start` and the next `stop`."""

    seconds: list[float] = field(default_factory=list)
    started: float = 0.0

    def start(self) -> None:
        """Begin an epoch."""
        self.started = time.perf_counter()

    def stop(self) -> None:
        """End it."""
        self.seconds.append(time.perf_counter() - self.started)


def main(contestant: Callable[[Job], Outcome]) -> None:
    """Read the job from the command line, do it, and print the outcome."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    job = Job(**vars(parser.parse_args()))
    torch.manual_seed(job.seed)
    outcome = contestant(job)
    assert len(outcome.seconds) == job.epochs
    result = {"seconds": [round(seconds, 4) for seconds in outcome.seconds], "accuracy": outcome.accuracy, "peak_mib": peak_mib()}
    print("\n" + json.dumps(result), flush=True)


def mnist(data_dir: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return training pictures (float32 [60000, 1, 28, 28], normalized) and labels (int64 [60000]), and the same of the test."""
    parts = []
    for part in ("train", "t10k"):
        for kind, axes in (("images-idx3", 3), ("labels-idx1", 1)):
            raw = idx(data_dir, f"{part}-{kind}-ubyte")
            shape = numpy.frombuffer(raw, ">i4", count=axes, offset=4)
            parts.append(torch.frombuffer(bytearray(raw), dtype=torch.uint8, offset=4 + 4 * axes).reshape(*shape.tolist()))
    x_train, y_train, x_test, y_test = parts
    return _normalized(x_train), y_train.long(), _normalized(x_test), y_test.long()


def idx(data_dir: Path, name: str) -> bytes:
    """Return the content of an IDX file of MNIST, packed or not, below `data_dir`."""
    for folder in (data_dir / "mnist", data_dir / "MNIST" / "raw"):
        for file in (folder / name, folder / f"{name}.gz"):
            if file.exists():
                content = file.read_bytes()
                return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    raise SystemExit(f"{data_dir} holds neither mnist/{name} nor mnist/{name}.gz.")


def mlp() -> nn.Module:
    """Return the model: 784-128-10."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def bulk_loader(x: Tensor, y: Tensor, batch_size: int) -> DataLoader[tuple[Tensor, ...]]:
    """Return a DataLoader that gathers a whole batch by one index operation.

    This is what PyTorch's documentation recommends where reading in bulk is faster: "torch.utils.data", section "Disable automatic
    batching", with a BatchSampler as sampler. Every peer that takes a DataLoader gets this one.
    """
    dataset = TensorDataset(x, y)
    return DataLoader(dataset, sampler=BatchSampler(RandomSampler(dataset), batch_size, drop_last=False), batch_size=None)


def adam(model: nn.Module) -> torch.optim.Optimizer:
    """Return Adam in the form that PyTorch's documentation calls the fastest ("torch.optim", section "Algorithms")."""
    return torch.optim.Adam(model.parameters(), lr=RATE, fused=True)


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the share of right answers."""
    model.eval()
    with torch.inference_mode():
        return float((model(x).argmax(1) == y).float().mean())


def let_torchvision_import() -> None:
    """Register two schemas that torchvision asks for on import, and that its wheel for CUDA lacks beside a PyTorch for CPUs."""
    if not hasattr(torch.ops.torchvision, "nms"):
        _LIBRARIES.append(torch.library.Library("torchvision", "DEF"))
        for name in ("nms", "qnms"):
            _LIBRARIES[-1].define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def peak_mib() -> float:
    """Return the most memory that this process has held, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux hands getrusage's maximum on to a new program: that of a large parent would hide that of its child.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return round(int(line.split()[1]) / 1024, 1)
    if sys.platform == "win32":
        return float("nan")
    import resource

    # In bytes on macOS, in KiB elsewhere.
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)


def _normalized(pictures: Tensor) -> Tensor:
    return pictures[:, None].float().div_(255).sub_(MEAN).div_(STD)
