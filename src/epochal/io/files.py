"""Files that exist whole or not at all.

A file is written under a temporary name beside its final one, flushed to disk and renamed; a reader never sees half of it.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from epochal.errors import OutputError, TakenError

# Bytes of a name that are used where something is added to it.
_LONGEST = 200

# The bytes read to recognize the kind of a file.
_BEGINNING = 4096


def cache_folder() -> Path:
    """Return the folder for what can be downloaded or computed again: EPOCHAL_CACHE if it is set, else the cache folder of this system."""
    named = os.environ.get("EPOCHAL_CACHE")
    if named:
        return Path(named).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "epochal"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "epochal"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "epochal"


def check_output(path: Path, mark: bytes) -> None:
    """Raise `OutputError` if a file cannot be written to `path`, or would replace one of another kind.

    A file of the same kind has `mark` near its beginning; an empty one may be replaced too.
    """
    if not path.parent.is_dir():
        raise OutputError(f"Cannot write {path}: there is no folder {path.parent}.", "Create it, or write elsewhere.")
    with write_errors(path):
        if path.exists() and not path.is_file():
            raise OutputError(f"Cannot write {path}: it is not a file.", "Name a file.")
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        begin = b""
        if path.exists():
            with path.open("rb") as file:
                begin = file.read(_BEGINNING)
    if begin and mark not in begin:
        raise OutputError(f"{path} exists already, and is not a file of the kind that would replace it.", "Choose another name.")


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all. Raises `OutputError` when the disk refuses."""
    beside = _beside(path)
    with write_errors(path):
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
    """Write `content` as UTF-8 to `path`, whole or not at all. File names that are not UTF-8 keep their bytes."""
    write_bytes(path, as_bytes(content))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all. NaN and infinity are refused: JSON has neither."""
    write_text(path, json_text(value, indent=2) + "\n")


def json_text(value: Any, indent: int | None = None) -> str:
    """Return `value` as JSON, escaped to ASCII if a text in it, such as a file name, is not valid Unicode."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value, indent=indent, allow_nan=False)
    return text


def as_bytes(text: str) -> bytes:
    """Return text in UTF-8; a file name that is not UTF-8 keeps the bytes that it has on disk."""
    return text.encode("utf-8", sys.getfilesystemencodeerrors())


def as_text(content: bytes) -> str:
    """Return the text that `as_bytes` encoded."""
    return content.decode("utf-8", sys.getfilesystemencodeerrors())


def finite(value: Any) -> Any:
    """Return a value for JSON in which NaN and infinity are null."""
    if isinstance(value, dict):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def new_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `path` that becomes `path` when the block succeeds, and is removed otherwise.

    With `replace`, an existing folder is removed at the end. Raises `TakenError` if `path` exists otherwise, or if another
    process creates it in the meantime.
    """
    if path.exists() and not replace:
        raise TakenError(path)
    beside = _beside(path)
    with write_errors(path):
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
    """Let `make` create one path as a `new_directory`: `names` itself, or the first of several that is free; return it."""
    if isinstance(names, Path):
        make(names)
        return names
    for path in names:
        # Another process may take the name at any moment: the only way to know is to try.
        with suppress(TakenError):
            make(path)
            return path
    raise AssertionError("names must be infinite")


def remove_directory(path: Path) -> None:
    """Remove a folder so that nobody ever sees it half-empty. Raises `OutputError` if it cannot be removed."""
    beside = _beside(path)
    with write_errors(path):
        path.rename(beside)
        shutil.rmtree(beside)


def remove_unfinished(folder: Path) -> None:
    """Remove temporary files that killed processes have left below `folder`. No other process may be writing there."""
    with write_errors(folder):
        for path in [path for path in folder.rglob(".*") if _BESIDE.fullmatch(path.name)]:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                # It may have been removed together with its folder.
                path.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Flush the names in a folder to disk (a no-op on systems that cannot open folders)."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` while writing `path` into an `OutputError` that names the path and a fix."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            fix = "Free some space, or write elsewhere."
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            fix = "Make the folder writable, or write elsewhere."
        else:
            fix = "Check the path, or write elsewhere."
        # Report the final names, not the temporary ones.
        named = Path(*(_BESIDE.sub(r"\1", part) for part in path.parts))
        raise OutputError(f"Cannot write {named}: {error.strerror or error}.", fix) from error


def _beside(path: Path) -> Path:
    """Return a hidden, unique name beside `path`: on the same disk, so that it can be renamed."""
    return path.with_name(f".{shortened(path.name)}.{secrets.token_hex(4)}")


def shortened(name: str) -> str:
    """Cut a file name so that something can be added to it: file systems allow 255 bytes."""
    return os.fsencode(name)[:_LONGEST].decode(errors="ignore") if len(os.fsencode(name)) > _LONGEST else name


_BESIDE = re.compile(r"^\.(.+)\.[0-9a-f]{8}$")
