"""How fast a pre-trained trunk is when features are computed and when a model predicts, beside a bare loop over one batch in memory.

python3 -m benchmarks.trunk                 the three ways in turn, ten times
python3 -m benchmarks.trunk --cpu           by processor time, where other programs keep the cores busy

The bare loop passes one batch of float32 through the trunk again and again; nothing is written.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from epochal.models.build import eval_mode
from epochal.models.pretrained.head import AT_ONCE
from epochal.recipe import Recipe
from epochal.run.features import Trunk
from epochal.run.prepare import prepare
from torch import nn

Clock = Callable[[], float]


def main() -> int:
    """Measure and print."""
    made = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    made.add_argument("--model", default="efficientnet-lite0", help="the pre-trained model [%(default)s]")
    made.add_argument("--size", type=int, default=128, help="of pictures, in pixels [%(default)s]")
    made.add_argument("--examples", type=int, default=320, help="in each turn [%(default)s]")
    made.add_argument("--pairs", type=int, default=10, help="how many turns [%(default)s]")
    made.add_argument("--cpu", action="store_true", help="measure processor time, with one thread")
    given = made.parse_args()
    if given.cpu:
        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EPOCHAL_CACHE"] = folder
        return _measure(
            given.model, given.size, given.examples, given.pairs, Path(folder), time.process_time if given.cpu else time.perf_counter
        )


def _measure(name: str, size: int, count: int, pairs: int, cache: Path, clock: Clock) -> int:
    pictures = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)
    data = {"train": (pictures, torch.arange(count) % 2)}
    settings = {"model": name, "size": size, "data.valid": 0.0, "data.test": 0.0, "tune": "head"}
    prepared = prepare(data, Recipe().updated(settings, "given"))
    bundle, examples = prepared.bundle, prepared.data.train
    trunk = bundle.model.get_submodule("net.trunk")
    layers = nn.Sequential(bundle.model.get_submodule("preprocess"), trunk)
    computed = Trunk(layers, (trunk(torch.zeros(1, 3, size, size)).shape[1],), prepared.data, prepared.recipe)
    batch = bundle.model.get_submodule("preprocess")(pictures[:AT_ONCE])

    def bare() -> None:
        with eval_mode(trunk), torch.inference_mode():
            for _ in range(count // AT_ONCE):
                trunk(batch)

    def features() -> None:
        for pack in cache.rglob("*.pack"):
            pack.unlink()
        computed.features(examples)

    ways = {"bare loop": bare, "features": features, "predict": lambda: bundle.predict_inputs(pictures)}
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(pairs + 1):
        for way, run in ways.items():
            began = clock()
            run()
            if number:
                taken[way].append(clock() - began)
    print(f"{name}, {size} pixels, {torch.get_num_threads()} threads, {pairs} pairs of {count} examples")
    for way, times in taken.items():
        ratios = sorted(own / other for own, other in zip(taken["bare loop"], times, strict=True))
        print(
            f"{way:10} {count / statistics.median(times):7.1f} examples/s, {statistics.median(ratios):.0%} of the bare loop's speed "
            f"({ratios[len(ratios) // 4]:.0%} to {ratios[-1 - len(ratios) // 4]:.0%})"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
