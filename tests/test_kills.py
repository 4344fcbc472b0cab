"""A run that is killed again and again, by `kill -9` at any moment, ends as the one that was not: the proof, with real processes.

EPOCHAL_KILLS=200 python3 -m pytest tests/test_kills.py          the same with so many kills
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

KILLS = int(os.environ.get("EPOCHAL_KILLS", "6"))
KILLS_A_RUN = 3
SETTINGS = {
    "digits": ["--model", "conv", "--set", "model.dropout=0.3", "--epochs", "25", "--shift", "1", "--ema", "0.9", "--clip-norm", "1"],
    "mnist": ["--recipe", "tutorial-mlp", "--max-steps", "900", "--schedule", "one-cycle", "--ema", "0.9", "--set", "data.valid=0.1"],
}


def _start(folder: Path, arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "epochal", *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _arguments(data: str, folder: Path) -> list[str]:
    """What goes on with the run, or begins it where it has not begun."""
    if (folder / "run").exists():
        return ["resume", "run"]
    return ["train", data, *SETTINGS[data], "--threads", "1", "--checkpoint-every", "0.1", "--out", "run"]


def _finish(data: str, folder: Path) -> float:
    begun = time.monotonic()
    process = _start(folder, _arguments(data, folder))
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 0, told
    return time.monotonic() - begun


def _kept(run: Path) -> dict[str, Any]:
    """All that a run ends with, without what the clock says."""
    result = json.loads((run / "result.json").read_text())
    clock = {"seconds", "examples_per_second", "waiting"}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    (last,) = sorted((run / "checkpoints").glob("step-*"))[-1:]
    return {
        "weights": (run / "model" / "model.safetensors").read_bytes(),
        "result": {name: value for name, value in result.items() if name not in ("seconds", "training_seconds")},
        "metrics": [{name: value for name, value in line.items() if name not in clock} for line in lines],
        "last": {name: tensor.tolist() for name, tensor in load_file(last / "state.safetensors").items()},
    }


@pytest.fixture(params=SETTINGS)
def data(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "mnist" and not (Path(os.environ.get("EPOCHAL_DATA", "/nowhere")) / "mnist").exists():
        pytest.skip("EPOCHAL_DATA has no mnist")
    return name


def test_killed_runs_end_bit_identical(data: str, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    seconds = _finish(data, whole)
    wanted = _kept(whole / "run")
    training = json.loads((whole / "run" / "result.json").read_text())["training_seconds"]
    chance = random.Random(0)
    killed, number = 0, 0
    while killed < max(1, KILLS // len(SETTINGS)):
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        # Most kills come in training, a few before it, and late ones in evaluation, figures and the last writes.
        for _ in range(KILLS_A_RUN):
            process = _start(folder, _arguments(data, folder))
            try:
                process.communicate(timeout=max(0.3, seconds - training + chance.uniform(-0.3, 1.2) * training / KILLS_A_RUN))
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                killed += 1
        _finish(data, folder)
        found = _kept(folder / "run")
        assert [name for name in wanted if found[name] != wanted[name]] == [], f"run {number} differs"
