"""What the benchmark programs share: their options, and the processes that they start and read results from."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.environment import variables

PATIENCE = 3600


def parser(description: str | None, name: str) -> argparse.ArgumentParser:
    """Return a parser with the options that all programs have; `name` is that of the files they write."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--name", default=name, help="of the files in benchmarks/results [%(default)s]")
    made.add_argument("--quick", action="store_true", help="as little as shows that all runs; nothing is written")
    return made


def data_option(made: argparse.ArgumentParser) -> None:
    """Add --data-dir."""
    place = os.environ.get("EPOCHAL_DATA")
    words = "the folder that holds mnist/ [EPOCHAL_DATA]"
    made.add_argument("--data-dir", type=folder, default=place, required=not place, help=words)


def folder(text: str) -> Path:
    """Read an option that names a folder."""
    path = Path(text).resolve()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no folder")
    return path


def count(text: str) -> int:
    """Read an option that counts from 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def torchrun(processes: int) -> list[str]:
    """Return the command that runs a module, which is named behind it, in so many processes of this machine."""
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]


def run_json(command: Sequence[str], keys: Sequence[str], **more: str) -> dict[str, Any]:
    """Run a program, with `more` environment variables, and return these keys of the JSON object in its last line.

    If that fails, return {"error": why}.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", errors="replace", env={**variables(), **more}, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        return {"error": f"took more than {PATIENCE} seconds"}
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {"error": lines[-1] if lines else f"ended with code {done.returncode}"}
    try:
        result: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
        return {key: result[key] for key in keys}
    except (ValueError, TypeError, KeyError):
        return {"error": "its last line is not the JSON object of the protocol"}
