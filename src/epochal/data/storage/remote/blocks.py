"""Rows of packed data that are somewhere else, on the disk of this machine: as many as there is room for, the most recently used.

    KEY.blocks    a head, a table of which block is where, places for blocks

A block is a few rows; each row has a checksum behind it that also depends on its number. Rows are therefore read without a lock: what
another process has overwritten in the meantime fails its checksum, and is not there. Only who changes the table holds the
file's lock. A process that is killed while it writes leaves a place whose rows fail, or are not in the table.

Processes that share a cache do not fetch the same block at the same time: who fetches it has claimed it, by a lock that ends with the
process.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import sys
import threading
import weakref
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from epochal.data.storage.cache import SPARE, Cache

if sys.platform != "win32":
    import fcntl

_HEAD = struct.Struct("<8sQQQQ")
_MAGIC = b"epoblk01"
_PAGE = 4096
_SUM = 4

# Claims are locks of a byte for each block, far behind the end of the file.
_CLAIMS = 1 << 60

Rows = NDArray[np.int64]
Bytes = NDArray[np.uint8]


class Blocks:
    """The blocks of one set of rows in the cache: `rows` of `row_bytes` bytes each, `block_rows` to a block.

    Without room for any, it holds none.
    """

    def __init__(self, cache: Cache, key: str, rows: int, row_bytes: int, block_rows: int) -> None:
        self.rows, self.row_bytes, self.block_rows = rows, row_bytes, block_rows
        self.count = -(-rows // block_rows)
        self._record = row_bytes + _SUM
        self._lock = threading.Lock()
        path = cache.folder / f"{key}.blocks"
        self._file, self.slots = self._opened(cache, path)
        # Which slot, counted from 1, a block is in; which block, counted from 1, a slot has; when that was last used; and what is next.
        self._slot, self._owner, self._used, self._next = self._table()

    def missing(self, blocks: Rows) -> Rows:
        """Return those of `blocks` that are not in the cache."""
        return blocks[self._slot[blocks] == 0] if self.slots else blocks

    def read(self, rows: Rows, out: Bytes) -> NDArray[np.bool_]:
        """Read rows into `out` (contiguous [n, row_bytes]); return which of them were there. The others have no meaning."""
        if not self.slots:
            return np.zeros(len(rows), bool)
        blocks, place = np.divmod(rows, self.block_rows)
        slots = self._slot[blocks]
        there = np.flatnonzero(slots)
        used = slots[there].astype(np.int64) - 1
        self._next[1] += 1
        self._used[used] = self._next[1]
        begins = self._begin + (used * self.block_rows + place[there]) * self._record
        view, size, file = out.reshape(-1).data, self.row_bytes, self._file
        sums, stored = np.empty(len(there), np.uint32), np.empty(len(there), np.uint32)
        tail = stored.view(np.uint8).data
        for number, (begin, at, row) in enumerate(zip(begins.tolist(), there.tolist(), rows[there].tolist(), strict=True)):
            content = view[at * size : (at + 1) * size]
            os.preadv(file, [content, tail[number * _SUM : (number + 1) * _SUM]], begin)
            sums[number] = zlib.crc32(content, row & 0xFFFFFFFF)
        right = sums == stored
        found = np.zeros(len(rows), bool)
        found[there] = right
        self._forget(blocks[there[~right]])
        return found

    def put(self, blocks: Mapping[int, Bytes]) -> None:
        """Keep blocks, [rows, row_bytes] each, under their numbers, where there is room.

        A disk that refuses keeps none: they are fetched again when they are needed.
        """
        if not self.slots:
            return
        records = {number: self._records(number, block) for number, block in blocks.items() if not self._slot[number]}
        with suppress(OSError), self._changing():
            new = [number for number in records if not self._slot[number]][: self.slots]
            for number, slot in zip(new, self._free(len(new)), strict=True):
                os.pwrite(self._file, records[number].data, self._begin + slot * self.block_rows * self._record)
                self._slot[number], self._owner[slot], self._used[slot] = slot + 1, number + 1, self._next[1]

    def _records(self, number: int, block: Bytes) -> Bytes:
        """Return the rows of a block with their checksums behind them."""
        records = np.empty((len(block), self._record), np.uint8)
        records[:, : self.row_bytes] = block
        begin = number * self.block_rows
        sums = [zlib.crc32(row.data, (begin + place) & 0xFFFFFFFF) for place, row in enumerate(block)]
        records[:, self.row_bytes :] = np.array(sums, np.uint32)[:, None].view(np.uint8)
        return records

    def claim(self, blocks: range) -> bool:
        """Claim blocks for this process until their `release`, unless another one has claimed some; return whether that worked."""
        if self.slots and sys.platform != "win32":
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, len(blocks), _CLAIMS + blocks.start)
            except (BlockingIOError, PermissionError):
                return False
        return True

    def release(self, blocks: range) -> None:
        """Give back a claim."""
        if self.slots and sys.platform != "win32":
            fcntl.lockf(self._file, fcntl.LOCK_UN, len(blocks), _CLAIMS + blocks.start)

    def _free(self, count: int) -> list[int]:
        """Return so many slots that are free, or that were not used for longest, and are then free."""
        begin = int(self._next[0])
        free = list(range(begin, min(begin + count, self.slots)))
        self._next[0] = begin + len(free)
        if wanted := count - len(free):
            oldest = np.argpartition(self._used, wanted - 1)[:wanted] if wanted < self.slots else np.arange(self.slots)
            for slot in oldest.tolist():
                if (owner := int(self._owner[slot])) and self._slot[owner - 1] == slot + 1:
                    self._slot[owner - 1] = 0
            free += oldest.tolist()
        return free

    def _forget(self, blocks: Rows) -> None:
        """Let blocks with a wrong row be fetched again."""
        if len(blocks):
            with self._changing():
                self._slot[blocks] = 0

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Let one thread of one process at a time change the table."""
        with self._lock:
            if sys.platform != "win32":
                fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                if sys.platform != "win32":
                    fcntl.flock(self._file, fcntl.LOCK_UN)

    def _opened(self, cache: Cache, path: Path) -> tuple[int, int]:
        """Open the file, after making it if it is not there or too large; return it, and for how many blocks it has room."""
        for _ in range(2):
            # What cannot be opened, in a folder that is none or that may only be read, is no cache.
            with suppress(OSError):
                file = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
                slots = self._slots_of(file)
                if slots is not None and os.fstat(file).st_size <= max(cache.limit, self._size(1)):
                    os.utime(path)
                    weakref.finalize(self, os.close, file)
                    return file, slots
                os.close(file)
                path.unlink(missing_ok=True)
            if not self._make(cache, path):
                break
        return -1, 0

    def _make(self, cache: Cache, path: Path) -> bool:
        """Make the file, unless another process does; return whether there is room."""
        folder = cache.folder
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            room = min(cache.limit, shutil.disk_usage(folder).free - SPARE)
            slots = min(self.count, (room - self._start(self.count)) // (self.block_rows * self._record))
            if slots < 1:
                return False
            with cache.draft(self._size(slots)) as draft:
                with draft.path.open("r+b") as file:
                    file.write(_HEAD.pack(_MAGIC, self.rows, self.row_bytes, self.block_rows, slots))
                    if hasattr(os, "posix_fallocate"):
                        # The table is mapped: where the disk is full, this fails instead of the process.
                        os.posix_fallocate(file.fileno(), 0, self._start(slots))
                    file.truncate(self._size(slots))
                with suppress(FileExistsError):
                    os.link(draft.path, path)
            return True
        return False

    def _slots_of(self, file: int) -> int | None:
        """Return for how many blocks an open file has room; `None` if it is not one of these rows."""
        head = os.pread(file, _HEAD.size, 0)
        if len(head) < _HEAD.size:
            return None
        magic, rows, row_bytes, block_rows, slots = _HEAD.unpack(head)
        is_ours = (magic, rows, row_bytes, block_rows) == (_MAGIC, self.rows, self.row_bytes, self.block_rows)
        return slots if is_ours and 0 < slots <= self.count and os.fstat(file).st_size == self._size(slots) else None

    def _start(self, slots: int) -> int:
        """Return where the places for blocks begin."""
        return -(-(_PAGE + 4 * self.count + 8 * slots) // _PAGE) * _PAGE

    def _size(self, slots: int) -> int:
        return self._start(slots) + slots * self.block_rows * self._record

    def _table(self) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32]]:
        if not self.slots:
            empty = np.zeros(0, np.uint32)
            return empty, empty, empty, empty
        self._begin = self._start(self.slots)
        mapped = np.frombuffer(mmap.mmap(self._file, self._begin), np.uint32)
        words = mapped[_PAGE // 4 :]
        owner = self.count + self.slots
        return words[: self.count], words[self.count : owner], words[owner : owner + self.slots], mapped[_PAGE // 4 - 2 : _PAGE // 4]
