"""Measure what checkpoints cost: the share of training on MNIST, with the settings as they come, that is spent writing them.

python3 benchmarks/checkpoints.py             writes benchmarks/results/checkpoints.*
python3 benchmarks/checkpoints.py --quick     smaller, to see that all runs; writes nothing
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import enter
from benchmarks.program import count, data_option, parser
from benchmarks.report import Spread, bars, publish, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CASES: dict[str, dict[str, Any]] = {"mlp": {"model": "mlp", "epochs": 5}, "conv": {"model": "conv", "epochs": 1}}


def cost(data: Any, settings: dict[str, Any]) -> dict[str, float]:
    """Train once into a new folder; return the seconds of training, those in saving, and how many checkpoints there were."""
    import epochal
    from epochal.training.checkpoint import Checkpoints

    times: list[float] = []
    real = Checkpoints.save

    def timed(self: Checkpoints, training: Any) -> None:
        begun = time.perf_counter()
        real(self, training)
        times.append(time.perf_counter() - begun)

    # In a run folder beside this program, since the disk that people write to counts, and no file system in memory.
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        Checkpoints.save = timed  # type: ignore[method-assign]
        try:
            done = epochal.train(data, **settings, out=Path(folder) / "run", quiet=True)
        finally:
            Checkpoints.save = real  # type: ignore[method-assign]
    return {"training": done.fit.finished.seconds, "saving": sum(times), "checkpoints": len(times)}


def figure(shares: dict[str, Spread]) -> Figure:
    """Return the share of each case, beside the one that is allowed."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(6, 1.8), layout="constrained")
    axes = made.subplots()
    words = [f"{spread.median:.2f} %" for spread in shares.values()]
    bars(axes, "Share of training spent in checkpoints, percent", list(shares), list(shares.values()), words, [True] * len(shares))
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlim(0, max(1.3, axes.get_xlim()[1]))
    return made


def main() -> int:
    """Measure, print and write."""
    made = parser(__doc__, "checkpoints")
    data_option(made)
    made.add_argument("--rounds", type=count, default=5, help="runs of each network, in turns [%(default)s]")
    options = made.parse_args()
    enter("benchmarks.checkpoints")
    import epochal

    data = epochal.load("mnist", data_dir=options.data_dir)
    rounds = 1 if options.quick else options.rounds
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CASES}
    for _ in range(rounds):
        for name, settings in CASES.items():
            found[name].append(cost(data, settings | ({"max_steps": 100} if options.quick else {})))
    shares = {name: Spread.of([100 * one["saving"] / one["training"] for one in runs]) for name, runs in found.items()}
    rows = [
        [
            f"{name}, epochs: {CASES[name]['epochs']}",
            f"{Spread.of([one['training'] for one in runs]):.1f}",
            f"{Spread.of([one['checkpoints'] for one in runs]):.0f}",
            f"{Spread.of([1000 * one['saving'] / one['checkpoints'] for one in runs]):.0f}",
            f"{shares[name]:.2f}",
        ]
        for name, runs in found.items()
    ]
    text = table(["median (least–most)", "seconds of training", "checkpoints", "milliseconds each", "share, %"], rows)
    publish(options, "What checkpoints cost", text, {"runs": found}, figure(shares))
    return 0


if __name__ == "__main__":
    sys.exit(main())
