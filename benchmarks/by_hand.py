"""One program of `engine.py`: `epochal.fit` and the best loop by hand make the same steps in turns.

    python -m benchmarks.by_hand THREADS STEPS PAIRS

Its last line is a JSON object with `networks`, and for each: `fit` and `hand`, the seconds of each turn, and `equal`, whether the
weights were always equal at the end of a pair, bit by bit.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from benchmarks.networks import NETWORKS, made, recipe

if TYPE_CHECKING:
    from epochal.data.load import Data
    from epochal.recipe import Recipe

BATCH_SIZE = 64


def by_fit(model: nn.Module, data: Data, settings: Recipe) -> float:
    """Train one epoch with Epochal, and return its seconds."""
    import epochal

    # From before the first batch to after the last: checks before training are not the loop.
    times: list[float] = []
    epochal.fit(model, data, settings.updated({"epochs": 1}), watchers=[lambda _: times.append(time.perf_counter())])
    return times[-1] - times[0]


def by_hand(net: nn.Module, inputs: Tensor, targets: Tensor, seed: int) -> float:
    """Train one epoch with the fastest loop that needs nothing but PyTorch, and return its seconds.

    All data are in memory as `net` takes them, scaled before; a batch is one gather; Adam is fused.
    """
    from epochal.random import key, permutation

    # What is drawn at random, for the same bits: the order, and dropout of each step.
    count = len(inputs)
    order = permutation(key(seed, 1, "order"), count)
    draws = any(isinstance(module, nn.Dropout) and module.p for module in net.modules())
    seeds = [key(seed, "step", step) for step in range(count // BATCH_SIZE)]
    optimizer = torch.optim.Adam(net.parameters(), lr=0.001, fused=True)
    loss_of = nn.CrossEntropyLoss()
    net.train()
    started = time.perf_counter()
    for step, places in enumerate(order.split(BATCH_SIZE)):
        if draws:
            torch.default_generator.manual_seed(seeds[step])
        loss = loss_of(net(inputs.index_select(0, places)), targets.index_select(0, places))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - started


def compare(network: str, threads: int, steps: int, pairs: int) -> dict[str, Any]:
    """Return the seconds of both in each pair, and whether all ended with the same weights."""
    from epochal.data.inputs.values import in_memory
    from epochal.device import computing

    start, data = made(network, steps * BATCH_SIZE)
    settings = recipe(BATCH_SIZE, threads)
    raw, targets = in_memory(data.train.inputs), data.train.targets
    assert raw is not None
    seconds: dict[str, list[float]] = {"fit": [], "hand": []}
    equal = True
    # Denormal numbers are zero for both.
    with computing(threads):
        inputs = start.preprocess(raw)  # type: ignore[operator]
        for pair in range(pairs + 1):
            models = {"fit": copy.deepcopy(start), "hand": copy.deepcopy(start)}
            # Who goes first changes, and the first pair, which warms up, does not count.
            for name in ("fit", "hand") if pair % 2 else ("hand", "fit"):
                model = models[name]
                taken = by_fit(model, data, settings) if name == "fit" else by_hand(model.net, inputs, targets, settings.seed)  # type: ignore[arg-type]
                if pair:
                    seconds[name].append(taken)
            ended = models["hand"].state_dict()
            equal &= all(torch.equal(value, ended[name]) for name, value in models["fit"].state_dict().items())
    return {**seconds, "equal": equal}


def main() -> None:
    """Compare, and report."""
    threads, steps, pairs = map(int, sys.argv[1:])
    print("\n" + json.dumps({"networks": {network: compare(network, threads, steps, pairs) for network in NETWORKS}}), flush=True)


if __name__ == "__main__":
    main()
