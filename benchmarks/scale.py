"""Predict how fast several processes train, and compare that with gloo on this machine; then on paper with 8 GPUs, and with 32 such nodes.

    python3 benchmarks/scale.py             writes benchmarks/results/scale.*
    python3 benchmarks/scale.py --quick     one network, to see that all runs; writes nothing

docs/scale.md says what is assumed, and why.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import enter
from benchmarks.exchange import measure
from benchmarks.program import parser, run_json, torchrun
from benchmarks.report import BLUE, GREY, publish, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CORES = 2
PROCESSES = (2, 4)
BATCH = 256
ROUNDS = 9

# What is known of a step.
PARTS = ("own", "slowest", "predicted", "measured")

# PyTorch sends gradients in buckets: the first of at most 1 MiB, the others of at most 25.
FIRST, BUCKET = 1 << 20, 25 << 20


class Link(NamedTuple):
    """What connects neighbours of a ring: seconds to begin, and bytes a second each way."""

    latency: float
    rate: float


def exchange(size: int, processes: int, link: Link) -> float:
    """Return the seconds that a ring takes to add up tensors: 2 (n - 1) messages of an n-th (Patarasuk and Yuan 2009)."""
    return 2 * (processes - 1) * (link.latency + size / processes / link.rate)


def step(forward: float, backward: float, size: int, send: Callable[[int], float], *, overlaps: bool = True) -> float:
    """Return the seconds of a step, by simulating it; `send` says how long so many bytes take to be added up.

    Gradients are computed evenly over `backward`, from the last layer to the first. A bucket of them leaves when it is full and the
    one before has arrived; if nothing `overlaps`, when all are computed.
    """
    sizes = [min(FIRST, size)]
    while left := size - sum(sizes):
        sizes.append(min(BUCKET, left))
    done = arrived = 0.0
    for one in sizes:
        done += one / size
        ready = forward + backward * (done if overlaps else 1.0)
        arrived = max(ready, arrived) + send(one)
    return max(arrived, forward + backward)


# ---- this machine: what is measured, and what follows from it


def exchanged(processes: int) -> list[float]:
    """Return the seconds that so many processes take to add up tensors of `scale_run.SIZES`."""
    found = run_json([*torchrun(processes), "-m", "benchmarks.scale_run"], ("seconds",), OMP_NUM_THREADS="1")
    if "error" in found:
        sys.exit(f"exchange of {processes}: {found['error']}")
    seconds: list[float] = found["seconds"]
    return seconds


def interpolated(size: int, seconds: Sequence[float]) -> float:
    """Return the seconds for so many bytes, between those measured: copies in and out of caches follow no straight line."""
    import numpy as np

    from benchmarks.scale_run import SIZES

    return float(np.interp(size, SIZES, seconds))


def slowest(own: Sequence[Sequence[float]], processes: int) -> float:
    """Return the mean seconds until the last of so many processes is ready, whose steps are drawn from those of one; of rounds the median.

    Processes beyond the cores have taken turns in their own steps, too: two that share a core are both ready after the mean of theirs.
    """
    import numpy as np

    draw = np.random.default_rng(0)
    drawn = (draw.choice(steps, (4096, CORES, processes // CORES)) for steps in own)
    return statistics.median(float(one.mean(2).max(1).mean()) for one in drawn)


def here(networks: Sequence[str], rounds: int) -> dict[str, Any]:
    """Measure and predict the steps of each network with each number of processes."""
    from benchmarks.scale_run import SIZES, size_of

    found: dict[str, Any] = {"sizes": SIZES, "exchange": {}, "networks": {name: {} for name in networks}}
    for count in PROCESSES:
        found["exchange"][count] = seconds = exchanged(count)
        for name in networks:
            run = measure("exchange", name, rounds, count, BATCH, ("rates", "own"))
            own = slowest(run["own"], count)
            found["networks"][name][count] = {
                "own": statistics.median(statistics.mean(steps) for steps in run["own"]),
                "slowest": own,
                # All cores compute, so that nothing is hidden behind the arithmetic.
                "predicted": step(0.0, own, size_of(name), lambda size, known=seconds: interpolated(size, known), overlaps=False),
                "measured": BATCH / statistics.median(run["rates"]["gradients"]),
            }
    return found


# ---- on paper


class Job(NamedTuple):
    """What one GPU does: examples in its slice of a batch and in a second, bytes of gradients and of an example as it is read."""

    batch: int
    rate: float
    size: int
    example: int


# NVIDIA, DeepLearningExamples, ResNet-50 v1.5 for PyTorch: one A100 of a DGX A100, mixed precision and TF32, with 256 pictures at a time.
JOBS = {
    "ResNet-50, mixed precision": Job(256, 2470, 102_000_000, 150_528),
    "ResNet-50, TF32": Job(256, 938, 102_000_000, 150_528),
    "ResNet-50, mixed precision, 32 a GPU": Job(32, 2470, 102_000_000, 150_528),
}
# NVLink 3 as all_reduce_perf measures it on 8 A100; eight network cards of 200 Gb/s a node, at 80 %.
NODE, CLUSTER = Link(5e-6, 235e9), Link(15e-6, 0.8 * 8 * 25e9)
GPUS = (1, 8, 16, 64, 256)


def on_paper(job: Job, gpus: int) -> float:
    """Return examples a second: a step's forward takes a third of the time; rings between nodes use all cards of a node at once."""
    seconds = job.batch / job.rate
    link = NODE if gpus <= 8 else CLUSTER
    took = step(seconds / 3, 2 * seconds / 3, job.size, lambda size: exchange(size, gpus, link))
    return gpus * job.batch / took


