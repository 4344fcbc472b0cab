"""A small file that says how far training is, for those who look at it from outside."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from time import monotonic

from epochal.io.files import finite, write_errors
from epochal.training.records import Finished, Progress, Record, Started

PROGRESS = "progress.json"

# Seconds between two writes.
_EVERY = 1.0


class ProgressFile:
    """Keeps the last `Progress` in the file progress.json of a folder, as JSON, until training finishes.

    It is written about once a second, and replaced as a whole, but not flushed to disk: after a crash of the machine nobody needs it. Where
    training fails it stays until somebody goes on. Raises `OutputError` when the disk refuses.
    """

    def __init__(self, folder: Path) -> None:
        self.path, self._beside = folder / PROGRESS, folder / f".{PROGRESS}"
        self._last = -_EVERY

    def __call__(self, record: Record) -> None:
        """Write progress, if there was none for a while; or remove what is there."""
        with write_errors(self.path):
            if isinstance(record, Started | Finished):
                for path in (self._beside, self.path):
                    path.unlink(missing_ok=True)
            elif isinstance(record, Progress) and (now := monotonic()) - self._last >= _EVERY:
                self._last = now
                self._beside.write_bytes(json.dumps(finite(asdict(record)), allow_nan=False).encode())
                self._beside.replace(self.path)
