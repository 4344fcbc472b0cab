"""Large tables: seconds, memory, and rows per second. `EPOCHAL_ROWS=1000000 pytest -s` makes the table that large."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from epochal import load
from epochal.data.inputs.table.rule import TableRule
from epochal.data.spec import DataSpec
from epochal.io.safe_read import parse_json

ROWS = int(os.environ.get("EPOCHAL_ROWS", "60000"))

# Memory that reading takes however small a table is: buffers, and what Python keeps.
_ANYWAY = 40_000_000

_READ = """
import json, sys, time
import torch
import epochal.data.load
from epochal import load
from epochal.data.feed import feed

def peak():
    # Not getrusage, whose maximum begins with that of the process that started this one.
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))

load({"a": [1, 2] * 50, "y": [0, 1] * 50}, target="y").split().spec
before, began, busy = peak(), time.perf_counter(), time.process_time()
data = load(sys.argv[1], target="sold")
seconds, busy, memory = time.perf_counter() - began, time.process_time() - busy, peak() - before
data = data.split(in_place=True)
data.spec
split, began, rows = peak() - before, time.perf_counter(), 0
for batch in feed(data.train, 1024, torch.device("cpu"), shuffle_seed=0).epoch(1):
    rows += len(batch.inputs)
speed = rows / (time.perf_counter() - began)
size = sum(len(part) for part in data.splits.values()) * data.spec.input.size * 4
found = {"seconds": seconds, "busy": busy, "before": before, "memory": memory, "split": split, "size": size, "speed": speed}
print(json.dumps({**found, "shape": data.spec.shape}))
"""


def made(path: Path, rows: int) -> Path:
    """A table of 14 numbers, 5 categories with 1,000 values, and a target, with gaps."""
    random = np.random.default_rng(0)
    names = [*(f"number {place}" for place in range(14)), *(f"kind {place}" for place in range(5)), "sold"]
    with path.open("w") as file:
        file.write(",".join(names) + "\n")
        for begin in range(0, rows, 10_000):
            count = min(10_000, rows - begin)
            numbers, kinds = random.normal(0, 100, (14, count)), random.integers(0, 1000, (5, count))
            gaps = random.random((19, count)) < 0.03
            columns = [[f"{value:.4g}" for value in column] for column in numbers.tolist()]
            columns += [[f"kind{value:03}" for value in column] for column in kinds.tolist()]
            for column, missing in zip(columns, gaps, strict=True):
                for place in np.flatnonzero(missing).tolist():
                    column[place] = ""
            columns.append(["yes" if value > 0 else "no" for value in (numbers[0] + kinds[0] - 500).tolist()])
            file.writelines(",".join(row) + "\n" for row in zip(*columns, strict=True))
    return path


def measured(path: Path, cache: Path) -> dict[str, Any]:
    """Read a table in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _READ, str(path)], capture_output=True, text=True, env={**os.environ, "EPOCHAL_CACHE": str(cache)}
    )
    assert not done.returncode, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux")
def test_reading_takes_little_more_memory_than_the_inputs(tmp_path: Path) -> None:
    path = made(tmp_path / "sales.csv", ROWS)
    first, again = measured(path, tmp_path / "cache"), measured(path, tmp_path / "cache")
    for name, found in (("read", first), ("again", again)):
        more, split = (found[part] / found["size"] for part in ("memory", "split"))
        beside, megabytes = found["before"] / 1e6, found["memory"] / 1e6
        print(f"\n{name}, {ROWS:,} rows: {found['seconds']:.1f} s, {found['busy']:.1f} s of a core; {found['speed']:,.0f} rows/s fed;")
        print(f"{megabytes:.0f} MB beside {beside:.0f} MB of Python and PyTorch: {more:.1f} × the inputs, {split:.1f} × when split")
        assert found["shape"] == [19]
        # Both are peaks, of the whole process: some pages come and go by themselves.
        assert found["memory"] - 1e6 < found["split"] < 3 * found["size"] + (_ANYWAY if ROWS < 1_000_000 else 0)
    if ROWS >= 1_000_000:
        # Other programs may have the cores, too.
        assert first["busy"] < 20 * ROWS / 1e6
        assert first["speed"] > 500_000
        assert again["busy"] < first["busy"] / 4
        assert len(list((tmp_path / "cache" / "examples").glob("*.found"))) == 1


def test_thousands_of_columns(tmp_path: Path) -> None:
    """The description of such a table is small enough to be read again."""
    values = np.random.default_rng(0).normal(0, 1, (300, 4000))
    path = tmp_path / "wide.csv"
    lines = [",".join([*(f"g{place}" for place in range(4000)), "y"])]
    lines += [",".join([*(f"{value:.4f}" for value in row), "ab"[int(row[0] > 0)]]) for row in values]
    path.write_text("\n".join(lines) + "\n")
    spec = load(path, target="y").spec
    assert isinstance(spec.input, TableRule)
    assert len(spec.input.columns) == 4000
    assert max(len(column.knots) for column in spec.input.columns) <= 33
    # Fewer rows of a wide table are read at a time.
    for memory in (None, 1e-6):
        inputs = load(path, target="y", memory=memory).train.inputs[torch.arange(300)]
        assert torch.allclose(inputs, torch.from_numpy(values).float(), atol=1e-4)
    assert DataSpec.model_validate(parse_json(spec.model_dump_json().encode())) == spec
