"""Measure what the loop costs: `epochal.fit` and the bare loop around the same steps, and the arithmetic under both.

python3 benchmarks/engine.py             writes benchmarks/results/engine.*
python3 benchmarks/engine.py --quick     smaller, to see that all runs; writes nothing
"""

from __future__ import annotations

import copy
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import enter
from benchmarks.program import count, parser
from benchmarks.report import BLUE, Spread, bars, publish, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BATCH_SIZE = 64


def overhead(steps: int, pairs: int) -> tuple[dict[str, list[float]], bool]:
    """Time both loops in turns. Return the seconds of each, and whether they always ended with the same weights, bit by bit."""
    import epochal
    import torch
    from epochal.models.build import assemble, build_net
    from epochal.random import key, permutation

    torch.manual_seed(0)
    number = steps * BATCH_SIZE
    x, y = torch.randint(256, (number, 1, 28, 28), dtype=torch.uint8), torch.arange(number) % 10
    data = epochal.load((x, y))
    # The threads that the bare loop has: measuring which number is fastest is not the loop.
    recipe = epochal.load_recipe("tutorial-mlp").updated(
        {"epochs": 1, "batch_size": BATCH_SIZE, "device": "cpu", "threads": torch.get_num_threads()}
    )
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
        for places in permutation(key(recipe.seed, 1, "order"), number).split(BATCH_SIZE):
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
    return seconds, equal


def floor(batch_size: int, epochs: int) -> list[float]:
    """Return the seconds of MNIST epochs that are matrix products alone."""
    from benchmarks.contestants.arithmetic import train
    from benchmarks.protocol import Job

    return list(train(Job(Path(), epochs, batch_size, seed=0)).seconds)


def figure(per_step: dict[str, Spread], ratios: list[float]) -> Figure:
    """Return the time of a step in each loop, and the ratio of each pair."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(9, 2.6), layout="constrained")
    left, right = made.subplots(1, 2)
    words = [f"{spread.median:.0f}" for spread in per_step.values()]
    bars(left, "Microseconds per step", list(per_step), list(per_step.values()), words, ["fit" in name for name in per_step])
    right.plot(range(1, len(ratios) + 1), ratios, "o", color=BLUE)
    right.axhline(1, color="black", linewidth=0.8)
    right.set_title("epochal.fit / bare loop, pair by pair", fontsize=10)
    right.spines[["top", "right"]].set_visible(False)
    return made


def main() -> int:
    """Measure, print and write; return 1 where the weights differ."""
    made = parser(__doc__, "engine")
    made.add_argument("--pairs", type=count, default=21, help="of epochal.fit and the bare loop [%(default)s]")
    made.add_argument("--steps", type=count, default=1000, help="in each [%(default)s]")
    options = made.parse_args()
    enter("benchmarks.engine")
    if options.quick:
        options.pairs, options.steps = 2, 100
    seconds, equal = overhead(options.steps, options.pairs)
    ratios = [fit / hand for fit, hand in zip(seconds["fit"], seconds["hand"], strict=True)]
    loops = {"epochal.fit": seconds["fit"], "bare loop": seconds["hand"]}
    per_step = {name: Spread.of([1e6 * taken / options.steps for taken in own]) for name, own in loops.items()}
    floors = {size: floor(size, 2 if options.quick else 15) for size in (BATCH_SIZE, 512)}
    publish(
        options,
        "What the loop costs",
        report_text(options.steps, per_step, Spread.of(ratios), equal, floors),
        {"steps": options.steps, "seconds": seconds, "ratios": ratios, "weights_bit_equal": equal, "arithmetic_seconds": floors},
        figure(per_step, ratios),
    )
    return 0 if equal else 1


def report_text(steps: int, per_step: dict[str, Spread], ratio: Spread, equal: bool, floors: dict[int, list[float]]) -> str:
    """Return the page of results in Markdown."""
    from benchmarks.contestants.arithmetic import COUNT, FLOPS_PER_EXAMPLE

    rows = [[f"{name}, microseconds per step", f"{spread:.0f}"] for name, spread in per_step.items()]
    rows.append(["ratio within a pair", f"{ratio:.3f}"])
    arithmetic = []
    for size, own in floors.items():
        spread = Spread.of(own)
        arithmetic.append([str(size), f"{spread:.3f}", f"{COUNT * FLOPS_PER_EXAMPLE / spread.median / 1e9:.0f}"])
    return (
        f"784-128-10, batch size {BATCH_SIZE}, {steps:,} steps, in turns; weights at the end "
        f"{'equal' if equal else '**not equal**'} bit by bit.\n\n"
        + table(["median (least–most)", ""], rows)
        + "\nThe arithmetic alone: the matrix products of an epoch of MNIST (60,000 examples).\n\n"
        + table(["batch size", "seconds per epoch", "GFLOP/s"], arithmetic)
    )


if __name__ == "__main__":
    sys.exit(main())
