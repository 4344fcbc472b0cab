"""A line of JSON for each epoch."""

from __future__ import annotations

import json
import os
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from epochal.io.files import finite, write_bytes, write_errors
from epochal.training.records import EpochDone, Finished, Record, Rewound, Started
from epochal.watch.scalars import valid_scalars


class MetricsFile:
    """Appends one JSON object per epoch to `path`; a reader finds each finished epoch there, as a whole line.

    The file is opened when training starts and closed when it finishes; as a context manager, also when training fails. Where
    training continues from a checkpoint, or is rewound to one, the file is rewritten with the epochs before that: none is in it twice.
    A number that is not finite becomes null, as JSON has neither NaN nor infinity. Raises `OutputError` when the disk refuses.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: FileIO | None = None
        self._epochs: list[EpochDone] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def __call__(self, record: Record) -> None:
        """Open the file, write a line, or close it."""
        if isinstance(record, Started):
            self._epochs = list(record.history)
            self._open(rewrite=record.step is not None)
        elif isinstance(record, Rewound):
            del self._epochs[record.epoch - 1 :]
            self._open(rewrite=True)
        elif isinstance(record, EpochDone) and self._file is not None:
            self._epochs.append(record)
            with write_errors(self.path):
                # A disk that is nearly full may take a part of the line; the next write then says why.
                rest = _line(record)
                while rest:
                    rest = rest[self._file.write(rest) :]
        elif isinstance(record, Finished) and self._file is not None:
            with write_errors(self.path):
                os.fsync(self._file.fileno())
            self._close()

    def _open(self, *, rewrite: bool) -> None:
        """Begin the file with the epochs so far, or append to it as it is."""
        self._close()
        if rewrite:
            write_bytes(self.path, b"".join(map(_line, self._epochs)))
        with write_errors(self.path):
            # Without a buffer a line is one write to the system: it is there at once, and as a rule never in two halves.
            self._file = self.path.open("ab", buffering=0)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def numbers(done: EpochDone) -> dict[str, Any]:
    """Return the content of an epoch's line as it is read back from JSON."""
    values: dict[str, Any] = {
        "epoch": done.epoch,
        "step": done.step,
        "train_loss": done.train_loss,
        "valid": None if done.valid is None else valid_scalars(done.valid),
        "lr": done.lr,
        "seconds": done.seconds,
        "examples_per_second": done.examples_per_second,
        "waiting": done.waiting,
        "is_best": done.is_best,
    }
    plain: dict[str, Any] = finite(values)
    return plain


def _line(done: EpochDone) -> bytes:
    return (json.dumps(numbers(done), allow_nan=False) + "\n").encode()
