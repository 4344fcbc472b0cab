"""A folder that one process at a time may write to."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from epochal.errors import OutputError

if sys.platform != "win32":
    import fcntl

# Processes that a killed one had started, which share its locks, may take so long to notice: PyTorch's look every 5 seconds.
_ENDING_SECONDS = 7.0


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Keep other processes that ask for it out of a folder; the system frees the lock even of a process that dies.

    Raises `OutputError` where another one has it and does not end soon. Windows, and some network disks, have no such lock.
    """
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if not _lock(descriptor):
            raise OutputError(f"Another process is writing to {folder}.", "Wait until it ends, or stop it.")
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Take the lock of what is open; return whether that was possible in time."""
    until = time.monotonic() + _ENDING_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.05)
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOTSUP):
                return True
            raise
