"""Downloading published files: from one of several mirrors, resumed after an interruption, and verified.

A download is written to FILE.part, which becomes FILE only when its SHA-256 is right.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from epochal.errors import DownloadError
from epochal.io.files import sync_directory, write_errors
from epochal.progress import Advance, progress

if sys.platform != "win32":
    import fcntl

# Timeout of a mirror in seconds.
PATIENCE = 30
_BLOCK = 1 << 20

# A connection that broke off is made again at once if it brought at least this fraction of the file.
_PIECES = 50


def fetch(name: str, mirrors: Sequence[str], *, sha256: str, size: int, to: Path) -> Path:
    """Return the file `name` in the folder `to`, downloaded from the first of `mirrors` that has it, unless it exists.

    A mirror is a URL that `name` is appended to; `size` is in bytes. Raises `DownloadError` with the problem of each mirror,
    and `OutputError` if the disk refuses.
    """
    file, part = to / name, to / f"{name}.part"
    if file.exists():
        return file
    with write_errors(to):
        to.mkdir(parents=True, exist_ok=True)
    with _exclusive(to / f".{name}.lock"):
        # Another process may have downloaded it while this one waited.
        if file.exists():
            return file
        failures = []
        with progress(f"Downloading {name}", size, unit="bytes", done=_length(part)) as advance:
            for mirror in mirrors:
                try:
                    _fetch_whole(mirror + name, part, sha256, size, advance)
                except DownloadError as error:
                    failures.append(f"\n  {mirror}{name} {error.problem}")
                    continue
                with write_errors(file):
                    part.replace(file)
                    sync_directory(to)
                return file
    raise DownloadError(
        f"{name} cannot be downloaded:{''.join(failures)}",
        f"Check the network; or get the file elsewhere, put it into {to} (or into another folder, with --data-dir), and try again.",
    )


class _WrongFileError(DownloadError):
    """The download is not the published file, or not a part of it."""


class _BrokenOffError(DownloadError):
    """The connection ended before the file did."""


def _fetch_whole(url: str, part: Path, sha256: str, size: int, advance: Advance) -> None:
    """Download `part` to its full length, and verify it."""
    is_resumed = _length(part) > 0
    try:
        while (had := _length(part)) < size:
            try:
                _fetch_rest(url, part, size, advance)
            except _BrokenOffError:
                # As long as each connection brings a good piece, the next one will.
                if _length(part) - had < size // _PIECES:
                    raise
        with write_errors(part), part.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise _WrongFileError(f"is another file: its SHA-256 is {found}, not {sha256}")
    except _WrongFileError:
        _discard(part, advance)
        if not is_resumed:
            raise
        # The part of an earlier attempt may be wrong, not this mirror.
        _fetch_whole(url, part, sha256, size, advance)


def _fetch_rest(url: str, part: Path, size: int, advance: Advance) -> None:
    """Append the rest to `part`, or start again if the mirror cannot resume."""
    start = _length(part)
    with _answer(url, start) as answer:
        if answer.status == http.client.OK:
            length = answer.headers.get("Content-Length", str(size))
            if length != str(size):
                raise _WrongFileError(f"is another file: it has {length} bytes, not {size}")
            _discard(part, advance)
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-{size - 1}/"):
            raise _WrongFileError(f"does not send the file from byte {start} on (status {answer.status})")
        with write_errors(part), part.open("ab") as file:
            while block := _read(answer, size - file.tell() + 1):
                if file.tell() + len(block) > size:
                    raise _WrongFileError(f"is another file: it has more than {size} bytes")
                file.write(block)
                advance(len(block))
            file.flush()
            os.fsync(file.fileno())
    if _length(part) < size:
        raise _BrokenOffError(f"broke off after {_length(part):,} of {size:,} bytes")


@contextmanager
def _answer(url: str, start: int) -> Iterator[http.client.HTTPResponse]:
    """Request a file from byte `start` on."""
    headers = {"User-Agent": "epochal", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  the addresses are our own
    try:
        answer = urllib.request.urlopen(request, timeout=PATIENCE)  # noqa: S310
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _WrongFileError("cannot resume: the file is shorter there") from error
        raise DownloadError(f"answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"cannot be reached: {getattr(error, 'reason', error)}") from error
    with answer:
        yield answer


def _read(answer: http.client.HTTPResponse, limit: int) -> bytes:
    try:
        return answer.read(min(_BLOCK, limit))
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(f"broke off: {error}") from error


def _discard(part: Path, advance: Advance) -> None:
    advance(-_length(part))
    with write_errors(part):
        part.unlink(missing_ok=True)


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


@contextmanager
def _exclusive(lock: Path) -> Iterator[None]:
    """Let only one process at a time into the block; the system frees the lock even if a process dies.

    Windows has no such lock: there only the checksum protects against two writers.
    """
    with write_errors(lock):
        file = lock.open("ab")
    with file:
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    # Nobody needs it after a success: other processes will find the file.
    lock.unlink(missing_ok=True)
