"""A folder that only one process at a time may write to."""

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

# The children of a killed process share its locks, and may take this long to notice its end: PyTorch's workers look every 5 seconds.
ENDING_SECONDS = 7.0


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder for the block; the system frees it even if the process dies.

    Raises `OutputError` if another process holds it and does not end soon. Windows, and some network disks, have no such lock.
    """
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if not _lock(descriptor, ENDING_SECONDS):
            raise OutputError(f"Another process is writing to {folder}.", "Wait until it ends, or stop it.")
        yield
    finally:
        os.close(descriptor)


@contextmanager
def lock_at_once(folder: Path) -> Iterator[bool]:
    """Hold the lock of a folder for the block, without waiting for it: the value says whether it was free.

    Where there are no locks (Windows, some network disks), it always is.
    """
    if sys.platform == "win32":
        yield True
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield _lock(descriptor, 0.0)
    finally:
        os.close(descriptor)


def is_locked(folder: Path) -> bool:
    """Return whether another process holds the lock of a folder: `True`, too, where there are no locks."""
    if sys.platform == "win32":
        return True
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Shared: several may ask at once, and who takes the lock meanwhile tries again.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _lock(descriptor: int, wait: float) -> bool:
    """Lock an open folder; return whether that succeeded within so many seconds."""
    until = time.monotonic() + wait
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
