"""One process of a job of `scale.py`: how long it takes to add up tensors of several sizes.

    torchrun --nproc-per-node N -m benchmarks.scale_run

Process 0 prints a JSON object in the last line: `seconds` for each of `SIZES`, medians.
"""

from __future__ import annotations

import json
import os
import statistics
import time

import torch
import torch.distributed as dist
from torch import nn

WARM, TIMES = 5, 30

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


def main() -> None:
    """Measure, and let process 0 print what was found."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    found = []
    for size in SIZES:
        values, times = torch.ones(size // 4), []
        for _ in range(WARM + TIMES):
            dist.barrier()
            begin = time.perf_counter()
            dist.all_reduce(values)
            times.append(time.perf_counter() - begin)
        found.append(statistics.median(times[WARM:]))
    # Without that, a process may be aborted as it ends, by threads that still wait for the other.
    dist.destroy_process_group()
    if os.environ["RANK"] == "0":
        print(json.dumps({"seconds": found}), flush=True)


if __name__ == "__main__":
    main()
