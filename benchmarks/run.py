"""Compare the speed of training: the same data, model, batch size and optimizer, one contestant after the other, in rounds.

    python3 benchmarks/run.py --data-dir FOLDER        FOLDER/mnist/ holds the four IDX files of MNIST, packed or not
    python3 benchmarks/run.py --quick                  one round of one epoch, to see that all run; writes nothing

Only Python is needed: the first run makes benchmarks/.venv with the pinned peers. All contestants train on the CPU.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.comparison import REFERENCE, TOLERANCE, figure, summarize, tables
from benchmarks.environment import enter, not_installed
from benchmarks.program import count, data_option, parser, run_json
from benchmarks.report import publish

# Each contestant's title, and the peer without which it cannot run.
CONTESTANTS: dict[str, tuple[str, str]] = {
    "arithmetic": ("the arithmetic: matrix products alone", ""),
    "tutorial": ("the tutorial's program (torchvision, DataLoader)", "torchvision"),
    "plain": ("PyTorch: TensorDataset, DataLoader", ""),
    "bulk": ("PyTorch: DataLoader in bulk, fused Adam", ""),
    "resident": ("PyTorch by hand: resident tensors, fused Adam", ""),
    "resident_jit": ("PyTorch by hand, and torch.compile", ""),
    "lightning": ("Lightning", "lightning"),
    "skorch": ("skorch", "skorch"),
    "keras": ("Keras 3 on PyTorch", "keras"),
    "keras_jit": ("Keras 3 on PyTorch, jit_compile=True", "keras"),
    "fastai": ("fastai", "fastai"),
    "huggingface": ("Hugging Face Trainer", "transformers"),
    REFERENCE: ("Epochal", ""),
}
TITLES = {name: title for name, (title, _) in CONTESTANTS.items()}
RESULT = ("seconds", "accuracy", "peak_mib")


def main() -> int:
    """Measure, print the table, and write it; return 1 where a contestant did not run, or did other work than the rest."""
    made = parser(__doc__, "speed")
    data_option(made)
    made.add_argument("--rounds", type=count, default=10, help="each with a seed of its own [%(default)s]")
    made.add_argument("--epochs", type=count, default=5, help="of each run; the median counts [%(default)s]")
    made.add_argument("--batch-size", type=count, nargs="+", default=[64, 512], metavar="N", help="[64 512]")
    made.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS), metavar="NAME", help=", ".join(CONTESTANTS))
    options = made.parse_args()
    enter("benchmarks.run")
    if options.quick:
        options.rounds = options.epochs = 1
    # Epochal runs in every round, since all others are measured by it; last, after whatever came before has warmed the machine.
    names = [name for name in CONTESTANTS if name in options.only or name == REFERENCE]
    records = measure(names, options.rounds, options.batch_size, options.epochs, options.data_dir)
    rows = summarize(records)
    text = f"MNIST, 784-128-10, Adam 0.001; {options.rounds} rounds of {options.epochs} epochs.\n{tables(rows, TITLES)}"
    publish(options, "Training speed", text, {"records": records}, figure(rows, TITLES))
    bad = [f"{row.contestant} (batch size {row.batch_size})" for row in rows if row.error or row.differs]
    if bad:
        print(f"Not comparable (did not run, or accuracy off by more than {100 * TOLERANCE:.1f} %): {', '.join(bad)}", file=sys.stderr)
    return 1 if bad else 0


def measure(names: Sequence[str], rounds: int, batch_sizes: Sequence[int], epochs: int, data_dir: Path) -> list[dict[str, Any]]:
    """Run all contestants one after the other, again in each round, and return a record of each run.

    Taking turns spreads what else the machine does over all. A contestant that fails is recorded with its reason, and left in peace.
    """
    records: list[dict[str, Any]] = []
    missing = not_installed()
    failed: set[tuple[str, int]] = set()
    for number in range(1, rounds + 1):
        for batch_size in batch_sizes:
            for name in names:
                if (name, batch_size) in failed:
                    continue
                needs = CONTESTANTS[name][1]
                if needs in missing:
                    result: dict[str, Any] = {"error": f"{needs} could not be installed: {missing[needs]}"}
                else:
                    arguments = ["--data-dir", str(data_dir), "--epochs", str(epochs), "--batch-size", str(batch_size)]
                    result = run_json([sys.executable, "-m", f"benchmarks.contestants.{name}", *arguments, "--seed", str(number)], RESULT)
                records.append({"contestant": name, "batch_size": batch_size, "round": number, **result})
                if "error" in result:
                    failed.add((name, batch_size))
                print(f"round {number}/{rounds}  batch {batch_size:>4}  {name:<12} {_brief(result)}", flush=True)
    return records


def _brief(result: dict[str, Any]) -> str:
    if "error" in result:
        return str(result["error"])
    return f"{min(result['seconds']):6.2f} s/epoch at best" + ("" if result["accuracy"] is None else f", {100 * result['accuracy']:.2f} %")


if __name__ == "__main__":
    sys.exit(main())
