"""What a run ends with, for comparing two of them to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from epochal.run.folder import read_json

# What the clock says, and where the run is.
_ITS_OWN = ("seconds", "training_seconds", "examples_per_second", "waiting", "run")


def outcome(run: Path) -> dict[str, Any]:
    """Return all that `run` ends with, but what the clock says and where it is."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = max((run / "checkpoints").glob("step-*"))
    return {
        "weights": (run / "model" / "model.safetensors").read_bytes(),
        "optimizer and all": (last / "state.safetensors").read_bytes(),
        "metrics": [_without(line) for line in lines],
        "result": _without(read_json(run / "result.json")),
        "figures": {path.name: path.read_bytes() for path in (run / "figures").iterdir()},
    }


def _without(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in _ITS_OWN}
