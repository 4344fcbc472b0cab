"""The same seed gives the same bits in every process, wherever, whenever and in whatever language it runs.

EPOCHAL_FRESH=20 python3 -m pytest tests/test_fresh.py          the same with so many processes
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.outcome import outcome
from tests.photos import write_photos

PROCESSES = int(os.environ.get("EPOCHAL_FRESH", "2"))
SETTINGS = [
    "--model", "conv", "--set", "model.dropout=0.3", "--epochs", "3", "--batch-size", "16", "--threads", "1", "--ema", "0.9",
    "--rotate", "10", "--flip", "--mixup", "0.2", "--seed", "7",
]  # fmt: skip
PLACES = ({"TZ": "UTC", "LC_ALL": "C"}, {"TZ": "Asia/Tokyo", "LC_ALL": "ja_JP.UTF-8"}, {"TZ": "America/St_Johns", "LC_ALL": "tr_TR.UTF-8"})


def test_fresh_processes_give_the_same_bits(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", {"bright": 60, "dark": 0}, 40, 12, 12, spread=190)
    wanted: dict[str, Any] = {}
    for number in range(PROCESSES):
        folder = tmp_path / str(number) / "in"
        folder.mkdir(parents=True)
        # The first two fill a cache of their own, later ones mostly find it filled.
        cache = folder / "cache" if number % 3 == 0 else tmp_path / "cache"
        environment = {**os.environ, **PLACES[number % 3], "PYTHONHASHSEED": str(number), "EPOCHAL_CACHE": str(cache)}
        command = [sys.executable, "-m", "epochal", "train", str(photos), *SETTINGS, "--out", f"run-{number}"]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        run = folder / f"run-{number}"
        found = {**outcome(run), "recipe": (run / "recipe.toml").read_bytes(), "data": (run / "data.json").read_bytes()}
        wanted = wanted or found
        assert found.keys() == wanted.keys()
        assert [name for name in wanted if found[name] != wanted[name]] == [], f"process {number} differs"
