"""Archives by our own rules: what is in a tar, a zip whose directory says the truth, and a folder that one unpacks to.

Python's tarfile takes memory and time that an archive decides on (links to anywhere aside); what it is needed for here is little.
Where nothing else is said, what is wrong is a `ValueError` with a reason that can follow the archive's name, or an `OSError`.
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
from epochal.io.safe_read import PIECE, Unpacked, open_file, unpacked_limit

# The directory of a zip may have so many bytes: enough for a hundred thousand pictures.
MAX_DIRECTORY = 12_000_000

# An archive may have so many members.
MAX_MEMBERS = 250_000

# A name in an archive, with all that is said about it, may have so many bytes.
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


# These are read as the folder that they unpack to.
SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz")

# So much of the disk stays free.
_SPARE = 1_000_000_000

# Longer or deeper names are refused: not every system has them.
_MAX_NAME = 255
_MAX_PATH = 1000
_MAX_DEPTH = 32

# Windows has devices of these names in every folder.
_RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(10))}


def is_archive(path: Path) -> bool:
    """Whether a path is called like an archive that `unpack` takes."""
    return path.name.lower().endswith(SUFFIXES)


def unpack(path: Path) -> Path:
    """Return the folder that an archive unpacks to; it lies in the cache, by the archive's content, and is unpacked there once.

    Only regular files and folders come out, under names that mean the same on every system, and no more bytes than
    `unpacked_limit` and the disk allow. Raises `DataError` naming the archive and the member that is against the rules, and `OutputError`
    where the disk refuses.
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
                    os.sync()  # One call for all files; a folder that is there is whole.
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        fix = "Pack it again; or if you trust it, unpack it yourself and give the folder."
        raise DataError(f"{path} cannot be unpacked: {reason.rstrip('.')}.", fix) from error
    return folder / name


def unpacked_folder() -> Path:
    """Return the folder in the cache that archives are unpacked to."""
    return cache_folder() / "archives"


def unpacked_archives() -> tuple[int, int]:
    """Return how many archives are unpacked in the cache, and the bytes that they take."""
    archives = _unpacked()
    return len(archives), sum(file.stat().st_size for path in archives for file in path.rglob("*") if file.is_file())


def remove_unpacked() -> None:
    """Remove the archives that are unpacked in the cache. Raises `OutputError` where that is refused."""
    for path in _unpacked():
        with write_errors(path):
            shutil.rmtree(path)


def _unpacked() -> list[Path]:
    # Hidden ones are being written just now; other names are somebody else's.
    return [path for path in unpacked_folder().glob("*") if re.fullmatch("[0-9a-f]{32}", path.name) and path.is_dir()]


