"""Examples on disk as networks take them, so that they are read from their files only once: packs.

    KEY.pack     examples [n, *shape], a checksum of each, a description, a seal
    KEY.files    what is known about files, so that those that have not changed are not read again
    KEY.found    everything else that was read from files (see `kept`)
    .*.part      a file being written, locked by its writer

The key of a pack of pictures is a hash of the files' content and of how they were decoded: the same pictures have the same pack
wherever they are, and other pictures another. A file gets its name when it is complete; temporary files of killed processes are removed.
Files are not flushed to disk, which would take as long as decoding: after a power cut they fail their checksum. Beyond the
limit, the least recently used are removed first.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import struct
import time
import weakref
import zlib
from array import array
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, PositiveInt

from epochal.errors import DataError, RecipeError
from epochal.io.files import cache_folder
from epochal.io.safe_read import MAX_AXES, open_file

# Without EPOCHAL_CACHE_SIZE, the cache takes up to this share of its disk.
_SHARE = 0.25

# Bytes of the disk that stay free.
SPARE = 1_000_000_000

# A file that was changed less than this long before it was read may change again without its times showing it ("racily clean" in
# git's index): those of some file systems have a resolution of two seconds.
_RACY_NS = 2_000_000_000

AT_ONCE = 16_000_000

# So many threads read a pack that comes into memory: checksums take as long as reading.
_READERS = 4

# The last bytes of a pack: a magic number, the lengths of the checksums and description before it, and a checksum of all four.
SEAL = struct.Struct("<8sQQI")
MAGIC = b"epochal1"
_MAX_DESCRIPTION = 1 << 16

# The names of our files in the cache; others are not touched.
_OURS = re.compile(r"[0-9a-f]{32}\.(pack|files|found|blocks)|\.[0-9a-f]{16}\.part")

SIGNATURE = np.dtype([("inode", "<u8"), ("size", "<i8"), ("modified", "<i8"), ("changed", "<i8")])

# What is known about a file: its signature when it was read, the hash of its content; of a picture, what its header says.
FILE = np.dtype([("signature", SIGNATURE), ("hash", "V16"), ("height", "<i4"), ("width", "<i4"), ("grey", "?"), ("deep", "?")])


class DamagedError(DataError):
    """A pack has changed since it was written."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"The examples in {path} are damaged: {what}.", "Remove them with `epochal cache clear`, and start again.")


