"""Files that exist whole or not at all.

A file is written beside its final name, flushed to the disk and renamed; a reader never sees half of it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from epochal.errors import OutputError, TakenError

if sys.platform != "win32":
    import fcntl

_SEAL = "sha256"

# So many bytes of a name may be kept where something is added to it.
_LONGEST = 200

# Processes that a killed one had made, which share its locks, may take so long to notice: PyTorch's look every 5 seconds.
_ENDING_SECONDS = 7.0

# What kind a file is of shows in so many bytes.
_BEGINNING = 4096

CHANGED = "it is no longer what was written (its SHA-256 differs)"


def cache_folder() -> Path:
    """Return the folder for what can be fetched or computed again: the variable EPOCHAL_CACHE, else where this system keeps such things."""
    named = os.environ.get("EPOCHAL_CACHE")
    if named:
        return Path(named).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "epochal"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "epochal"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "epochal"


def check_output(path: Path, mark: bytes) -> None:
    """Raise `OutputError` where a file cannot be written to `path`, or would replace one that is not of its kind.

    A file of its kind has `mark` near its beginning; one that is empty may be replaced too.
    """
    if not path.parent.is_dir():
        raise OutputError(f"Cannot write {path}: there is no folder {path.parent}.", "Make it, or write elsewhere.")
    with told(path):
        if path.exists() and not path.is_file():
            raise OutputError(f"Cannot write {path}: it is not a file.", "Name a file.")
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        begin = b""
        if path.exists():
            with path.open("rb") as file:
                begin = file.read(_BEGINNING)
    if begin and mark not in begin:
        raise OutputError(f"{path} exists already, and is something else than what would replace it.", "Choose another name.")


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all. Raises `OutputError` when the disk refuses."""
    beside = _beside(path)
    with told(path):
        try:
            with beside.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
            sync_directory(path.parent)
        finally:
            beside.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """Write `content` as UTF-8 to `path`, whole or not at all. Names of files that are not UTF-8 keep their bytes."""
    write_bytes(path, as_bytes(content))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all. NaN and infinity are refused: JSON has neither."""
    write_text(path, json_text(value, indent=2) + "\n")


def json_text(value: Any, indent: int | None = None) -> str:
    """Return `value` as JSON, with escapes for all but ASCII where a text in it, such as the name of a file, is not Unicode."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value, indent=indent, allow_nan=False)
    return text


def as_bytes(text: str) -> bytes:
    """Return text in UTF-8; the name of a file in it that is not UTF-8 has the bytes that it has on the disk."""
    return text.encode("utf-8", sys.getfilesystemencodeerrors())


def as_text(content: bytes) -> str:
    """Return what `as_bytes` made bytes of."""
    return content.decode("utf-8", sys.getfilesystemencodeerrors())


def sealed(value: dict[str, Any]) -> dict[str, Any]:
    """Return a value for JSON with its SHA-256 as the last entry, which lets `unsealed` see any change; that of before is dropped."""
    inner = _without_seal(value)
    return {**inner, _SEAL: _digest(inner)}


def unsealed(value: dict[str, Any]) -> dict[str, Any]:
    """Return what was `sealed`. Raises `ValueError` where it is no longer what it was."""
    inner = _without_seal(value)
    if _SEAL not in value:
        raise ValueError("it has no SHA-256 of its content")
    if value[_SEAL] != _digest(inner):
        raise ValueError(CHANGED)
    return inner


def sealed_text(text: str) -> str:
    """Return a text in which "#" begins a comment, with its SHA-256 as the last line, which lets `unsealed_text` see any change."""
    return f"{text}# {_SEAL}: {hashlib.sha256(as_bytes(text)).hexdigest()}\n"


def unsealed_text(text: str) -> str:
    """Return what was `sealed_text`. Raises `ValueError` where it is no longer what it was."""
    *lines, last = text.splitlines(keepends=True) or [""]
    if not last.startswith(f"# {_SEAL}: "):
        raise ValueError("its last line is not the SHA-256 of its content")
    inner = "".join(lines)
    if sealed_text(inner) != text:
        raise ValueError(CHANGED)
    return inner


def _without_seal(value: dict[str, Any]) -> dict[str, Any]:
    return {name: inner for name, inner in value.items() if name != _SEAL}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()


def finite(value: Any) -> Any:
    """Return a value for JSON in which each number that is not finite is null."""
    if isinstance(value, dict):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def new_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `path` that becomes `path` when the block ends well, and vanishes otherwise.

    A folder that is there already is removed, at the end, where it may be replaced. Raises `TakenError` where `path` exists otherwise,
    or comes to be in the meantime.
    """
    if path.exists() and not replace:
        raise TakenError(path)
    beside = _beside(path)
    with told(path):
        beside.mkdir(parents=True)
        try:
            yield beside
            sync_directory(beside)
            if replace and path.exists():
                remove_directory(path)
            _rename_to_new(beside, path)
            sync_directory(path.parent)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise


def _rename_to_new(beside: Path, path: Path) -> None:
    try:
        beside.rename(path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise TakenError(path) from error
        raise


def first_free(names: Path | Iterable[Path], make: Callable[[Path], None]) -> Path:
    """Let `make` write one path as a `new_directory`: that of `names`, or the first of several that nobody else takes; return which."""
    if isinstance(names, Path):
        make(names)
        return names
    for path in names:
        # Another process may take the name at any moment: only writing it shows.
        with suppress(TakenError):
            make(path)
            return path
    raise AssertionError("names do not end")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
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


def remove_directory(path: Path) -> None:
    """Remove a folder so that it is never seen half-empty. Raises `OutputError` where that cannot be done."""
    beside = _beside(path)
    with told(path):
        path.rename(beside)
        shutil.rmtree(beside)


def remove_unfinished(folder: Path) -> None:
    """Remove what processes that were killed while writing below `folder` have left there. No other may be writing."""
    with told(folder):
        for path in [path for path in folder.rglob(".*") if _BESIDE.fullmatch(path.name)]:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                # It may have gone with the folder that it was in.
                path.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Make the names in a folder durable (a no-op where the system cannot open folders)."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn an operating-system error while writing `path` into an `OutputError` that names it and the way out."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            fix = "Free some space, or write elsewhere."
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            fix = "Make the folder writable, or write elsewhere."
        else:
            fix = "Check the path, or write elsewhere."
        # Named as it was to be in the end.
        named = Path(*(_BESIDE.sub(r"\1", part) for part in path.parts))
        raise OutputError(f"Cannot write {named}: {error.strerror or error}.", fix) from error


def _beside(path: Path) -> Path:
    """A hidden name beside `path` that no other process uses, on the same disk, so that it can be renamed."""
    return path.with_name(f".{shortened(path.name)}.{secrets.token_hex(4)}")


def shortened(name: str) -> str:
    """Cut the name of a file so that others can be made of it: file systems take 255 bytes, most people fewer."""
    return os.fsencode(name)[:_LONGEST].decode(errors="ignore") if len(os.fsencode(name)) > _LONGEST else name


_BESIDE = re.compile(r"^\.(.+)\.[0-9a-f]{8}$")
