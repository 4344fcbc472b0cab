"""Reading what a stranger may have made: descriptions, headers of tensors, packed streams.

Nothing that a file declares is believed before it was compared with what is there, and nothing is allocated before that. Every
function raises `ValueError` with a reason that can follow the file's name, or the `OSError` of the system.
"""

from __future__ import annotations

import codecs
import errno
import gzip
import io
import json
import lzma
import math
import os
import stat
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from epochal.io.files import as_bytes

# A description in JSON may take so many bytes of memory, once it is read.
MAX_DESCRIPTION = 128_000_000

# A recipe in TOML may have so many bytes.
MAX_TOML = 1_000_000

# The header of a .safetensors file may have so many bytes, and a tensor so many axes.
MAX_HEADER = 4_000_000
MAX_AXES = 32

# What is packed may unpack to so many times its size; or to so many bytes, where that is more.
MAX_RATIO = 100
ALWAYS_UNPACKED = 64_000_000

# A packed stream is read in pieces of at most so many bytes, and may ask for so much memory for itself.
PIECE = 1 << 20
_XZ_MEMORY = 1 << 27

_ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}


def open_file(path: str | os.PathLike[str], *, follow: bool = True) -> io.BufferedReader:
    """Open a regular file for reading: neither a folder nor a device or pipe, which might never end; no link, unless `follow`."""
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        number = os.open(path, flags if follow else flags | getattr(os, "O_NOFOLLOW", 0))
    except OSError as error:
        if not follow and error.errno == errno.ELOOP:
            raise ValueError("it is a link, which could lead anywhere") from error
        raise
    try:
        check_regular(os.fstat(number))
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def check_regular(status: os.stat_result) -> None:
    """Raise `IsADirectoryError` for a folder, and `ValueError` for what else is no regular file."""
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no regular file")


def read_file(path: Path, limit: int | None = None) -> bytes:
    """Read a file that belongs to a folder from elsewhere: regular, no link, and of at most `limit` bytes."""
    with open_file(path, follow=False) as file:
        size = os.fstat(file.fileno()).st_size
        if limit is not None and size > limit:
            raise ValueError(f"it has {size:,} bytes, more than {limit:,}")
        return file.read(size)


def text_of(content: bytes) -> str:
    """Return the text of a file that somebody wrote: UTF-8, or what Windows' editors and shells make of it (a mark, UTF-16)."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        name, encoding = "UTF-16", "utf-16"
    else:
        name, encoding = "UTF-8", "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not text in {name}") from error


def check_no_links(folder: Path) -> None:
    """Raise `ValueError` for a link anywhere below `folder`: what is written or removed there would be so elsewhere."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if os.path.islink(os.path.join(parent, name)):  # noqa: PTH114, PTH118  as os.walk gives them
                raise ValueError(f"{Path(parent, name).relative_to(folder)} is a link, which could lead anywhere")


def read_json(path: Path, limit: int = MAX_DESCRIPTION) -> dict[str, Any]:
    """Return the object in a JSON file, which is no link; see `parse_json`."""
    value = parse_json(read_file(path, limit), limit)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value


def parse_json(content: bytes, limit: int = MAX_DESCRIPTION) -> Any:
    """Return what JSON in UTF-8 says, provided that this takes no more than `limit` bytes of memory.

    As the standard (RFC 8259) has it, there is no NaN; numbers too large for a float and names that come twice are refused too.
    """
    # What CPython needs, from above: characters take up to 4 bytes where one is beyond ASCII.
    texts = len(content) * (2 if content.isascii() else 5) + 40 * content.count(b'"')
    if texts + 32 * content.count(b",") + 100 * (content.count(b"[") + content.count(b"{")) > limit:
        raise ValueError(f"reading it would take more than {limit / 1e6:,.0f} MB of memory")
    try:
        value = json.loads(content.decode("utf-8"), parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_object)
        if b"\\u" in content:
            as_bytes(json.dumps(value, ensure_ascii=False))  # Half a letter is none, unless it stands for a byte of a file's name.
        return value
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:20]} is too large a number")
    return number


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name comes twice")
    return values


