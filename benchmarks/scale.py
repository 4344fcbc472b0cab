"""Predict how fast several processes train, and compare that with gloo on this machine; then on paper with 8 GPUs, and with 32 such nodes.

    python3 benchmarks/scale.py             writes benchmarks/results/scale.*
    python3 benchmarks/scale.py --quick     one network, to see that all runs; writes nothing

docs/scale.md says what is assumed, and why.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import enter, variables
from benchmarks.program import parser, run_json
from benchmarks.report import BLUE, GREY, publish, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROCESSES = (1, 2, 4)
CORES = 2
BATCH = 256

# PyTorch sends gradients in buckets: the first of at most 1 MiB, the others of at most 25.
FIRST, BUCKET = 1 << 20, 25 << 20


class Link(NamedTuple):
    """What connects neighbours of a ring: seconds to begin, and bytes a second each way."""

    latency: float
    rate: float


def exchange(size: int, processes: int, link: Link) -> float:
    """Return the seconds that a ring takes to add up tensors: 2 (n - 1) messages of an n-th (Patarasuk and Yuan 2009)."""
    return 2 * (processes - 1) * (link.latency + size / processes / link.rate)


def step(forward: float, backward: float, size: int, processes: int, link: Link, *, overlaps: bool = True) -> float:
    """Return the seconds of a step, by simulating it.

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
        arrived = max(ready, arrived) + (exchange(one, processes, link) if processes > 1 else 0.0)
    return max(arrived, forward + backward)


# ---- this machine: what is measured, and what follows from it


def measured(*arguments: str, processes: int = 1) -> Any:
    """Run a job of `scale_run.py`."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 or arguments[0] == "exchange" else []), "-m", "benchmarks.scale_run", *arguments]
    found = run_json(command, ("seconds",), OMP_NUM_THREADS="1")
    if "error" in found:
        sys.exit(f"{' '.join(arguments)}: {found['error']}")
    return found["seconds"]


def beside(network: str, batch: int) -> float:
    """Return a step's seconds in one process while another does the same, and they share nothing but the machine."""
    command = [sys.executable, "-m", "benchmarks.scale_run", "steps", network, str(batch)]
    with subprocess.Popen(command, env={**variables(), "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL) as other:
        found: float = measured("steps", network, str(batch))
        other.kill()
    return found


def link_of(seconds: Sequence[float], sizes: Sequence[int]) -> Link:
    """Return the link that explains how long two processes took: a straight line through the smallest and the largest tensor."""
    slope = (seconds[-1] - seconds[0]) / (sizes[-1] - sizes[0])
    return Link((seconds[0] - slope * sizes[0]) / 2, 1 / slope)


def here(networks: Sequence[str]) -> dict[str, Any]:
    """Measure and predict the steps of each network with each number of processes."""
    from benchmarks.scale_run import SIZES, size_of

    pairs = measured("exchange", processes=2)
    link = link_of(pairs, SIZES)
    found: dict[str, Any] = {"sizes": SIZES, "exchange of 2": pairs, "link": link._asdict(), "networks": {}}
    for name in networks:
        size = size_of(name)
        alone = measured("steps", name, str(BATCH))
        crowded = {count: beside(name, BATCH // count) for count in PROCESSES[1:]}
        predicted = {1: alone}
        for count in PROCESSES[1:]:
            # All cores compute, so that nothing is hidden, and processes beyond the cores take turns.
            turns = max(1.0, count / CORES)
            slower = Link(link.latency * turns, link.rate / turns)
            predicted[count] = step(0.0, crowded[count] * turns, size, count, slower, overlaps=False)
        got = {count: alone if count == 1 else measured("steps", name, str(BATCH), processes=count) for count in PROCESSES}
        found["networks"][name] = {"bytes": size, "beside": crowded, "predicted": predicted, "measured": got}
        print(name, found["networks"][name], flush=True)
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
    took = step(seconds / 3, 2 * seconds / 3, job.size, gpus, NODE if gpus <= 8 else CLUSTER)
    return gpus * job.batch / took


def tables(found: Mapping[str, Any]) -> str:
    """Return the tables: this machine, and paper."""
    rows = [
        [f"{name} ({one['bytes'] / 1e6:.1f} MB)", str(count), f"{1e3 * one['predicted'][count]:.1f}", f"{1e3 * one['measured'][count]:.1f}",
         f"{100 * (one['predicted'][count] / one['measured'][count] - 1):+.0f} %"]
        for name, one in found["networks"].items() for count in PROCESSES
    ]  # fmt: skip
    link = found["link"]
    text = f"gloo between two processes: {1e6 * link['latency']:.0f} µs a message, {link['rate'] / 1e6:,.0f} MB/s.\n\n"
    text += table([f"batches of {BATCH}, gradients", "processes", "ms a step, predicted", "measured", "off by"], rows)
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
            axes.bar(
                [number + 0.4 * shift for number in range(3)],
                [1e3 * one[what][count] for count in PROCESSES],
                0.38,
                color=colour,
                label=what,
            )
        axes.set_xticks([number + 0.2 for number in range(3)], [str(count) for count in PROCESSES])
        axes.set_title(f"{name}: ms a step by processes", fontsize=10)
        axes.legend(fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return made


def main() -> int:
    """Measure, predict, print and write."""
    options = parser(__doc__, "scale").parse_args()
    enter("benchmarks.scale")
    found = here(("conv",) if options.quick else ("conv", "mlp"))
    publish(options, "Scaling, predicted and measured", tables(found), found, figure(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
