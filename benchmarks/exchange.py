"""Measure what a process group costs one process, and what share of a step two processes exchange gradients.

    python3 benchmarks/exchange.py             writes benchmarks/results/exchange.*
    python3 benchmarks/exchange.py --quick     few rounds, to see that all runs; writes nothing

Epochs of 20 steps take turns within one training, so that what else happens on the machine meets all alike. What the exchange costs is
the difference to the same steps without it: where processes add up one number in place of the gradients, they wait for each other all the
same; where they add up nothing, they do not. Their weights then drift apart, which changes no time.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import enter
from benchmarks.program import count, parser, run_json, torchrun
from benchmarks.report import Spread, bars, publish, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NETWORKS = ("conv", "mlp")

BATCH = 64

EXCHANGED = ("gradients", "one number", "nothing")


def measure(job: str, network: str, rounds: int, processes: int, batch: int = BATCH, keys: Sequence[str] = ("rates",)) -> dict[str, Any]:
    """Run a job of `exchange_run.py`, and return these of its results."""
    command = [*torchrun(processes), "-m", "benchmarks.exchange_run", job, network, str(batch), str(rounds)]
    found = run_json(command, keys, OMP_NUM_THREADS="1")
    if "error" in found:
        sys.exit(f"{job} {network}: {found['error']}")
    return found


def longer(rates: Sequence[float], base: Sequence[float]) -> list[float]:
    """Return by how many percent steps take longer than those of `base`, in each round."""
    return [100 * (other / rate - 1) for rate, other in zip(rates, base, strict=True)]


def middle(values: Sequence[float]) -> Spread:
    """Return the median, and the quartiles: a moment in which the machine did something else shall not decide."""
    if len(values) == 1:
        return Spread.of(values)
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def shares(rates: Mapping[str, Sequence[float]]) -> tuple[list[float], list[float]]:
    """Return how many percent of a step are waiting for each other, and adding up gradients, in each round."""
    seconds = [(1 / all_, 1 / one, 1 / none) for all_, one, none in zip(*(rates[name] for name in EXCHANGED), strict=True)]
    return [100 * (one - none) / all_ for all_, one, none in seconds], [100 * (all_ - one) / all_ for all_, one, _ in seconds]


def tables(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the tables."""
    from benchmarks.scale_run import network, size_of

    groups, exchanges = [], []
    for name in found["group"]:
        rates, size = found["group"][name]["rates"], size_of(name)
        what = f"{name} ({size / 1e6:.1f} MB of gradients, {len(list(network(name).parameters()))} tensors)"
        own = [f"{statistics.median(rates[way]):,.0f}" for way in ("without", "in a group")]
        groups.append([what, *own, f"{middle(longer(rates['in a group'], rates['without'])):+.1f}"])
        rates = found["exchange"][name]["rates"]
        own = [f"{statistics.median(rates[way]):,.0f}" for way in EXCHANGED]
        exchanges.append([what, *own, *(f"{middle(part):.1f}" for part in shares(rates))])
    heads = [
        "1 process",
        "examples/s without a group",
        "in a group of gloo",
        "longer, %: median (quartiles) of rounds",
    ]
    first = table(heads, groups)
    heads = [
        "2 processes that add up",
        *EXCHANGED,
        "% of a step: waiting for each other, and latency",
        "% of a step: sending and adding up gradients",
    ]
    return first + "\n" + table(heads, exchanges)


def figure(found: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw the shares of a step."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(8, 2.5), layout="constrained")
    parts = ("waiting for each other", "gradients")
    values = {f"{name}: {what}": middle(part) for name in found["exchange"]
              for what, part in zip(parts, shares(found["exchange"][name]["rates"]), strict=True)}  # fmt: skip
    words = [f"{spread.median:.0f} %" for spread in values.values()]
    bars(made.subplots(), "share of a step of two processes", list(values), list(values.values()), words, [True] * len(values))
    return made


def main() -> int:
    """Measure, print and write."""
    made = parser(__doc__, "exchange")
    made.add_argument("--rounds", type=count, default=25, help="of two processes; three times as many of one [%(default)s]")
    options = made.parse_args()
    enter("benchmarks.exchange")
    networks, rounds = (NETWORKS[:1], 5) if options.quick else (NETWORKS, options.rounds)
    found = {
        "group": {name: measure("group", name, 3 * rounds, 1) for name in networks},
        "exchange": {name: measure("exchange", name, rounds, 2) for name in networks},
    }
    publish(options, "What several processes cost", tables(found), found, figure(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