def signature(status: os.stat_result) -> tuple[int, int, int, int]:
    """Return what changes when a file does: inode, size in bytes, modification and status times in nanoseconds."""
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def content_hash(*parts: bytes) -> bytes:
    """Return the BLAKE2b hash of bytes, 16 bytes long."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.digest()


class Pack:
    """Examples in a file: [n, *shape] of one dtype. They are read on demand, and take no memory.

    Raises `DamagedError` if the file is damaged, and `OSError` if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # An open file can be read to the end, even if another process removes it from the cache.
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        described, self._checksums = _unseal(self._file, path)
        self.name = described.name
        self.shape = described.shape
        self.dtype: np.dtype[Any] = np.dtype(described.dtype)
        self._size = prod(self.shape[1:]) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """How many bytes the examples take."""
        return len(self) * self._size

    def read(self, places: Sequence[int]) -> NDArray[Any]:
        """Return the examples at `places`: [len(places), *shape]. Raises `DamagedError` if one has changed since it was written."""
        file, size, checksums = self._file, self._size, self._checksums
        # Unlike a memory map, this keeps the process small, and a truncated file is an error instead of a signal.
        pieces = [os.pread(file, size, place * size) for place in places]
        for place, piece in zip(places, pieces, strict=True):
            if zlib.crc32(piece) != checksums[place]:
                raise DamagedError(self.path, f"example {place} has changed since it was written")
        return np.frombuffer(bytearray().join(pieces), self.dtype).reshape(len(places), *self.shape[1:])

    def read_all(self, out: NDArray[Any]) -> None:
        """Read all examples into `out`, [n, *shape]. Raises `DamagedError` as `read` does."""
        flat = out.reshape(-1).view(np.uint8).reshape(len(self), self._size)
        step = max(1, AT_ONCE // self._size)

        def is_whole(begin: int) -> bool:
            chunk = flat[begin : begin + step].reshape(-1).data
            is_read = os.preadv(self._file, [chunk], begin * self._size) == len(chunk)
            return is_read and checksums(chunk, self._size) == self._checksums[begin : begin + step]

        begins = range(0, len(self), step)
        with ThreadPoolExecutor(_READERS) as pool:
            for begin, read in zip(begins, pool.map(is_whole, begins), strict=True):
                if not read:
                    raise DamagedError(self.path, f"those from {begin} on have changed since they were written")


class Entry(NamedTuple):
    """A pack in the cache, for people: `size` in bytes, `used` in seconds since 1970."""

    key: str
    name: str
    shape: tuple[int, ...]
    size: int
    used: float


class _File(NamedTuple):
    used: float
    size: int
    path: Path


class Draft:
    """A pack that is being written; `seal` completes it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def seal(self, key: str, name: str, shape: Sequence[int], checksums: array[int], dtype: str = "uint8") -> Pack:
        """Append the checksums, the description and the seal, and give the file its name."""
        described = json.dumps({"name": name, "shape": list(shape), "dtype": dtype}).encode()
        tail = checksums.tobytes() + described
        seal = SEAL.pack(MAGIC, len(tail) - len(described), len(described), 0)[:-4]
        with self.path.open("r+b") as file:
            file.seek(prod(shape) * np.dtype(dtype).itemsize)
            file.write(tail + seal + zlib.crc32(tail + seal).to_bytes(4, "little"))
        target = _pack_path(self.path.parent, key)
        self.path.replace(target)
        return Pack(target)


class Cache:
    """The folder of packs. Several processes may use it at once, and any file in it may be removed at any time.

    `limit` is how many bytes it may take. Methods that write raise `OSError` if the disk refuses.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit

    def entries(self) -> list[Entry]:
        """Return the packs, the most recently used first."""
        found = []
        for used, size, path in sorted(self._files(), reverse=True):
            if path.suffix == ".pack":
                try:
                    pack = Pack(path)
                except FileNotFoundError:
                    continue
                except DamagedError:
                    found.append(Entry(path.stem, "(damaged)", (), size, used))
                else:
                    found.append(Entry(path.stem, pack.name, pack.shape, size, used))
        return found

    def size(self) -> int:
        """Return how many bytes all files take."""
        return sum(file.size for file in self._files())

    def clear(self) -> tuple[int, int]:
        """Remove everything except what other processes are writing; return how many packs and bytes were removed."""
        self._sweep()
        removed = [file for file in self._files() if not _is_part(file.path) and _remove(file.path)]
        return sum(file.path.suffix == ".pack" for file in removed), sum(file.size for file in removed)

    def find(self, key: str, shape: Sequence[int] | None = None) -> Pack | None:
        """Return the pack with this `key`, of this shape if one is given, marked as used.

        Raises `DamagedError` if it is damaged, and removes it.
        """
        path = _pack_path(self.folder, key)
        try:
            pack = Pack(path)
            if shape is not None and pack.shape != tuple(shape):
                raise DamagedError(path, f"its shape is {pack.shape}")
            os.utime(path)
        except FileNotFoundError:
            return None
        except DamagedError:
            _remove(path)
            raise
        return pack

    @contextmanager
    def draft(self, size: int) -> Iterator[Draft]:
        """Make room, and yield a new file for a pack of `size` bytes, which is removed at the end unless it was sealed."""
        if size > self.limit:
            reason = f"{size / 1e9:,.1f} GB are more than its limit of {self.limit / 1e9:,.1f} GB (EPOCHAL_CACHE_SIZE)"
            raise OSError(errno.EFBIG, reason)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._sweep()
        self._make_room(size)
        if shutil.disk_usage(self.folder).free < size + SPARE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with self._part() as part:
            yield Draft(part)

    def recall(self, root: Path, names: Sequence[str]) -> NDArray[Any] | None:
        """Return what is known (`FILE` [n]) about the files with these `names` below `root`; `None` if any of them has changed."""
        try:
            content = self._list(root, names).read_bytes()
            began, body = int.from_bytes(content[16:24], "little"), content[24:]
            # A list only saves reading the files again: a damaged one is ignored.
            if content[:16] != content_hash(content[16:]):
                return None
            known = np.frombuffer(body, FILE).copy()
            now = time.time_ns()
            found = np.fromiter((signature(os.stat(os.path.join(root, name))) for name in names), SIGNATURE, len(names))  # noqa: PTH116, PTH118  a Path takes longer
            if not (found == known["signature"]).all():
                return None
            racy = np.flatnonzero(np.maximum(found["modified"], found["changed"]) >= began - _RACY_NS)
            for place in racy.tolist():
                if hash_file(root / names[place]) != known["hash"][place].tobytes():
                    return None
            if len(racy):
                self.remember(root, names, known, now)
            os.utime(self._list(root, names))
        except (OSError, ValueError):  # ValueError: it is no longer a regular file.
            return None
        return known

    def remember(self, root: Path, names: Sequence[str], known: NDArray[Any], began: int) -> None:
        """Save what is known (`FILE` [n]) about files below `root`; `began` is when the first was read, in nanoseconds since 1970."""
        self.write(self._list(root, names), began.to_bytes(8, "little") + known.tobytes())

    def write(self, path: Path, content: bytes) -> None:
        """Save bytes in a file of the cache, after their hash (16 bytes)."""
        with self._part() as part:
            part.write_bytes(content_hash(content) + content)
            part.replace(path)

    def _list(self, root: Path, names: Sequence[str]) -> Path:
        return self.folder / f"{content_hash(os.fsencode(root.resolve()), _hash_names(names)).hex()}.files"

    def _files(self) -> Iterator[_File]:
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if _OURS.fullmatch(path.name):
                with suppress(FileNotFoundError):
                    status = path.stat()
                    yield _File(status.st_mtime, status.st_size, path)

    def _make_room(self, size: int) -> None:
        files = sorted(self._files())
        excess = sum(file.size for file in files) + size - self.limit
        for file in files:
            if excess > 0 and not _is_part(file.path) and _remove(file.path):
                excess -= file.size

    def _sweep(self) -> None:
        """Remove temporary files of killed processes, whose locks are free."""
        import fcntl

        for path in [file.path for file in self._files() if _is_part(file.path)]:
            with suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()

    @contextmanager
    def _part(self) -> Iterator[Path]:
        """Yield a new, locked file; it is removed at the end if it still has that name."""
        import fcntl

        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.folder / f".{secrets.token_hex(8)}.part"
        with path.open("xb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                path.stat()  # Before it was locked, another process may have removed it as abandoned.
                yield path
            finally:
                path.unlink(missing_ok=True)


def hash_file(path: str | Path) -> bytes:
    """Return `content_hash` of what is in a file."""
    with open_file(path) as file:
        if os.fstat(file.fileno()).st_size < AT_ONCE:
            return content_hash(file.read())
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()


def checksums(content: bytes | memoryview, size: int) -> array[int]:
    """Return the CRC-32 of each example of `size` bytes."""
    view = memoryview(content)
    return array("I", [zlib.crc32(view[begin : begin + size]) for begin in range(0, len(view), size)])


def open_cache() -> Cache:
    """Return the cache set by the environment; its folder need not exist yet. Raises `RecipeError` for an invalid size."""
    folder = cache_folder() / "examples"
    wanted = os.environ.get("EPOCHAL_CACHE_SIZE")
    if wanted is None:
        # Unlike `Path.exists`, this never fails: the cache may be in a folder that this user may not read.
        there = next(parent for parent in folder.absolute().parents if os.access(parent, os.F_OK))
        return Cache(folder, int(shutil.disk_usage(there).total * _SHARE))
    try:
        gigabytes = float(wanted)
        if not 0 <= gigabytes < float("inf"):
            raise ValueError
    except ValueError:
        raise RecipeError(f"EPOCHAL_CACHE_SIZE = {wanted!r} is not a size.", "Give a number of GB; 0 switches the cache off.") from None
    return Cache(folder, int(gigabytes * 1e9))


class _Described(BaseModel):
    """The description in a pack."""

    name: str
    shape: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=MAX_AXES)]
    dtype: Literal["uint8", "int16", "int32", "int64", "float32", "float64"] = "uint8"


