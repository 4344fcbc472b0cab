"""Train the same things with two checkouts of Epochal, and compare the weights they end with, to the bit.

    python3 benchmarks/same_bits.py --before FOLDER           every recipe, and the commands of the README, as long as they ask for
    python3 benchmarks/same_bits.py --before FOLDER --quick   the same with a dozen steps each

Weights are compared as tensors, whatever their names. MNIST is the real one where EPOCHAL_DATA names a folder that has it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

# By name: data, recipe, settings. Data are made by the functions of that name below, or known to Epochal.
CASES: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "epochal train": ("digits", None, {}),
    "epochal train mnist": ("mnist", None, {"epochs": 1}),
    "epochal train ./photos --size 64": ("photos", None, {"epochs": 2, "size": 64}),
    "epochal train table.npz --model mlp": ("table", None, {"model": {"name": "mlp", "widths": [256, 256]}}),
    "in Python: model='conv'": ("digits", None, {"model": "conv", "epochs": 3}),
    "recipe cifar10": ("cifar10", "cifar10", {"epochs": 1, "max_steps": 30, "precision": "fp32"}),
    "recipe mnist-fast": ("mnist", "mnist-fast", {"max_steps": 300}),
    "recipe mnist": ("mnist", "mnist", {"max_steps": 300}),
    "recipe photos": ("photos", "photos", {"epochs": 2}),
    "recipe tutorial-cifar": ("cifar10", "tutorial-cifar", {"epochs": 1, "max_steps": 200}),
    "recipe tutorial-cnn": ("mnist", "tutorial-cnn", {"max_steps": 200}),
    "recipe tutorial-line": ("line", "tutorial-line", {}),
    "recipe tutorial-mlp": ("mnist", "tutorial-mlp", {"epochs": 1}),
    "recipe tutorial-simple": ("mnist", "tutorial-simple", {"epochs": 1}),
    "recipe tutorial-small-cnn": ("mnist", "tutorial-small-cnn", {"epochs": 1}),
    "linear": ("digits", None, {"model": "linear", "schedule": "constant"}),
    "dropout, weight decay, moving average": ("digits", None, {"model": {"name": "mlp", "dropout": 0.3}, "weight_decay": 0.1, "ema": 0.99}),
    "augmented": ("photos", None, {"epochs": 2, "size": 32, "flip": True, "shift": 2, "rotate": 10, "brightness": 0.1, "erase": 0.2}),
    "mixup": ("photos", None, {"epochs": 2, "size": 32, "mixup": 0.2}),
    "cutmix": ("digits", None, {"epochs": 2, "cutmix": 1.0, "smoothing": 0.1}),
    "accumulated and clipped": ("digits", None, {"epochs": 2, "accumulate": 3, "clip_norm": 1.0, "class_weights": "balanced"}),
    "sgd, plateau": ("digits", None, {"epochs": 3, "optimizer": {"name": "sgd", "lr": 0.05}, "schedule": "plateau"}),
    "adam, cosine": ("digits", None, {"epochs": 3, "optimizer": {"name": "adam", "lr": 0.001}, "schedule": "cosine"}),
    "muon": ("digits", None, {"epochs": 2, "model": "conv", "optimizer": {"name": "muon", "lr": 0.02}}),
    "muon, mlp": ("digits", None, {"epochs": 2, "model": "mlp", "optimizer": {"name": "muon", "lr": 0.02}}),
    "balanced epochs": ("table", None, {"epochs": 3, "sampling": "balanced"}),
    "several labels": ("labels", None, {"epochs": 3}),
    "quantities": ("quantities", None, {"epochs": 3}),
    "quantities far from 0": ("times", None, {"epochs": 3, "loss": "huber"}),
    "whole numbers": ("whole", None, {"epochs": 3}),
    "numbers that need float64": ("fine", None, {"epochs": 3}),
    "pictures of float32": ("bright", None, {"epochs": 2, "model": "conv", "flip": True}),
    "streamed from a pack": ("photos", None, {"epochs": 2, "size": 32, "memory": 1e-6}),
    "own module": ("digits", None, {"epochs": 2, "model": "OWN"}),
}


def main() -> int:
    """Compare; return 1 where anything differs."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--before", type=Path, help="the other checkout", required="--child" not in sys.argv)
    made.add_argument("--quick", action="store_true", help="a dozen steps of each")
    made.add_argument("--only", default="", help="cases whose name has this in it")
    made.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = made.parse_args()
    if options.child:
        _child(options.quick, options.only)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        _write_data(Path(folder))
        found = [_run(checkout, Path(folder), sys.argv[1:]) for checkout in (options.before, ROOT)]
    differing = 0
    for name in CASES:
        if options.only not in name:
            continue
        before, now = (one.get(name, "nothing") for one in found)
        differing += before != now or "Error" in now
        print(
            f"{'same' if before == now else 'DIFFERENT':<9}  {now[:16]}  {name}" + (f"  (before: {before[:80]})" if before != now else "")
        )
    print(f"{differing} of {len(CASES)} differ" if differing else "all weights are the same, to the bit")
    return int(differing > 0)


