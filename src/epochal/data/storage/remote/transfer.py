"""Bytes of files that are somewhere else: asked for again where they do not come, and compared with their checksums."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import TypeVar

from epochal.data.storage.remote.place import NO_FILE, FaultError, Store
from epochal.errors import DataError, DownloadError

Checked = TypeVar("Checked")

# Seconds to wait before each further attempt; one that brought a part does not count.
DELAYS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)

# So often bytes may have another content before the file is taken to have changed.
_CHANGES = 6

# Bytes of a whole file that are asked for at once.
_PIECE = 1 << 23

_UNREACHED = "Check the network and the server, and start again: what has arrived is kept."
_CHANGED = "It has changed: pack the data again, to another place; or if it is a tar, start again, and it is indexed again."


def fetch(store: Store, name: str, begin: int, end: int, right: Callable[[int, bytes], int]) -> bytes:
    """Return the bytes from `begin` to `end` of a file.

    `right(first, content)` says how many of the first bytes of what came from `first` on are right. These are kept, and only the
    others are asked for again. Raises `DownloadError` naming the file and the range if they cannot be had.
    """
    content, failures, changes = b"", 0, 0
    while True:
        first, fault = begin + len(content), None
        try:
            piece = store.read(name, first, end)
        except FaultError as error:
            piece, fault = b"", error
        count = right(first, piece) if piece else 0
        content += piece[:count]
        if len(content) == end - begin:
            return content
        if fault is None and len(piece) < end - first:
            fault = FaultError(f"only {len(piece):,} bytes came")
        elif fault is None:
            fault, changes = FaultError("they are not what they were"), changes + 1
        failures = 0 if count else failures + 1
        if fault.is_final or failures > len(DELAYS) or changes >= _CHANGES:
            raise DownloadError(
                f"Bytes {first:,} to {end - 1:,} of {store.place.named(name)} cannot be had: {fault.reason}.",
                _CHANGED if changes >= _CHANGES else _UNREACHED,
            ) from fault
        time.sleep(DELAYS[max(0, failures - 1)])


def fetch_file(store: Store, name: str, size: int, sha256: str) -> bytes:
    """Return a whole file of `size` bytes. Raises `DownloadError` if it cannot be had, or is another file."""
    for _ in range(_CHANGES):
        # Only the end shows whether the beginning was right.
        pieces = (fetch(store, name, begin, min(begin + _PIECE, size), lambda _, piece: len(piece)) for begin in range(0, size, _PIECE))
        content = b"".join(pieces)
        if hashlib.sha256(content).hexdigest() == sha256:
            return content
    raise DownloadError(f"{store.place.named(name)} is not what was packed: its SHA-256 is another.", _CHANGED)


def state_of(store: Store, name: str) -> tuple[int, str]:
    """Return what `store` says is the state of a file. Raises `DataError` if there is none, and `DownloadError` if it cannot be reached."""
    for delay in (*DELAYS, None):
        try:
            return store.state(name)
        except FaultError as error:
            if error.reason == NO_FILE:
                raise DataError(f"There is no {store.place.named(name)}.", "Check its name.") from error
            if error.is_final or delay is None:
                raise DownloadError(f"{store.place.named(name)} cannot be used: {error.reason}.", _UNREACHED) from error
            time.sleep(delay)
    raise AssertionError


def fetch_checked(store: Store, name: str, limit: int, check: Callable[[bytes], Checked]) -> Checked | None:
    """Return what `check` makes of a whole file of at most `limit` bytes whose size is not known; `None` if there is none.

    Where `check` raises `ValueError` with a reason, it may have been cut off or changed on its way, and is asked for again. Raises
    `DownloadError`.
    """
    for attempt in range(len(DELAYS) + 1):
        try:
            content = store.read(name, 0, limit + 1)
            if len(content) > limit:
                raise DownloadError(f"{store.place.named(name)} has more than {limit:,} bytes.", "Check the URL.")
            return check(content)
        except FaultError as error:
            if error.is_final and error.reason == NO_FILE:
                return None
            reason, fix, is_final = error.reason, _UNREACHED, error.is_final
        except ValueError as error:
            reason, fix, is_final = str(error), _CHANGED, attempt + 1 >= _CHANGES or store.place.scheme == "file"
        if is_final or attempt == len(DELAYS):
            break
        time.sleep(DELAYS[attempt])
    raise DownloadError(f"{store.place.named(name)} cannot be used: {reason}.", fix)