def _unseal(file: int, path: Path) -> tuple[_Described, array[int]]:
    """Return the description and the checksums of a pack, after verifying its seal."""
    end = os.fstat(file).st_size - SEAL.size
    seal = os.pread(file, SEAL.size, max(0, end))
    if end >= 0:
        magic, sums, length, checksum = SEAL.unpack(seal)
        begin = end - sums - length
        if magic == MAGIC and begin >= 0 and length <= _MAX_DESCRIPTION:
            tail = os.pread(file, sums + length, begin)
            if zlib.crc32(tail + seal[:-4]) == checksum:
                try:
                    described = _Described.model_validate_json(tail[sums:])
                except ValueError as error:
                    raise DamagedError(path, "their description is invalid") from error
                if prod(described.shape) * np.dtype(described.dtype).itemsize == begin and sums == 4 * described.shape[0]:
                    return described, array("I", tail[:sums])
    raise DamagedError(path, "their end is missing")


def _pack_path(folder: Path, key: str) -> Path:
    return folder / f"{key}.pack"


def _is_part(path: Path) -> bool:
    return path.suffix == ".part"


def _remove(path: Path) -> bool:
    """Remove a file; return whether that succeeded."""
    try:
        path.unlink()
    except OSError:
        return False
    return True


def _hash_names(names: Sequence[str]) -> bytes:
    return content_hash(os.fsencode("\0".join(names)))