def _run(checkout: Path, folder: Path, arguments: list[str]) -> dict[str, str]:
    """Return the digest of each case's weights, trained by the code of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "PYTHONSAFEPATH": "1", "EPOCHAL_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), "--child", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{checkout} failed")
    return dict(json.loads(line) for line in done.stdout.splitlines())


def _write_data(folder: Path) -> None:
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for number in range(120):
        pixels = random.integers(0, 256, (40 + number % 3, 48, 3), dtype=np.uint8)
        pixels[:, :, number % 2] //= 3
        path = folder / "photos" / ("cat", "dog")[number % 2] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    x = random.normal(size=(600, 12)).astype("float32")
    np.savez(folder / "table.npz", x=x, y=(x[:, 0] > 0.7).astype(int) + (x[:, 1] > 0))


def _data(name: str) -> Any:
    """Return data by name: (inputs, targets), or what Epochal knows."""
    import numpy as np

    has_real = Path(os.environ.get("EPOCHAL_DATA") or "nowhere", name).exists()
    random = np.random.default_rng(1)
    if name in ("photos", "digits") or (name == "mnist" and has_real):
        return name
    if name == "table":
        return "table.npz"
    x = random.normal(size=(500, 6))
    labels = np.arange(500) % 10
    made = {
        "mnist": lambda: {
            part: (random.integers(0, 256, (count, 28, 28), dtype=np.uint8), np.arange(count) % 10)
            for part, count in (("train", 2000), ("test", 500))
        },
        "cifar10": lambda: (random.integers(0, 256, (1000, 3, 32, 32), dtype=np.uint8), np.arange(1000) % 10),
        "line": lambda: (x[:100, :1].astype("float32"), (3 * x[:100, :1] + 1).astype("float32")),
        "labels": lambda: (x.astype("float32"), (x[:, :3] > 0).astype(int)),
        "quantities": lambda: (x.astype("float32"), (x @ random.normal(size=(6, 2))).astype("float32")),
        "times": lambda: (x.astype("float32"), 1.7e9 + 1000 * x[:, :1]),
        "whole": lambda: ((x * 1000).astype("int64") + 10**15, labels),
        "fine": lambda: (1.7e9 + x, labels),
        "bright": lambda: (random.random((300, 3, 16, 16), dtype="float32"), np.arange(300) % 3),
    }
    return made[name]()


def _child(quick: bool, only: str) -> None:
    import epochal
    from safetensors.numpy import load_file

    for name, (data, recipe, settings) in CASES.items():
        if only not in name:
            continue
        settings = {"threads": 2, "device": "cpu", **settings}
        if quick:
            settings |= {"max_steps": 12}
        if settings.get("model") == "OWN":
            settings["model"] = _own()
        with tempfile.TemporaryDirectory(dir=".") as folder:
            try:
                run = epochal.train(_data(data), recipe, quiet=True, **settings)
                run.bundle.save(Path(folder, "model"))
                weights = load_file(Path(folder, "model", "model.safetensors"))
                hashes = sorted(f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}" for value in weights.values())
                digest = hashlib.sha256("\n".join([*hashes, str(run.test)]).encode()).hexdigest()
            except Exception as error:  # noqa: BLE001 -- reported in the comparison
                digest = f"{type(error).__name__}: {error}"
        print(json.dumps([name, digest]), flush=True)


def _own() -> Any:
    import torch
    from torch import nn

    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1), nn.Linear(288, 10))


if __name__ == "__main__":
    sys.exit(main())
