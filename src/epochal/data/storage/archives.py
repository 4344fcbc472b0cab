"""Archives, read by strict rules: the members of a tar, a zip whose directory has been verified, and the folder that one unpacks to.

Python's tarfile lets an archive decide how much memory and time it takes (and where links lead); the little that is needed here is
our own. Unless stated otherwise, errors are a `ValueError` with a reason that can follow the archive's name, or an `OSError`.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from epochal.errors import DataError, TakenError
from epochal.io.files import cache_folder, new_directory, write_errors
from epochal.io.safe_read import PIECE, Stream, Unpacked, open_file, unpacked_limit

# The most bytes of the directory of a zip: enough for a hundred thousand pictures.
MAX_DIRECTORY = 12_000_000

# The most members of an archive.
MAX_MEMBERS = 250_000

# The most bytes of a name in an archive, with all its metadata.
_MAX_HEADER = 1 << 16

_BLOCK = 512
_ENCRYPTED, _UTF8 = 1, 1 << 11
_KINDS = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"5": "folder",
    b"1": "link",
    b"2": "link",
    b"3": "device",
    b"4": "device",
    b"6": "pipe",
}


# Archives that are read as the folder that they unpack to.
SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz")

# Bytes of the disk that stay free.
SPARE = 1_000_000_000

# Longer or deeper names are refused: not every system supports them.
_MAX_NAME = 255
_MAX_PATH = 1000
_MAX_DEPTH = 32

# Windows has devices of these names in every folder.
_RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(10))}


def is_archive(path: Path) -> bool:
    """Return whether a path is named like an archive that `unpack` can read."""
    return path.name.lower().endswith(SUFFIXES)


def unpack(path: Path) -> Path:
    """Return the folder that an archive unpacks to: it is in the cache, keyed by the archive's content, and unpacked only once.

    Only regular files and folders are unpacked, with names that mean the same on every system, and no more bytes than
    `unpacked_limit` and the disk allow. Raises `DataError` with the archive and the member that breaks a rule, and `OutputError`
    if the disk refuses.
    """
    try:
        with open_file(path) as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        folder = unpacked_folder() / digest
        name = re.sub(r"\.(tar(\.\w+)?|\w+)$", "", path.name, flags=re.IGNORECASE).strip(". ") or "data"
        if not folder.exists():
            # Another process may have unpacked it in the meantime.
            with suppress(TakenError), new_directory(folder) as part:
                _unpack(path, _Place(part / name))
                if hasattr(os, "sync"):
                    os.sync()  # One call for all files; a folder that exists is complete.
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        fix = "Create it again; or if you trust it, unpack it yourself and give the folder."
        raise DataError(f"{path} cannot be unpacked: {reason.rstrip('.')}.", fix) from error
    return folder / name


def unpacked_folder() -> Path:
    """Return the folder in the cache that archives are unpacked to."""
    return cache_folder() / "archives"


def unpacked_archives() -> tuple[int, int]:
    """Return how many archives are unpacked in the cache, and how many bytes they take."""
    archives = _unpacked()
    return len(archives), sum(file.stat().st_size for path in archives for file in path.rglob("*") if file.is_file())


def remove_unpacked() -> None:
    """Remove the unpacked archives from the cache. Raises `OutputError` if that fails."""
    for path in _unpacked():
        with write_errors(path):
            shutil.rmtree(path)


def _unpacked() -> list[Path]:
    # Hidden ones are being written at the moment; other names are not ours.
    return [path for path in unpacked_folder().glob("*") if re.fullmatch("[0-9a-f]{32}", path.name) and path.is_dir()]


class _Place:
    """The folder that members are written to, and the names in use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, str] = {}
        folder.mkdir(parents=True)
        self.left = shutil.disk_usage(folder).free - SPARE

    def make(self, name: str, *, is_folder: bool, size: int = 0) -> Path | None:
        """Create a folder, or return the path for a file of `size` bytes; `None` for the root itself."""
        parts = _parts(name)
        for depth in range(1, len(parts) + 1):
            self._claim("/".join(parts[:depth]), is_file=depth == len(parts) and not is_folder)
        if not parts and not is_folder:
            raise ValueError("a file in it has no name")
        if not parts:
            return None
        path = self.folder.joinpath(*parts)
        (path if is_folder else path.parent).mkdir(parents=True, exist_ok=True)
        self.left -= size
        if self.left < 0:
            raise ValueError("the disk has no room to unpack it")
        return path

    def _claim(self, name: str, *, is_file: bool) -> None:
        # Folders may appear repeatedly, a file only once. On some systems a and A, or two ways to write é, are the same name.
        spelled = name if is_file else f"{name}/"
        key = unicodedata.normalize("NFC", name).casefold()
        is_new = key not in self.names
        before = self.names.setdefault(key, spelled)
        if before != spelled or (is_file and not is_new):
            raise ValueError(f"'{name}' collides with '{before}'")


