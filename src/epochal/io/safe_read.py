"""Reading files that cannot be trusted: descriptions, headers of tensors, compressed streams.

Nothing that a file claims is believed, and nothing is allocated for it, before the claim has been compared with the file itself.
Every function raises `ValueError` with a reason that can follow the file's name, or the `OSError` of the system.
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

# The most bytes of memory that a description in JSON may take once it is parsed.
MAX_DESCRIPTION = 128_000_000

# The most bytes of a recipe in TOML.
MAX_TOML = 1_000_000

# The most bytes of the header of a .safetensors file, and axes of a tensor.
MAX_HEADER = 4_000_000
MAX_AXES = 32

# Compressed data may expand to this many times its size, or to this many bytes if that is more.
MAX_RATIO = 100
ALWAYS_UNPACKED = 64_000_000

# Compressed streams are read in pieces of at most this many bytes, and a decoder may take this much memory.
PIECE = 1 << 20
_XZ_MEMORY = 1 << 27

# Non-blocking: opening a pipe would wait until somebody writes to it.
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)

_ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}


def open_file(path: str | os.PathLike[str], *, follow: bool = True) -> io.BufferedReader:
    """Open a regular file for reading: not a folder, nor a device or pipe, which might never end; a link only if `follow`."""
    try:
        number = os.open(path, _READ if follow else _READ | getattr(os, "O_NOFOLLOW", 0))
    except OSError as error:
        if not follow and error.errno == errno.ELOOP:
            raise ValueError("it is a link, which could point anywhere") from error
        raise
    try:
        check_regular(os.fstat(number))
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def check_regular(status: os.stat_result) -> None:
    """Raise `IsADirectoryError` for a folder, and `ValueError` for anything else that is not a regular file."""
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a regular file")


class TooLargeError(ValueError):
    """A file has more bytes than are read."""


def read_whole(path: str | os.PathLike[str], limit: int) -> tuple[os.stat_result, bytes]:
    """Return what the system knows of a regular file, or of what a link points to, and its content; of millions of small files, fast.

    Raises `TooLargeError` if it has more than `limit` bytes.
    """
    file = os.open(path, _READ)
    try:
        status = os.fstat(file)
        check_regular(status)
        if status.st_size > limit:
            raise TooLargeError(f"has {status.st_size:,} bytes, more than {limit:,}")
        # One call is nearly always enough; a Python file object would add a tenth to the time of a small picture.
        content = os.read(file, status.st_size)
        while len(content) < status.st_size and (more := os.read(file, status.st_size - len(content))):
            content += more
    finally:
        os.close(file)
    return status, content


def read_file(path: Path, limit: int | None = None) -> bytes:
    """Read a file in a folder that cannot be trusted: a regular file, not a link, of at most `limit` bytes."""
    with open_file(path, follow=False) as file:
        size = os.fstat(file.fileno()).st_size
        if limit is not None and size > limit:
            raise ValueError(f"it has {size:,} bytes, more than {limit:,}")
        return file.read(size)


def text_of(content: bytes) -> str:
    """Return the text of a file that a person wrote: UTF-8, also with the byte order mark of Windows editors, or UTF-16."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        name, encoding = "UTF-16", "utf-16"
    else:
        name, encoding = "UTF-8", "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not text in {name}") from error


