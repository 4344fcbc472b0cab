"""One process of a job of `exchange.py`: one training, of whose short epochs each second or third costs something that others do not.

    torchrun --nproc-per-node 1 -m benchmarks.exchange_run group NETWORK BATCH ROUNDS
    torchrun --nproc-per-node N -m benchmarks.exchange_run exchange NETWORK BATCH ROUNDS

Process 0 prints a JSON object in the last line: `rates`, examples a second of each round; and `own`, the seconds of its steps in each round
in which nothing was added up.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from epochal.data.load import load
from epochal.distributed.ranks import ranks
from epochal.training import distributed
from epochal.training.loop import fit
from epochal.training.records import EpochDone
from torch import Tensor

from benchmarks.scale_run import network

STEPS = 20

Future = torch.futures.Future[Tensor]


def train(name: str, batch: int, epochs: int, stop: Callable[[EpochDone], str] | None = None) -> list[float]:
    """Train by `epochal.fit`, and return the examples a second of each epoch."""
    chance, count = torch.Generator().manual_seed(0), STEPS * batch
    data = load((torch.randn(count, 1, 28, 28, generator=chance), torch.randint(0, 10, (count,), generator=chance)))
    torch.manual_seed(0)
    settings: dict[str, Any] = {"epochs": epochs, "batch_size": batch, "threads": 1, "optimizer": "sgd", "lr": 0.01, "device": "cpu"}
    history = fit(network(name), data, settings | {"schedule": "constant", "keep": "last"}, stop=stop)
    return [done.examples_per_second for done in history.epochs]


def group(name: str, batch: int, rounds: int) -> dict[str, Any]:
    """Train in one process, which is in a group of gloo during every other epoch."""

    def change(_: EpochDone) -> str:
        if dist.is_initialized():
            dist.destroy_process_group()
        else:
            dist.init_process_group("gloo")
        return ""

    dist.init_process_group("gloo")
    rates = train(name, batch, 2 * (rounds + 1), change)[2:]
    return {"rates": {"in a group": rates[::2], "without": rates[1::2]}}


class _Exchange:
    """What is done in place of adding up gradients, by epoch: all of them, one number, nothing."""

    def __init__(self) -> None:
        self.steps = 0
        # When each step had computed its gradients.
        self.computed: list[float] = []
        here = ranks()
        self._begins, self._computed = here.step_begins, here.step_computed
        here.step_begins, here.step_computed = self._step_begins, self._step_computed  # type: ignore[method-assign]

    def _step_begins(self) -> None:
        self._begins()
        self.steps += 1

    def _step_computed(self) -> None:
        self._computed()
        # Passes before the first step only arrange the gradients.
        if self.steps:
            self.computed.append(time.perf_counter())

    def __call__(self, gradients: Tensor) -> Future:
        mode = max(0, self.steps - 1) // STEPS % 3
        future: Future
        if mode == 2:
            future = torch.futures.Future()
            future.set_result(gradients)
            return future
        future = dist.all_reduce(torch.zeros(1) if mode else gradients, async_op=True).get_future().then(lambda _: gradients)
        return future


def exchange(name: str, batch: int, rounds: int) -> dict[str, Any]:
    """Train in several processes, which add up gradients, one number, or nothing, by turns."""
    distributed._sum_up = made = _Exchange()  # type: ignore[assignment]
    rates = train(name, batch, 3 * (rounds + 1))[3:]
    computed = torch.tensor(made.computed, dtype=torch.float64).view(rounds + 1, 3, STEPS)
    own = computed[1:, 2].diff(dim=1).tolist()
    return {"rates": {"gradients": rates[::3], "one number": rates[1::3], "nothing": rates[2::3]}, "own": own}


def main() -> None:
    """Measure, and let process 0 print what there is to say."""
    found = {"group": group, "exchange": exchange}[sys.argv[1]](sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    if os.environ["RANK"] == "0":
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
