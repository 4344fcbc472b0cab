"""Measure the parts: what the loop costs, how fast batches come, how much memory, and what the arithmetic alone takes.

python3 benchmarks/engine.py --data-dir FOLDER     writes benchmarks/results/engine.json
python3 benchmarks/engine.py --quick               smaller, to see that all runs; writes nothing
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import RESULTS, enter, not_installed
from benchmarks.report import Spread, machine, write_json
from benchmarks.run import data_option, run_one


def overhead(steps: int, pairs: int, batch_size: int = 64) -> dict[str, Any]:
    """Time `epochal.fit` and the bare loop around the same steps in turns; compare the weights that they end with."""
    import epochal
    import torch
    from epochal.models.build import assemble, build_net
    from epochal.random import key, permutation

    torch.manual_seed(0)
    count = steps * batch_size
    x, y = torch.randint(256, (count, 1, 28, 28), dtype=torch.uint8), torch.arange(count) % 10
    data = epochal.load((x, y))
    recipe = epochal.load_recipe("tutorial-mlp").updated({"epochs": 1, "batch_size": batch_size, "device": "cpu"})
    start = assemble(build_net("tutorial-mlp", data.spec, {}), data.spec, recipe.data, rescale=False)

    def by_fit(model: torch.nn.Module) -> float:
        # From before the first batch to after the last: reading data and checks before training are not the loop.
        times: list[float] = []
        epochal.fit(model, data, recipe, watchers=[lambda _: times.append(time.perf_counter())])
        return times[-1] - times[0]

    def by_hand(model: torch.nn.Module) -> float:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.001, fused=True)
        loss_of = torch.nn.CrossEntropyLoss()
        model.train()
        started = time.perf_counter()
        for places in permutation(key(recipe.seed, 1, "order"), count).split(batch_size):
            loss = loss_of(model(x.index_select(0, places)), y.index_select(0, places))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return time.perf_counter() - started

    seconds: dict[str, list[float]] = {"fit": [], "hand": []}
    equal = True
    for pair in range(pairs + 1):
        models = {"fit": copy.deepcopy(start), "hand": copy.deepcopy(start)}
        # Who goes first changes, and the first pair, which warms up, does not count.
        for name in ("fit", "hand") if pair % 2 else ("hand", "fit"):
            taken = (by_fit if name == "fit" else by_hand)(models[name])
            if pair:
                seconds[name].append(taken)
        ended = models["hand"].state_dict()
        equal &= all(torch.equal(value, ended[name]) for name, value in models["fit"].state_dict().items())
    ratio = Spread.of([fit / hand for fit, hand in zip(seconds["fit"], seconds["hand"], strict=True)])
    per_step = 1e6 * (Spread.of(seconds["fit"]).median - Spread.of(seconds["hand"]).median) / steps
    return {
        "steps": steps,
        "ratio": str(ratio),
        "microseconds_per_step": round(per_step, 1),
        "weights_bit_equal": equal,
        "seconds": seconds,
    }


def feed_throughput(count: int, batch_size: int = 128) -> dict[str, Any]:
    """Return pictures per second, cropped, flipped and normalized: Epochal's feed, and torchvision one picture at a time."""
    import epochal
    import torch
    from epochal.data.augment import build_augment
    from epochal.data.feed import feed
    from epochal.data.preprocess import Preprocess

    torch.manual_seed(0)
    x, y = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8), torch.arange(count) % 10
    data = epochal.load((x, y))
    recipe = epochal.Recipe().updated({"augment.shift": 4, "augment.flip": True})
    batches = feed(data.train, batch_size, torch.device("cpu"), shuffle_seed=0, augment=build_augment(recipe.augment, data.spec, 0))
    scale = Preprocess(data.spec)
    speeds: dict[str, Any] = {"epochal": _speed(lambda: (scale(batch.inputs) for batch in batches.epoch(1)), count)}
    if "torchvision" in not_installed():
        return {**speeds, "torchvision": f"not installed: {not_installed()['torchvision']}"}
    loaders = {f"torchvision, {workers} workers": _torchvision(x, y, batch_size, workers) for workers in (0, 2)}
    speeds |= {name: _speed(lambda loader=loader: iter(loader), count) for name, loader in loaders.items()}
    return speeds


