"""Bytes of files that are somewhere else: asked for again where they do not come, and compared with their checksums."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from epochal.data.storage.remote.place import NO_FILE, FaultError, Store
from epochal.errors import DataError, DownloadError

Answer = TypeVar("Answer")

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
    content = b""
    while len(content) < end - begin:
        first = begin + len(content)
        try:
            content += _again(partial(_part, store, name, first, end, right))
        except FaultError as error:
            raise DownloadError(
                f"Bytes {first:,} to {end - 1:,} of {store.place.named(name)} cannot be had: {error.reason}.", _fix(error)
            ) from error
    return content


def _part(store: Store, name: str, first: int, end: int, right: Callable[[int, bytes], int]) -> bytes:
    """Return at least the first bytes of a range."""
    piece = store.read(name, first, end)
    if count := right(first, piece) if piece else 0:
        return piece[:count]
    if len(piece) < end - first:
        raise FaultError(f"only {len(piece):,} bytes came")
    raise _ChangedError("they are not what they were")


class _ChangedError(FaultError):
    """Bytes came, but others than were expected."""


def _again(ask: Callable[[], Answer]) -> Answer:
    """Ask until there is an answer, or no hope. Raises the last `FaultError`."""
    changes = 0
    for delay in DELAYS:
        try:
            return ask()
        except FaultError as error:
            changes += isinstance(error, _ChangedError)
            if error.is_final or changes >= _CHANGES:
                raise
        time.sleep(delay)
    return ask()


def _fix(error: FaultError) -> str:
    return _CHANGED if isinstance(error, _ChangedError) else _UNREACHED


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
    try:
        return _again(partial(store.state, name))
    except FaultError as error:
        if error.reason == NO_FILE:
            raise DataError(f"There is no {store.place.named(name)}.", "Check its name.") from error
        raise DownloadError(f"{store.place.named(name)} cannot be used: {error.reason}.", _UNREACHED) from error


def fetch_checked(store: Store, name: str, limit: int, check: Callable[[bytes], Answer]) -> Answer | None:
    """Return what `check` makes of a whole file of at most `limit` bytes whose size is not known; `None` if there is none.

    Where `check` raises `ValueError` with a reason, it may have been cut off or changed on its way, and is asked for again. Raises
    `DownloadError`.
    """

    def checked() -> Answer:
        content = store.read(name, 0, limit + 1)
        if len(content) > limit:
            raise DownloadError(f"{store.place.named(name)} has more than {limit:,} bytes.", "Check the URL.")
        try:
            return check(content)
        except ValueError as error:
            raise _ChangedError(str(error), is_final=store.place.scheme == "file") from error

    try:
        return _again(checked)
    except FaultError as error:
        if error.reason == NO_FILE:
            return None
        raise DownloadError(f"{store.place.named(name)} cannot be used: {error.reason}.", _fix(error)) from error
