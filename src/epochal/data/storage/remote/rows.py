"""Inputs whose rows are in shards somewhere else: read by ranges, verified, and kept on this machine's disk as long as there is room.

Any rows can be read at once, as from a pack on this disk. What is not in the cache is fetched, many ranges at a time, and only the blocks
whose rows are wanted: with their neighbours the first batches would have to wait for most of the data.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
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
        self._coming: dict[int, tuple[Future[list[Bytes]], int]] = {}
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
        blocks, offsets = np.divmod(rows, self.index.block_rows)
        coming = self._requested(np.unique(blocks))
        for block, offset, place in zip(blocks.tolist(), offsets.tolist(), places.tolist(), strict=True):
            future, number = coming[block]
            out[place] = future.result()[number][offset]

    def _requested(self, blocks: Rows) -> dict[int, tuple[Future[list[Bytes]], int]]:
        """Ask for blocks that nobody has asked for yet; return what each will come in, and its place there."""
        with self._lock:
            if self._process != os.getpid():
                # The threads of a process do not follow into its forks.
                self._pool, self._coming, self._process = ThreadPoolExecutor(_REQUESTS, "epochal-remote"), {}, os.getpid()
            assert self._pool is not None
            for run in self._runs([block for block in blocks.tolist() if block not in self._coming]):
                future = self._pool.submit(self._arrive, run)
                self._coming |= {block: (future, place) for place, block in enumerate(run)}
            return {block: self._coming[block] for block in blocks.tolist()}

    def _runs(self, blocks: list[int]) -> list[range]:
        """Return these blocks, ascending, as ranges that are asked for together: they follow each other in a shard."""
        most, runs = max(1, _RANGE // (self.index.block_rows * self.index.row_bytes)), list[range]()
        for block in blocks:
            last = runs[-1] if runs else range(0)
            if last and last.stop == block and len(last) < most and block % self.index.shard_blocks:
                runs[-1] = range(last.start, block + 1)
            else:
                runs.append(range(block, block + 1))
        return runs

    def _arrive(self, run: range) -> list[Bytes]:
        """Return blocks that follow each other in a shard: fetched, verified and put in the cache, by this process or another one."""
        try:
            while not self.blocks.claim(run):
                time.sleep(_LOOK)
            try:
                return self._had(run)
            finally:
                self.blocks.release(run)
        finally:
            with self._lock:
                for block in run:
                    self._coming.pop(block, None)

    def _had(self, run: range) -> list[Bytes]:
        """Return blocks, of which another process may have fetched some in the meantime."""
        found = {block: rows for block in run if (rows := self._kept(block)) is not None}
        for part in self._runs([block for block in run if block not in found]):
            found |= dict(zip(part, self._fetched(part), strict=True))
        return [found[block] for block in run]

    def _kept(self, block: int) -> Bytes | None:
        if len(self.blocks.missing(np.array([block]))):
            return None
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