class _Place:
    """The folder that members are written below, and the names that were given there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, str] = {}
        folder.mkdir(parents=True)
        self.left = shutil.disk_usage(folder).free - _SPARE

    def make(self, name: str, *, is_folder: bool, size: int = 0) -> Path | None:
        """Make the folder of that name, or return where a file of `size` bytes goes; `None` for the root itself."""
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
            raise ValueError("the disk has no room for what it unpacks to")
        return path

    def _claim(self, name: str, *, is_file: bool) -> None:
        # Folders may be named again and again; a file, once. Some systems take a and A, or two ways to write é, for the same.
        spelled = name if is_file else f"{name}/"
        key = unicodedata.normalize("NFC", name).casefold()
        is_new = key not in self.names
        before = self.names.setdefault(key, spelled)
        if before != spelled or (is_file and not is_new):
            raise ValueError(f"'{name}' collides with '{before}'")


def _parts(name: str) -> list[str]:
    """Split a name, and refuse one that leads out of the folder, or means something else on another system."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    told = ascii(name[:100])
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        raise ValueError(f"{told} is an absolute path")
    if ".." in parts:
        raise ValueError(f"{told} leads out of the folder")
    if "\\" in name or any(ord(letter) < 32 or ord(letter) == 127 or 0xD800 <= ord(letter) < 0xE000 for letter in name):
        raise ValueError(f"{told} has a character that is no part of a name")
    if len(name) > _MAX_PATH or len(parts) > _MAX_DEPTH or any(len(part.encode()) > _MAX_NAME for part in parts):
        raise ValueError(f"{told} is too long, or lies too deep")
    for part in parts:
        if part.split(".")[0].strip().upper() in _RESERVED or part.endswith((" ", ".")):
            raise ValueError(f"{told} is no name on every system")
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
    # Unix keeps the mode of a file in the upper half.
    kind = stat.S_IFMT(info.external_attr >> 16)
    return {0: "file", stat.S_IFREG: "file", stat.S_IFLNK: "link", stat.S_IFIFO: "pipe"}.get(kind, "device")


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Return a name of which no byte is lost: UTF-8, whether it is said to be (bit 11) or, as macOS does, not."""
    name = info.orig_filename
    return name if info.flag_bits & _UTF8 else _text(name.encode("cp437"))


class Member(NamedTuple):
    """A member of a tar: a "file", "folder", "link", "device" or "pipe", and the size of its data in bytes."""

    name: str
    kind: str
    size: int


def tar_members(stream: Unpacked) -> Iterator[Member]:
    """Yield the members of a tar (POSIX ustar and pax, GNU, V7), in order.

    Between two of them, as much of the data of the first as is wanted may be read from `stream`. At the end all of it was read, so
    that the packing has compared its checksum.
    """
    told: dict[str, str] = {}
    for _ in range(MAX_MEMBERS):
        header = stream.take(_BLOCK)
        if not any(header):
            while piece := stream.upto(1 << 20):
                if any(piece):
                    raise ValueError("there is something behind its end")
            return
        if _number(header[148:156]) != sum(header) - sum(header[148:156]) + 8 * ord(" "):
            raise ValueError(f"it is damaged, or no archive (no header at byte {stream.position - _BLOCK:,})")
        kind, size = header[156:157], _number(header[124:136])
        if kind in (b"x", b"g", b"L", b"K"):
            if size > _MAX_HEADER:
                raise ValueError(f"the name of a member would have {size:,} bytes")
            content = stream.take(size)
            stream.skip(-size % _BLOCK)
            # What is said of all (g) or of a link's target (K) does not matter here.
            if kind == b"x":
                told |= _pax(content)
            elif kind == b"L":
                told["path"] = _text(content.rstrip(b"\0"))
            continue
        name = told.get("path") or _ustar_name(header)
        if kind not in _KINDS or any(key.startswith("GNU.sparse") for key in told):
            raise ValueError(f"'{name}' is of a kind that is not read")
        size = _decimal(told["size"]) if "size" in told else size
        # V7 told folders by the name alone; only files have data.
        is_folder = kind == b"5" or (kind == b"\0" and name.endswith("/"))
        size = size if _KINDS[kind] == "file" and not is_folder else 0
        end = stream.position + size
        yield Member(name, "folder" if is_folder else _KINDS[kind], size)
        stream.skip(end - stream.position + -size % _BLOCK)
        told = {}
    raise ValueError(f"it has more than {MAX_MEMBERS:,} members")


@contextmanager
def open_zip(path: Path) -> Iterator[tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]]:
    """Open a zip and yield it with its members, of which no two share bytes or a name, and which unpack to no more than is allowed."""
    with _Sparing(open_file(path).detach()) as file:
        size = os.fstat(file.fileno()).st_size
        if file.read(2) != b"PK":
            raise ValueError("it does not begin as a zip does")
        try:
            with zipfile.ZipFile(file, "r") as archive:
                members = archive.infolist()
                _check_members(members, archive.start_dir, unpacked_limit(size), size)
                yield archive, members
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
            raise ValueError(str(error)) from error


class _Sparing(io.BufferedReader):
    """A file of which nobody gets much at once: zipfile reads the whole directory, as large as it says to be."""

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
            raise ValueError(f"'{member.filename}' comes twice")
        names.add(member.orig_filename)
        if member.flag_bits & _ENCRYPTED:
            raise ValueError(f"'{member.filename}' is encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"'{member.filename}' is packed in a way that is not read")
        # A local header has at least 30 bytes and the name.
        if member.header_offset < position or (position == 0 and member.header_offset):
            raise ValueError(f"'{member.filename}' begins where it should not")
        position = member.header_offset + 30 + len(member.orig_filename) + member.compress_size
    if position > directory:
        raise ValueError("its members reach into its directory")
    unpacked = sum(member.file_size for member in members)
    if unpacked > allowed:
        raise ValueError(f"{size:,} bytes would unpack to {unpacked:,}, more than {allowed:,}")


def _number(field: bytes) -> int:
    """Read a number of a tar header: octal digits, or (GNU) base 256."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if not all(48 <= digit <= 55 for digit in digits):
        raise ValueError("it is damaged, or no archive (a header has no number where one should be)")
    return int(digits or b"0", 8)


def _ustar_name(header: bytes) -> str:
    name, prefix = (_text(part.split(b"\0")[0]) for part in (header[:100], header[345:500]))
    # GNU keeps times where POSIX has the beginning of a long name.
    return f"{prefix}/{name}" if prefix and header[257:263] == b"ustar\0" else name


def _pax(content: bytes) -> dict[str, str]:
    """Read the records of a pax header: LENGTH NAME=VALUE and a line feed, LENGTH counting all of it."""
    told = {}
    while content:
        length = content[:8].split(b" ")[0]
        size = _decimal(_text(length))
        key, equals, value = content[len(length) + 1 : size].partition(b"=")
        if size <= len(length) or not equals or not value.endswith(b"\n"):
            raise ValueError("it is damaged (a name is not told as it should be)")
        told[_text(key)] = _text(value[:-1])
        content = content[size:]
    return told


def _decimal(digits: str) -> int:
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 20):
        raise ValueError("it is damaged (there is no number where one should be)")
    return int(digits)


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise ValueError(f"the name {name[:100]!r} is not in UTF-8") from None