class StoredTensor(NamedTuple):
    """What the header of a .safetensors file says of a tensor; its data lie from `begin` to `end`, in bytes after the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class StoredTensors(NamedTuple):
    """What a .safetensors file holds: tensors by name, and texts."""

    tensors: dict[str, StoredTensor]
    metadata: dict[str, str]


def read_tensors(file: io.BufferedReader) -> StoredTensors:
    """Return what the header of a .safetensors file says, after comparing all of it with the file's size.

    As the format (huggingface/safetensors, README) has it, the data of the tensors fill the rest of the file without gap or overlap.
    """
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(MAX_HEADER, size - 8):
        raise ValueError(f"its header would have {length:,} bytes, of a file of {size:,} (and of at most {MAX_HEADER:,})")
    header = parse_json(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata are not texts by name")
    tensors = {name: _stored(name, described) for name, described in header.items()}
    position = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != position:
            raise ValueError(f"the data of {name} begin at {tensor.begin:,}, and should at {position:,}")
        position = tensor.end
    if 8 + length + position != size:
        raise ValueError(f"it has {size:,} bytes, and should have {8 + length + position:,}")
    return StoredTensors(tensors, metadata)


def _stored(name: str, described: Any) -> StoredTensor:
    match described:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)], **more} if not more:
            pass
        case _:
            raise ValueError(f"{name} is not described by dtype, shape and data_offsets")
    if dtype not in _ITEM_BYTES:
        raise ValueError(f"{name} has numbers of the unknown type {dtype}")
    if len(shape) > MAX_AXES or not all(type(side) is int and 0 <= side < 2**63 for side in shape):
        raise ValueError(f"{name} has no possible shape")
    if begin < 0 or end - begin != math.prod(shape) * _ITEM_BYTES[dtype]:
        raise ValueError(f"{name} of shape {shape} has {end - begin:,} bytes of data")
    return StoredTensor(dtype, tuple(shape), begin, end)


def unpacked_limit(packed: int) -> int:
    """Return how many bytes so many packed ones may unpack to."""
    return max(ALWAYS_UNPACKED, MAX_RATIO * packed)


class Unpacked(io.RawIOBase):
    """What a file unpacks to (gzip, xz, or as it is, told by its first bytes), read once from beginning to end.

    Besides what the packing itself finds wrong, `ValueError` says that it is more than `unpacked_limit` allows.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._file = open_file(path)
        self.packed = os.fstat(self._file.fileno()).st_size
        start = self._file.read(6)
        self._file.seek(0)
        self.is_packed = True
        self._stream: io.BufferedIOBase = self._file
        if start.startswith(b"\x1f\x8b"):
            self._stream = gzip.GzipFile(fileobj=self._file, mode="rb")
        elif start == b"\xfd7zXZ\0":
            self._stream = io.BufferedReader(_Xz(self._file), PIECE)
        else:
            self.is_packed = False
        self.limit = unpacked_limit(self.packed) if self.is_packed else self.packed
        self.position = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` as far as there is something left, a piece at a time."""
        view = memoryview(buffer).cast("B")[:PIECE]
        try:
            count = self._stream.readinto(view)
        except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
            raise ValueError(str(error)) from error
        self.position += count
        if self.position > self.limit:
            raise ValueError(f"{self.packed:,} bytes unpack to more than {self.limit:,}")
        return count

    def upto(self, count: int) -> bytes:
        """Return the next `count` bytes, or all that are left."""
        content = bytearray(count)
        return bytes(content[: self.fill(content)])

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes; there must be as many."""
        content = self.upto(count)
        if len(content) < count:
            raise ValueError("it is truncated")
        return content

    def fill(self, buffer: bytearray) -> int:
        """Fill `buffer` as far as there is something left, and return how far that is."""
        view = memoryview(buffer)
        done = 0
        while done < len(view) and (count := self.readinto(view[done:])):
            done += count
        return done

    def skip(self, count: int) -> None:
        """Go on by `count` bytes; there must be as many."""
        while count:
            count -= len(self.take(min(count, PIECE)))

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


class _Xz(io.RawIOBase):
    """What xz unpacks to; unlike `lzma.open`, in little memory, whatever the file asks for."""

    def __init__(self, file: io.BufferedReader) -> None:
        super().__init__()
        self.file = file
        self.decoder = self._new()

    @staticmethod
    def _new() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        while True:
            if self.decoder.eof:
                # Several streams may follow each other, with zeros between them.
                packed = self.decoder.unused_data or self.file.read(PIECE)
                while not (rest := packed.lstrip(b"\0")):
                    if not packed:
                        return 0
                    packed = self.file.read(PIECE)
                self.decoder = self._new()
                piece = self.decoder.decompress(rest, len(view))
            elif self.decoder.needs_input:
                packed = self.file.read(PIECE)
                if not packed:
                    raise ValueError("it is truncated")
                piece = self.decoder.decompress(packed, len(view))
            else:
                piece = self.decoder.decompress(b"", len(view))
            if piece:
                view[: len(piece)] = piece
                return len(piece)