def check_no_links(folder: Path) -> None:
    """Raise `ValueError` for a link anywhere below `folder`: writing or removing there would change files elsewhere."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if os.path.islink(os.path.join(parent, name)):  # noqa: PTH114, PTH118  as os.walk gives them
                raise ValueError(f"{Path(parent, name).relative_to(folder)} is a link, which could point anywhere")


def read_json(path: Path, limit: int = MAX_DESCRIPTION) -> dict[str, Any]:
    """Return the object in a JSON file that is not a link; see `parse_json`."""
    value = parse_json(read_file(path, limit), limit)
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


def parse_json(content: bytes, limit: int = MAX_DESCRIPTION) -> Any:
    """Return the value of JSON in UTF-8, provided that it takes no more than `limit` bytes of memory.

    NaN is refused, as the standard says (RFC 8259), and so are numbers too large for a float and names that appear twice.
    """
    # An upper bound on what CPython needs: characters take up to 4 bytes if one of them is not ASCII.
    texts = len(content) * (2 if content.isascii() else 5) + 40 * content.count(b'"')
    if texts + 32 * content.count(b",") + 100 * (content.count(b"[") + content.count(b"{")) > limit:
        raise ValueError(f"reading it would take more than {limit / 1e6:,.0f} MB of memory")
    try:
        value = json.loads(content.decode("utf-8"), parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_object)
        if b"\\u" in content:
            as_bytes(json.dumps(value, ensure_ascii=False))  # Lone surrogates are refused, unless they represent a byte of a file name.
        return value
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is not valid JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:20]} is too large a number")
    return number


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name appears twice")
    return values


class StoredTensor(NamedTuple):
    """What the header of a .safetensors file says about a tensor; its data extends from `begin` to `end`, in bytes after the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class StoredTensors(NamedTuple):
    """The content of a .safetensors file: tensors and texts by name."""

    tensors: dict[str, StoredTensor]
    metadata: dict[str, str]


def read_tensors(file: io.BufferedReader) -> StoredTensors:
    """Return the header of a .safetensors file, after comparing all of it with the size of the file.

    The format (huggingface/safetensors, README) demands that the tensors' data fill the rest of the file without gap or overlap.
    """
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(MAX_HEADER, size - 8):
        raise ValueError(f"its header claims {length:,} bytes, in a file of {size:,} (at most {MAX_HEADER:,} are allowed)")
    header = parse_json(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata does not map names to text")
    tensors = {name: _stored(name, described) for name, described in header.items()}
    position = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != position:
            raise ValueError(f"the data of {name} begins at {tensor.begin:,} instead of {position:,}")
        position = tensor.end
    if 8 + length + position != size:
        raise ValueError(f"it has {size:,} bytes instead of {8 + length + position:,}")
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
        raise ValueError(f"{name} has an impossible shape")
    if begin < 0 or end - begin != math.prod(shape) * _ITEM_BYTES[dtype]:
        raise ValueError(f"{name} of shape {shape} has {end - begin:,} bytes of data")
    return StoredTensor(dtype, tuple(shape), begin, end)


def unpacked_limit(packed: int) -> int:
    """Return how many bytes a compressed file of `packed` bytes may expand to."""
    return max(ALWAYS_UNPACKED, MAX_RATIO * packed)


class Stream(io.RawIOBase):
    """Bytes that are read once from beginning to end, of which `position` were."""

    def __init__(self) -> None:
        super().__init__()
        self.position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next piece into `buffer`, and return its length; 0 at the end."""
        raise NotImplementedError

    def upto(self, count: int) -> bytes:
        """Return the next `count` bytes, or fewer at the end."""
        content = bytearray(count)
        return bytes(content[: self.fill(content)])

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes. Raises `ValueError` if there are fewer."""
        content = self.upto(count)
        if len(content) < count:
            raise ValueError("it is truncated")
        return content

    def fill(self, buffer: bytearray) -> int:
        """Fill `buffer`, and return how many bytes were read: fewer than its length at the end."""
        view = memoryview(buffer)
        done = 0
        while done < len(view) and (count := self.readinto(view[done:])):
            done += count
        return done

    def skip(self, count: int) -> None:
        """Skip `count` bytes. Raises `ValueError` if there are fewer."""
        while count:
            count -= len(self.take(min(count, PIECE)))


class Unpacked(Stream):
    """The decompressed content of a file (gzip, xz or plain, recognized by its first bytes), read once from beginning to end.

    Raises `ValueError` for damaged data, and when there is more of it than `unpacked_limit` allows.
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

    def readinto(self, buffer: Any) -> int:
        """Read the next piece into `buffer`, and return its length; 0 at the end."""
        view = memoryview(buffer).cast("B")[:PIECE]
        try:
            count = self._stream.readinto(view)
        except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
            raise ValueError(str(error)) from error
        self.position += count
        if self.position > self.limit:
            raise ValueError(f"{self.packed:,} bytes unpack to more than {self.limit:,}")
        return count

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


class _Xz(io.RawIOBase):
    """The decompressed content of an xz file; unlike `lzma.open`, in limited memory, whatever the file asks for."""

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