def _torchvision(x: Any, y: Any, batch_size: int, workers: int) -> Any:
    from torch.utils.data import DataLoader, Dataset

    from benchmarks.protocol import let_torchvision_import

    let_torchvision_import()
    from PIL import Image
    from torchvision import transforms

    steps = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    change = transforms.Compose([*steps, transforms.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))])
    pictures = x.permute(0, 2, 3, 1).contiguous().numpy()

    class Pictures(Dataset[Any]):
        """As torchvision's CIFAR10 reads: an array becomes a picture, which is transformed."""

        def __len__(self) -> int:
            return len(pictures)

        def __getitem__(self, index: int) -> Any:
            return change(Image.fromarray(pictures[index])), int(y[index])

    return DataLoader(Pictures(), batch_size, shuffle=True, num_workers=workers)


def _speed(epoch: Callable[[], Iterator[Any]], count: int) -> int:
    """Return pictures per second in the best of three passes."""
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        for _batch in epoch():
            pass
        best = min(best, time.perf_counter() - started)
    return round(count / best)


def peak_memory(data_dir: Path, batch_size: int = 64) -> dict[str, Any]:
    """Return the most MiB that a whole process holds which trains on MNIST for one epoch."""
    arguments = ["--data-dir", str(data_dir), "--epochs", "1", "--batch-size", str(batch_size)]
    told = {
        name: run_one([sys.executable, "-m", f"benchmarks.contestants.{name}", *arguments]) for name in ("epochal", "resident", "plain")
    }
    return {name: outcome.get("error") or outcome["peak_mib"] for name, outcome in told.items()}


def arithmetic(batch_size: int, count: int = 60_000) -> dict[str, Any]:
    """Time the matrix products of an epoch of 784-128-10, and nothing else: no program that trains exactly can be faster."""
    import torch

    steps = -(-count // batch_size)
    x, hidden, outputs = (torch.randn(batch_size, width) for width in (784, 128, 10))
    first, second = torch.randn(128, 784), torch.randn(10, 128)
    made = [torch.empty(shape) for shape in ((batch_size, 128), (batch_size, 10), (10, 128), (batch_size, 128), (128, 784))]
    # Two products forward; backward two for the weights, one for the hidden layer, none for the inputs.
    factors = [(x, first.T), (hidden, second.T), (outputs.T, hidden), (outputs, second), (hidden.T, x)]
    flops = 2 * sum(left.shape[0] * left.shape[1] * right.shape[1] for left, right in factors) * steps
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        for _step in range(steps):
            for (left, right), out in zip(factors, made, strict=True):
                torch.mm(left, right, out=out)
        best = min(best, time.perf_counter() - started)
    return {"seconds_per_epoch": round(best, 4), "gflop_per_second": round(flops / best / 1e9, 1)}


def main() -> int:
    """Measure all four, print and write them; return 1 where the weights differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_option(parser)
    parser.add_argument("--pairs", type=int, default=15, help="pairs of fit and bare loop")
    parser.add_argument("--quick", action="store_true", help="smaller; nothing is written")
    options = parser.parse_args()
    enter("benchmarks.engine")
    quick = options.quick
    measured: dict[str, Any] = {}
    for name, measure in {
        "loop overhead, fit / bare loop": lambda: overhead(100 if quick else 1000, 2 if quick else options.pairs),
        "feed, pictures per second": lambda: feed_throughput(1_000 if quick else 50_000),
        "peak memory, MiB": lambda: peak_memory(options.data_dir),
        "arithmetic alone, batch size 64": lambda: arithmetic(64),
        "arithmetic alone, batch size 512": lambda: arithmetic(512),
    }.items():
        measured[name] = measure()
        print(f"{name}: {', '.join(f'{key} {value}' for key, value in measured[name].items() if key != 'seconds')}", flush=True)
    if not quick:
        write_json(RESULTS / "engine.json", {"machine": machine(), "measured": measured})
    return 0 if measured["loop overhead, fit / bare loop"]["weights_bit_equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
