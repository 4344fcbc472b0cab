"""Inputs whose rows are in shards somewhere else: read by ranges, verified, and kept on this machine's disk as long as there is room.

Any rows can be read at once, as from a pack on this disk. What is not in the cache is fetched, many ranges at a time, and only the blocks
whose rows are wanted: with their neighbours the first batches would have to wait for most of the data.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from epochal.data.inputs.values import Access
from epochal.data.storage.cache import Cache
from epochal.data.storage.remote.blocks import Blocks, Bytes, Rows
from epochal.data.storage.remote.index import Index
from epochal.data.storage.remote.place import Store
from epochal.data.storage.remote.transfer import fetch

# So many ranges are asked for at a time.
_REQUESTS = 32

# No range has more bytes, unless a block has.
_RANGE = 1 << 20

# Seconds between two looks for a block that another process is fetching.
_LOOK = 0.005

# Batches are read ahead until they have so many bytes, or there are so many.
_AHEAD_BYTES = 1 << 25
_MOST_AHEAD = 16
_BATCH = 64


class RemoteRows:
    """The inputs of all splits of packed data."""

    access: Access = "file"

    def __init__(self, store: Store, index: Index, digests: NDArray[np.uint8], cache: Cache) -> None:
        """`digests` (uint8 [blocks, 32]) are the SHA-256 of blocks."""
        self.store = store
        self.index = index
        self.digests = digests
        key = hashlib.sha256(b"".join(bytes.fromhex(shard.sha256) for shard in index.shards)).hexdigest()[:32]
        self.blocks = Blocks(cache, key, index.rows, index.row_bytes, index.block_rows)
        self.ahead = max(2, min(_MOST_AHEAD, _AHEAD_BYTES // (_BATCH * index.row_bytes)))
        self._lock = threading.Lock()
        # Blocks that have been asked for: those that nobody is fetching yet, and all.
        self._wanted: dict[int, Future[Bytes]] = {}
        self._coming: dict[int, Future[Bytes]] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._process = -1

    def __len__(self) -> int:
        return self.index.rows

    def __getitem__(self, index: Tensor) -> Tensor:
        """Read the inputs at `index` (int64 [n]): [n, *shape]. Raises `DownloadError` if they cannot be had."""
        rows = index.numpy()
        out = np.empty((len(rows), self.index.row_bytes), np.uint8)
        there = self.blocks.read(rows, out)
        if not there.all():
            missing = np.flatnonzero(~there)
            self._fetch(rows[missing], missing, out)
        return torch.from_numpy(out.view(self.index.dtype)).reshape(len(rows), *self.index.shape)

    def _fetch(self, rows: Rows, places: Rows, out: Bytes) -> None:
        """Fetch rows into these places of `out`."""
        wanted: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        blocks, offsets = np.divmod(rows, self.index.block_rows)
        for block, offset, place in zip(blocks.tolist(), offsets.tolist(), places.tolist(), strict=True):
            wanted[block].append((offset, place))
        coming = self._requested(sorted(wanted))
        while coming:
            # What has been copied is not held any longer.
            block, future = coming.popleft()
            content = future.result()
            for offset, place in wanted[block]:
                out[place] = content[offset]

    def _requested(self, blocks: list[int]) -> deque[tuple[int, Future[Bytes]]]:
        """Ask for blocks that nobody has asked for yet; return what each will come in."""
        with self._lock:
            if self._process != os.getpid():
                # The threads of a process do not follow into its forks.
                self._pool, self._process = ThreadPoolExecutor(_REQUESTS, "epochal-remote"), os.getpid()
                self._wanted, self._coming = {}, {}
            assert self._pool is not None
            for block in blocks:
                if block not in self._coming:
                    self._wanted[block] = self._coming[block] = Future()
                    self._pool.submit(self._arrive)
            return deque((block, self._coming[block]) for block in blocks)

    def _arrive(self) -> None:
        """Have the block come that was asked for first, with those next to it that were asked for as well."""
        with self._lock:
            run = self._first()
            futures = [self._wanted.pop(block) for block in run]
        if not run:
            return
        try:
            for future, content in zip(futures, self._claimed(run), strict=True):
                future.set_result(content)
        except BaseException as error:  # noqa: BLE001  it is raised where the rows are wanted
            for future in futures:
                future.set_exception(error)
        with self._lock:
            for block in run:
                self._coming.pop(block, None)

    def _first(self) -> range:
        """Return the wanted blocks that are fetched next: they follow each other in a shard."""
        first = next(iter(self._wanted), None)
        if first is None:
            return range(0)
        most, begin, end = max(1, _RANGE // (self.index.block_rows * self.index.row_bytes)), first, first + 1
        while end - begin < most and end in self._wanted and end % self.index.shard_blocks:
            end += 1
        while end - begin < most and begin - 1 in self._wanted and begin % self.index.shard_blocks:
            begin -= 1
        return range(begin, end)

    def _claimed(self, run: range) -> list[Bytes]:
        """Return blocks that follow each other in a shard: fetched, verified and put in the cache, by this process or another one."""
        while not self.blocks.claim(run):
            time.sleep(_LOOK)
        try:
            # Another process may have fetched some in the meantime.
            missing = set(self.blocks.missing(np.array(run)).tolist())
            found = {block: rows for block in run if block not in missing and (rows := self._kept(block)) is not None}
            for part in _runs([block for block in run if block not in found]):
                found |= dict(zip(part, self._fetched(part), strict=True))
            return [found[block] for block in run]
        finally:
            self.blocks.release(run)

    def _kept(self, block: int) -> Bytes | None:
        begin = block * self.index.block_rows
        rows = np.arange(begin, min(begin + self.index.block_rows, self.index.rows))
        out = np.empty((len(rows), self.index.row_bytes), np.uint8)
        return out if self.blocks.read(rows, out).all() else None

    def _fetched(self, run: range) -> list[Bytes]:
        index = self.index
        shard, first = index.shards[run.start // index.shard_blocks], run.start * index.block_rows
        end = min(run.stop * index.block_rows, index.rows)
        offset, size = (first - shard.begin) * index.row_bytes, index.block_rows * index.row_bytes

        def right(begin: int, piece: bytes) -> int:
            return self._right(run, (begin - offset) // size, piece, (end - first) * index.row_bytes - (begin - offset))

        content = fetch(self.store, shard.name, offset, offset + (end - first) * index.row_bytes, right)
        rows = np.frombuffer(content, np.uint8).reshape(end - first, index.row_bytes)
        blocks = [rows[begin : begin + index.block_rows] for begin in range(0, len(rows), index.block_rows)]
        self.blocks.put(run.start, blocks)
        return blocks

    def _right(self, run: Sequence[int], place: int, piece: bytes, left: int) -> int:
        """Return how many of the first bytes of `piece` are whole blocks from the run's `place` on that have the right SHA-256."""
        size, count = self.index.block_rows * self.index.row_bytes, 0
        for block in run[place:]:
            wanted = min(size, left - count)
            part = memoryview(piece)[count : count + wanted]
            if len(part) < wanted or hashlib.sha256(part).digest() != self.digests[block].tobytes():
                break
            count += wanted
        return count


def _runs(blocks: list[int]) -> list[range]:
    """Return ascending blocks as ranges."""
    runs = list[range]()
    for block in blocks:
        if runs and runs[-1].stop == block:
            runs[-1] = range(runs[-1].start, block + 1)
        else:
            runs.append(range(block, block + 1))
    return runs