def _parts(name: str) -> list[str]:
    """Split a name; refuse one that leads out of the folder, or that means something else on another system."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    shown = ascii(name[:100])
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        raise ValueError(f"{shown} is an absolute path")
    if ".." in parts:
        raise ValueError(f"{shown} leads out of the folder")
    if "\\" in name or any(ord(letter) < 32 or ord(letter) == 127 or 0xD800 <= ord(letter) < 0xE000 for letter in name):
        raise ValueError(f"{shown} contains a character that is not allowed in names")
    if len(name) > _MAX_PATH or len(parts) > _MAX_DEPTH or any(len(part.encode()) > _MAX_NAME for part in parts):
        raise ValueError(f"{shown} is too long or too deeply nested")
    for part in parts:
        if part.split(".")[0].strip().upper() in _RESERVED or part.endswith((" ", ".")):
            raise ValueError(f"{shown} is not a valid name on every system")
    return parts


def _unpack(path: Path, place: _Place) -> None:
    if path.name.lower().endswith(".zip"):
        with open_zip(path) as (archive, members):
            for info in members:
                kind = _zip_kind(info)
                _check_kind(info.filename, kind)
                target = place.make(_zip_name(info), is_folder=kind == "folder", size=info.file_size)
                if target is not None and kind == "file":
                    with archive.open(info) as content, target.open("xb") as file:
                        shutil.copyfileobj(content, file, PIECE)
                        if file.tell() != info.file_size:
                            raise ValueError(f"'{info.filename}' has {file.tell():,} bytes instead of {info.file_size:,}")
        return
    with Unpacked(path) as stream:
        for member in tar_members(stream):
            _check_kind(member.name, member.kind)
            target = place.make(member.name, is_folder=member.kind == "folder", size=member.size)
            if target is not None and member.kind == "file":
                with target.open("xb") as file:
                    for begin in range(0, member.size, PIECE):
                        file.write(stream.take(min(PIECE, member.size - begin)))


def _check_kind(name: str, kind: str) -> None:
    if kind not in ("file", "folder"):
        raise ValueError(f"'{name}' is a {kind}")


def _zip_kind(info: zipfile.ZipInfo) -> str:
    if info.filename.endswith("/"):
        return "folder"
    # Unix stores the mode of a file in the upper half.
    kind = stat.S_IFMT(info.external_attr >> 16)
    return {0: "file", stat.S_IFREG: "file", stat.S_IFLNK: "link", stat.S_IFIFO: "pipe"}.get(kind, "device")


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Return the name without losing a byte: UTF-8, whether marked as such (bit 11) or, by macOS, not."""
    name = info.orig_filename
    return name if info.flag_bits & _UTF8 else _text(name.encode("cp437"))


class Member(NamedTuple):
    """A member of a tar: a "file", "folder", "link", "device" or "pipe", and the size of its data in bytes."""

    name: str
    kind: str
    size: int


def tar_members(stream: Stream) -> Iterator[Member]:
    """Yield the members of a tar (POSIX ustar and pax, GNU, V7), in order.

    After each, any part of its data may be read from `stream`. In the end all of it has been read, so that the checksum of the
    compression has been verified.
    """
    pax: dict[str, str] = {}
    for _ in range(MAX_MEMBERS):
        header = stream.take(_BLOCK)
        if not any(header):
            while piece := stream.upto(1 << 20):
                if any(piece):
                    raise ValueError("there is data after its end")
            return
        if _number(header[148:156]) != sum(header) - sum(header[148:156]) + 8 * ord(" "):
            raise ValueError(f"it is damaged, or not an archive (no header at byte {stream.position - _BLOCK:,})")
        kind, size = header[156:157], _number(header[124:136])
        if kind in (b"x", b"g", b"L", b"K"):
            if size > _MAX_HEADER:
                raise ValueError(f"the name of a member claims {size:,} bytes")
            content = stream.take(size)
            stream.skip(-size % _BLOCK)
            # Global records (g) and targets of links (K) do not matter here.
            if kind == b"x":
                pax |= _pax(content)
            elif kind == b"L":
                pax["path"] = _text(content.rstrip(b"\0"))
            continue
        name = pax.get("path") or _ustar_name(header)
        if kind not in _KINDS or any(key.startswith("GNU.sparse") for key in pax):
            raise ValueError(f"'{name}' is of an unsupported kind")
        size = _decimal(pax["size"]) if "size" in pax else size
        # V7 marks folders by their name only; only files have data.
        is_folder = kind == b"5" or (kind == b"\0" and name.endswith("/"))
        size = size if _KINDS[kind] == "file" and not is_folder else 0
        end = stream.position + size
        yield Member(name, "folder" if is_folder else _KINDS[kind], size)
        stream.skip(end - stream.position + -size % _BLOCK)
        pax = {}
    raise ValueError(f"it has more than {MAX_MEMBERS:,} members")


