"""Compare the speed of training: the same data, model, batch size and optimizer, one contestant after the other, in rounds.

    python3 benchmarks/run.py --data-dir FOLDER        FOLDER/mnist/ holds the four IDX files of MNIST, packed or not
    python3 benchmarks/run.py --quick                  one round of one epoch, to see that all run; writes nothing

Only Python is needed: the first run makes benchmarks/.venv with the pinned peers. All contestants train on the CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import RESULTS, enter, not_installed, variables
from benchmarks.report import REFERENCE, TOLERANCE, summarize, table, write

# Each contestant's title, and the peer without which it cannot run.
CONTESTANTS: dict[str, tuple[str, str]] = {
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
_PATIENCE = 3600


def main() -> int:
    """Measure, print the table, and write it; return 1 where a contestant did not run, or did other work than the rest."""
    options = _options()
    enter("benchmarks.run")
    # Epochal runs in every round, since all others are measured by it; last, after whatever came before has warmed the machine.
    names = [name for name in CONTESTANTS if name in options.only or name == REFERENCE]
    records = measure(names, options.rounds, options.batch_size, options.epochs, options.data_dir)
    rows = summarize(records)
    print(table(rows, TITLES))
    if not options.quick:
        settings = {"data": "MNIST", "model": "784-128-10", "optimizer": "Adam 0.001", "rounds": options.rounds, "epochs": options.epochs}
        for file in write(RESULTS, options.name, settings, records, TITLES):
            print(f"wrote {os.path.relpath(file)}")
    bad = [f"{row.contestant} (batch size {row.batch_size})" for row in rows if row.error or row.differs]
    if bad:
        print(f"Not comparable (did not run, or accuracy off by more than {100 * TOLERANCE:.1f} %): {', '.join(bad)}", file=sys.stderr)
    return 1 if bad else 0


def measure(names: Sequence[str], rounds: int, batch_sizes: Sequence[int], epochs: int, data_dir: Path) -> list[dict[str, Any]]:
    """Run all contestants one after the other, in each round anew, and return a record of each run.

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
                    told: dict[str, Any] = {"error": f"{needs} could not be installed: {missing[needs]}"}
                else:
                    arguments = ["--data-dir", str(data_dir), "--epochs", str(epochs), "--batch-size", str(batch_size)]
                    told = run_one([sys.executable, "-m", f"benchmarks.contestants.{name}", *arguments, "--seed", str(number)])
                records.append({"contestant": name, "batch_size": batch_size, "round": number, **told})
                if "error" in told:
                    failed.add((name, batch_size))
                shown = told.get("error") or f"{min(told['seconds']):6.2f} s/epoch at best, {100 * told['accuracy']:.2f} %"
                print(f"round {number}/{rounds}  batch {batch_size:>4}  {name:<12} {shown}", flush=True)
    return records


def run_one(command: Sequence[str]) -> dict[str, Any]:
    """Run a contestant and return what its last line tells, or {"error": why not}."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", errors="replace", env=variables(), timeout=_PATIENCE
        )
    except subprocess.TimeoutExpired:
        return {"error": f"took more than {_PATIENCE} seconds"}
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {"error": lines[-1] if lines else f"ended with code {done.returncode}"}
    try:
        told: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
        return {key: told[key] for key in ("seconds", "accuracy", "peak_mib")}
    except (ValueError, TypeError, KeyError):
        return {"error": "its last line is not the JSON object of the protocol"}


def data_option(parser: argparse.ArgumentParser) -> None:
    """Add --data-dir."""
    place = os.environ.get("EPOCHAL_DATA")
    words = "the folder that holds mnist/ [EPOCHAL_DATA]"
    parser.add_argument("--data-dir", type=lambda text: Path(text).resolve(), default=place, required=not place, help=words)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_option(parser)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=5, help="of each run; the median counts")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[64, 512], metavar="N")
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS), metavar="NAME", help=", ".join(CONTESTANTS))
    parser.add_argument("--name", default="speed", help="of the files in benchmarks/results")
    parser.add_argument("--quick", action="store_true", help="one round of one epoch; nothing is written")
    options = parser.parse_args()
    if options.quick:
        options.rounds = options.epochs = 1
    if min(options.rounds, options.epochs, *options.batch_size) < 1:
        parser.error("--rounds, --epochs and --batch-size start at 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
