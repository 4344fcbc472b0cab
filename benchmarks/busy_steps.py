"""One program of `busy.py`: train a small convolutional network on made pictures in one of several ways, and tell how long steps took.

    python -m benchmarks.busy_steps WAY STEPS

It prints "begun" before the first step, "half" after half of the steps, and at the end one JSON object: `seconds` of each half.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.protocol import bulk_loader

BATCH_SIZE = 64


class Halves:
    """The seconds of the two halves of training."""

    def __init__(self, steps: int) -> None:
        self.half = steps // 2
        self.made = 0
        self.times: list[float] = []

    def begin(self) -> None:
        """Note that the first step is about to be made."""
        self._note("begun")

    def step(self) -> None:
        """Note that a step was made."""
        self.made += 1
        if self.made in (self.half, 2 * self.half):
            self._note("half" if self.made == self.half else "end")

    def _note(self, word: str) -> None:
        self.times.append(time.perf_counter())
        print(word, flush=True)


def network() -> nn.Module:
    """Return the network: two convolutions and two linear layers on pictures of 28×28."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 5, 2, 2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


def made(steps: int) -> tuple[Tensor, Tensor]:
    """Return pictures (float32 [n, 1, 28, 28]) and labels (int64 [n]) for so many steps."""
    number = steps * BATCH_SIZE
    return torch.randn(number, 1, 28, 28), torch.arange(number) % 10


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer."""
    return torch.optim.AdamW(model.parameters(), lr=0.001, fused=True)


def plain(steps: int, halves: Halves) -> None:
    """Train by a loop by hand."""
    model, loss_of = network(), nn.CrossEntropyLoss()
    optimizer = optimizer_of(model)
    loader = bulk_loader(*made(steps), BATCH_SIZE)
    halves.begin()
    for inputs, targets in loader:
        loss_of(model(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
        halves.step()


def ours(steps: int, halves: Halves, **settings: Any) -> None:
    """Train by Epochal."""
    import epochal

    recipe = {"epochs": 2, "batch_size": BATCH_SIZE, "device": "cpu", "schedule": "constant", "lr": 0.001, **settings}

    def watch(record: object) -> None:
        if isinstance(record, epochal.Started):
            halves.begin()
        elif isinstance(record, epochal.EpochDone):
            halves.made = record.step - 1
            halves.step()

    epochal.fit(network(), made(steps // 2), recipe, watchers=[watch])


def peer(name: str) -> Callable[[int, Halves], None]:
    """Return a way that is only imported where it is used, since the peer may not be installed."""
    return lambda steps, halves: getattr(import_module("benchmarks.busy_peers"), name)(steps, halves)


WAYS: dict[str, Callable[[int, Halves], None]] = {
    "epochal": ours,
    "threads": lambda steps, halves: ours(steps, halves, threads=torch.get_num_threads()),
    "plain": plain,
    "lightning": peer("lightning"),
    "skorch": peer("skorch"),
}


def main() -> None:
    """Train, and tell."""
    way, steps = sys.argv[1], int(sys.argv[2])
    torch.manual_seed(0)
    halves = Halves(steps)
    WAYS[way](steps, halves)
    begun, half, end = halves.times
    print("\n" + json.dumps({"seconds": [half - begun, end - half]}), flush=True)


if __name__ == "__main__":
    main()