@contextmanager
def open_zip(path: Path) -> Iterator[tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]]:
    """Open a zip and yield it with its members: no two share bytes or a name, and together they do not unpack to more than is allowed."""
    with _LimitedReader(open_file(path).detach()) as file:
        size = os.fstat(file.fileno()).st_size
        if file.read(2) != b"PK":
            raise ValueError("it does not begin like a zip")
        try:
            with zipfile.ZipFile(file, "r") as archive:
                members = archive.infolist()
                _check_members(members, archive.start_dir, unpacked_limit(size), size)
                yield archive, members
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
            raise ValueError(str(error)) from error


class _LimitedReader(io.BufferedReader):
    """A file that limits each read: zipfile reads the whole directory, as large as it claims to be."""

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(MAX_DIRECTORY + 1 if size is None or size < 0 else min(size, MAX_DIRECTORY + 1))
        if len(content) > MAX_DIRECTORY:
            raise ValueError(f"its directory has more than {MAX_DIRECTORY:,} bytes")
        return content


def _check_members(members: list[zipfile.ZipInfo], directory: int, allowed: int, size: int) -> None:
    if len(members) > MAX_MEMBERS:
        raise ValueError(f"it has more than {MAX_MEMBERS:,} members")
    names: set[str] = set()
    position = 0
    for member in sorted(members, key=lambda one: one.header_offset):
        if member.orig_filename in names:
            raise ValueError(f"'{member.filename}' appears twice")
        names.add(member.orig_filename)
        if member.flag_bits & _ENCRYPTED:
            raise ValueError(f"'{member.filename}' is encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"'{member.filename}' uses an unsupported compression")
        # A local header has at least 30 bytes and the name.
        if member.header_offset < position or (position == 0 and member.header_offset):
            raise ValueError(f"'{member.filename}' begins at the wrong place")
        position = member.header_offset + 30 + len(member.orig_filename) + member.compress_size
    if position > directory:
        raise ValueError("its members overlap its directory")
    unpacked = sum(member.file_size for member in members)
    if unpacked > allowed:
        raise ValueError(f"{size:,} bytes would unpack to {unpacked:,}, more than {allowed:,}")


def _number(field: bytes) -> int:
    """Read a number of a tar header: octal digits, or (GNU) base 256."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if not all(48 <= digit <= 55 for digit in digits):
        raise ValueError("it is damaged, or not an archive (a number in a header is invalid)")
    return int(digits or b"0", 8)


def _ustar_name(header: bytes) -> str:
    name, prefix = (_text(part.split(b"\0")[0]) for part in (header[:100], header[345:500]))
    # GNU stores times where POSIX has the beginning of a long name.
    return f"{prefix}/{name}" if prefix and header[257:263] == b"ustar\0" else name


def _pax(content: bytes) -> dict[str, str]:
    """Read the records of a pax header: LENGTH NAME=VALUE and a line feed, where LENGTH counts all of it."""
    found = {}
    while content:
        length = content[:8].split(b" ")[0]
        size = _decimal(_text(length))
        key, equals, value = content[len(length) + 1 : size].partition(b"=")
        if size <= len(length) or not equals or not value.endswith(b"\n"):
            raise ValueError("it is damaged (a record about a member is invalid)")
        found[_text(key)] = _text(value[:-1])
        content = content[size:]
    return found


def _decimal(digits: str) -> int:
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 20):
        raise ValueError("it is damaged (a number is invalid)")
    return int(digits)


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise ValueError(f"the name {name[:100]!r} is not in UTF-8") from None
