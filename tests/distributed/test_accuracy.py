"""Test accuracy by several processes beside that of one, with the same seeds.

EPOCHAL_ACCURACY=10 python3 -m pytest -s tests/distributed/test_accuracy.py     so many seeds on MNIST, CIFAR-10, adult and SST-2
"""

from __future__ import annotations

import json
import os
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from epochal.evaluation.evaluate import evaluate
from epochal.models.build import assemble, build_net
from epochal.recipe import Recipe
from epochal.training.loop import fit
from tests.distributed.test_losses import MADE, REAL, data
from tests.forks import Server
from tests.processes import Processes, write

SEEDS = int(os.environ.get("EPOCHAL_ACCURACY", "0"))

# Steps of 64 examples: far from the best accuracy, where seeds differ most.
STEPS = {"texts": 5, "mnist": 60, "cifar10": 120, "adult": 100, "sst2": 170}
KINDS = ("mnist", "cifar10", "adult", "sst2") if SEEDS else ("texts",)

# Of the test examples, the first so many.
COUNT = 3000

# Standard errors of a mean difference, for eight of which one is larger by chance in a hundred times.
FAR = 4.0


def measure(name: str, seeds: int, _: int) -> None:
    """Train with each seed, and write the test accuracies."""
    from epochal.distributed.ranks import ranks

    model, options, settings = (MADE | REAL)[name]
    given, here, found = data(name), ranks(), []
    assert given.test is not None
    test = given.test.take(torch.arange(min(COUNT, len(given.test))))
    for seed in range(seeds):
        recipe = Recipe().updated({"batch_size": 64, "max_steps": STEPS[name], "threads": 1, "keep": "last", "seed": seed, **settings})
        torch.manual_seed(seed)
        net = assemble(build_net(model, given.spec, options), given.spec, recipe.data, rescale=False)
        fit(net, given, recipe)
        found.append(evaluate(net, test, given.spec, ranks=here).accuracy)
    write(found, f"{here.size}-{here.rank}.json")


def fork(folder: Path, name: str, seeds: int, size: int) -> list[dict[str, Any]]:
    """Train in so many processes; what is read is kept for later forks."""
    data(name)
    return Processes(folder, size, partial(measure, name, seeds)).wait()


@pytest.mark.parametrize("name", KINDS)
def test_accuracy_is_that_of_one_process(name: str, forking: Server, tmp_path: Path) -> None:
    found: dict[int, list[float]] = {}
    for size in (1, 2, 4) if SEEDS else (1, 2):
        forking.by(__name__).ask(folder=str(tmp_path), name=name, seeds=SEEDS or 2, size=size)
        assert [one["code"] for one in forking.answer()] == [0] * size, (tmp_path / "said-0.txt").read_text()
        found[size] = json.loads((tmp_path / f"{size}-0.json").read_text())
    said = []
    for size, values in found.items():
        differences = [100 * (value - alone) for value, alone in zip(values, found[1], strict=True)]
        mean, error = statistics.mean(differences), statistics.stdev(differences) / len(differences) ** 0.5
        said.append(
            f"{size}: {100 * statistics.mean(values):.2f} % (deviation {100 * statistics.stdev(values):.2f}), "
            f"beside 1 {mean:+.3f} points, standard error {error:.3f}"
        )
        assert abs(mean) <= FAR * error or abs(mean) < 1e-9
    print(f"\n{name}: " + "; ".join(said))
