"""Archives by our own rules: what is in a tar, and a zip whose directory says the truth.

Python's tarfile takes memory and time that an archive decides on (links to anywhere aside); what it is needed for here is little.
Everything raises `ValueError` with a reason that can follow the archive's name, or `OSError`.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from epochal.untrusted import Unpacked, open_file, unpacked_limit

# The directory of a zip may have so many bytes: enough for a hundred thousand pictures.
MAX_DIRECTORY = 12_000_000

# An archive may have so many members.
MAX_MEMBERS = 1_000_000

# A name in an archive, with all that is said about it, may have so many bytes.
_MAX_HEADER = 1 << 16

_BLOCK = 512
_ENCRYPTED = 1
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
