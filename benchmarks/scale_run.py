"""One process of a job of `scale.py`: a step's time, or that of adding up tensors of several sizes.

    [torchrun --nproc-per-node N] -m benchmarks.scale_run steps NETWORK BATCH
    torchrun --nproc-per-node N -m benchmarks.scale_run exchange

Process 0 prints a JSON object in the last line.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import torch
from torch import nn

STEPS = 30

# Bytes.
SIZES = (4096, 1 << 16, 1 << 20, 1 << 22, 1 << 23, 1 << 24)


def network(name: str) -> nn.Module:
    """Return a network with few parameters for its arithmetic, or with many."""
    if name == "conv":
        first = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        return nn.Sequential(*first, nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, 10))
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))


def size_of(name: str) -> int:
    """Return how many bytes the gradients of a network have."""
    return sum(4 * one.numel() for one in network(name).parameters())


def steps(name: str, batch: int) -> dict[str, Any]:
    """Train by `epochal.fit`, and return the seconds of a step: that of the faster of two epochs."""
    from epochal.data.load import load
    from epochal.training.loop import fit

    chance = torch.Generator().manual_seed(0)
    count = STEPS * batch
    data = load((torch.randn(count, 1, 28, 28, generator=chance), torch.randint(0, 10, (count,), generator=chance)))
    torch.manual_seed(0)
    settings: dict[str, Any] = {"epochs": 3, "batch_size": batch, "threads": 1, "optimizer": "sgd", "lr": 0.01, "device": "cpu"}
    history = fit(network(name), data, settings | {"schedule": "constant", "keep": "last"})
    return {"seconds": batch / max(one.examples_per_second for one in history.epochs[1:])}


def exchange() -> dict[str, Any]:
    """Return the seconds that adding up tensors of `SIZES` takes: the median of 30 times."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    found = []
    for size in SIZES:
        values, times = torch.ones(size // 4), []
        for _ in range(35):
            dist.barrier()
            begin = time.perf_counter()
            dist.all_reduce(values)
            times.append(time.perf_counter() - begin)
        found.append(sorted(times[5:])[15])
    return {"seconds": found}


if __name__ == "__main__":
    made = exchange() if sys.argv[1] == "exchange" else steps(sys.argv[2], int(sys.argv[3]))
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(made), flush=True)
