"""Time to accuracy: `epochal train mnist` with all its defaults, as a user types it, once for each seed.

python3 benchmarks/accuracy.py --data-dir FOLDER   five seeds; writes benchmarks/results/accuracy.json
python3 benchmarks/accuracy.py --quick             one seed, one epoch; writes nothing
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import RESULTS, enter, variables
from benchmarks.report import machine, write_json
from benchmarks.run import data_option


def train(data_dir: Path, seed: int, arguments: Sequence[str]) -> dict[str, float]:
    """Train in a process of its own; return the test accuracy, and the seconds of training and of the whole process."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "run")
        command = [sys.executable, "-m", "epochal", "train", "mnist", "--data-dir", str(data_dir), "--seed", str(seed), "--out", str(out)]
        started = time.perf_counter()
        subprocess.run([*command, *arguments], check=True, stdout=subprocess.DEVNULL, env=variables())
        whole = time.perf_counter() - started
        result: dict[str, Any] = json.loads((out / "result.json").read_text("utf-8"))
    return {"accuracy": result["test"]["accuracy"], "training_seconds": result["seconds"]["train"], "process_seconds": whole}


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_option(parser)
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--quick", action="store_true", help="one seed, one epoch; nothing is written")
    options = parser.parse_args()
    enter("benchmarks.accuracy")
    runs = []
    for seed in range(1 if options.quick else options.seeds):
        runs.append({"seed": seed, **train(options.data_dir, seed, ["--epochs", "1"] if options.quick else [])})
        print(", ".join(f"{name} {value:.4g}" for name, value in runs[-1].items()), flush=True)
    summary = {}
    for name in ("accuracy", "training_seconds", "process_seconds"):
        values = [run[name] for run in runs]
        summary[name] = {"mean": statistics.fmean(values), "std": statistics.stdev(values) if len(values) > 1 else None}
        print(f"{name}: {summary[name]['mean']:.4f} ± {summary[name]['std'] or 0:.4f} over {len(values)} seeds")
    if not options.quick:
        write_json(RESULTS / "accuracy.json", {"machine": machine(), "summary": summary, "runs": runs})
    return 0


if __name__ == "__main__":
    sys.exit(main())