def tables(found: Mapping[str, Any]) -> str:
    """Return the tables: this machine, and paper."""
    from benchmarks.scale_run import size_of

    rows = [
        [f"{name} ({size_of(name) / 1e6:.1f} MB)", str(count), *(f"{1e3 * one[part]:.1f}" for part in PARTS),
         f"{100 * (one['predicted'] / one['measured'] - 1):+.0f} %"]
        for name, counts in found["networks"].items() for count, one in counts.items()
    ]  # fmt: skip
    sizes = [f"{size >> 10:,}" for size in found["sizes"]]
    times = [[str(count), *(f"{1e3 * one:.2f}" for one in seconds)] for count, seconds in found["exchange"].items()]
    text = table(["gloo: processes", *(f"ms for {size} kB" for size in sizes)], times) + "\n"
    heads = ["a process by itself", "the slowest", "with the exchange: predicted", "measured"]
    text += table([f"batches of {BATCH}, gradients", "processes", *(f"ms a step, {head}" for head in heads), "off by"], rows)
    paper = [
        [name, *(f"{on_paper(job, gpus):,.0f} ({100 * on_paper(job, gpus) / gpus / job.rate:.0f} %)" for gpus in GPUS),
         f"{job.example * on_paper(job, 256) / 32 / 1e9:.1f}"]
        for name, job in JOBS.items()
    ]  # fmt: skip
    return text + "\n" + table(["on paper: examples/s", *(f"{gpus} GPUs" for gpus in GPUS), "GB/s that a node reads"], paper)


def figure(found: Mapping[str, Any]) -> Figure:
    """Draw predicted and measured steps."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(8, 3), layout="constrained")
    for place, (name, one) in enumerate(found["networks"].items()):
        axes = made.add_subplot(1, len(found["networks"]), place + 1)
        for shift, (what, colour) in enumerate((("predicted", GREY), ("measured", BLUE))):
            heights = [1e3 * one[count][what] for count in PROCESSES]
            axes.bar([number + 0.4 * shift for number in range(len(PROCESSES))], heights, 0.38, color=colour, label=what)
        axes.set_xticks([number + 0.2 for number in range(len(PROCESSES))], [str(count) for count in PROCESSES])
        axes.set_title(f"{name}: ms a step by processes", fontsize=10)
        axes.legend(fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return made


def main() -> int:
    """Measure, predict, print and write."""
    options = parser(__doc__, "scale").parse_args()
    enter("benchmarks.scale")
    found = here(("conv",), 2) if options.quick else here(("conv", "mlp"), ROUNDS)
    publish(options, "Scaling, predicted and measured", tables(found), found, figure(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
