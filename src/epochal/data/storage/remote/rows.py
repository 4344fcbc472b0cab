"""Inputs whose rows are in shards somewhere else: read by ranges, verified, and kept on this machine's disk as long as there is room.

Any rows can be read at once, as from a pack on this disk. What is not in the cache is fetched, many ranges at a time, and only the blocks
whose rows are wanted: with their neighbours the first batches would have to wait for most of the data.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

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

# So many ranges may have come and not be in the cache yet.
_UNKEPT = 2 * _REQUESTS

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
        # Blocks that have been asked for: those that nobody is fetching yet, and all until they are kept.
        self._wanted: dict[int, Future[Bytes]] = {}
        self._coming: dict[int, Future[Bytes]] = {}
        # Blocks that have come, by the run they came in, and are not kept yet.
        self._come: list[tuple[range, dict[int, Bytes]]] = []
        self._keeping = threading.Lock()
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
        # One by one, a thread would wake up for each block, and take the interpreter's lock from those that fetch.
        wait(coming.values(), return_when=FIRST_EXCEPTION)
        for block, future in coming.items():
            content = future.result()
            for offset, place in wanted[block]:
                out[place] = content[offset]

    def _requested(self, blocks: list[int]) -> dict[int, Future[Bytes]]:
        """Ask for blocks that nobody has asked for yet; return what each will come in."""
        with self._lock:
            if self._pool is None or self._process != os.getpid():
                # The threads of a process do not follow into its forks.
                self._pool, self._process = ThreadPoolExecutor(_REQUESTS, "epochal-remote"), os.getpid()
                self._wanted, self._coming, self._come, self._keeping = {}, {}, [], threading.Lock()
            for block in blocks:
                if block not in self._coming:
                    self._wanted[block] = self._coming[block] = Future()
                    self._pool.submit(self._arrive)
            return {block: self._coming[block] for block in blocks}

    def _arrive(self) -> None:
        """Have the block come that was asked for first, with those next to it that were asked for as well."""
        with self._lock:
            run = self._first()
            futures = {block: self._wanted.pop(block) for block in run}
        if not run:
            return
        try:
            kept, come = self._claimed(run)
        except BaseException as error:  # noqa: BLE001  it is raised where the rows are wanted
            # Further ones would be tried as long, one after another, and a program that ends would wait for all of them.
            with self._lock:
                futures |= self._wanted
                self._wanted.clear()
            for future in futures.values():
                future.set_exception(error)
            self._done(futures)
            return
        for block, content in (kept | come).items():
            futures[block].set_result(content)
        with self._lock:
            self._come.append((run, come))
        # One thread writes what all have fetched: if each did, they would wait for each other, while nothing is asked for.
        while self._come and self._keeping.acquire(blocking=len(self._come) > _UNKEPT):
            try:
                self._keep()
            finally:
                self._keeping.release()

    def _keep(self) -> None:
        """Put all that has come in the cache."""
        with self._lock:
            come, self._come = self._come, []
        try:
            self.blocks.put({block: rows for _, some in come for block, rows in some.items()})
        finally:
            for run, _ in come:
                self.blocks.release(run)
                self._done(run)

    def _done(self, run: Iterable[int]) -> None:
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

    def _claimed(self, run: range) -> tuple[dict[int, Bytes], dict[int, Bytes]]:
        """Claim blocks that follow each other in a shard; return those that are in the cache, and the others, fetched and verified."""
        while not self.blocks.claim(run):
            time.sleep(_LOOK)
        try:
            # Another process may have fetched some in the meantime.
            missing = set(self.blocks.missing(np.array(run)).tolist())
            kept = {block: rows for block in run if block not in missing and (rows := self._kept(block)) is not None}
            come: dict[int, Bytes] = {}
            for part in _runs([block for block in run if block not in kept]):
                come |= self._fetched(part)
        except BaseException:
            self.blocks.release(run)
            raise
        return kept, come

    def _kept(self, block: int) -> Bytes | None:
        begin = block * self.index.block_rows
        rows = np.arange(begin, min(begin + self.index.block_rows, self.index.rows))
        out = np.empty((len(rows), self.index.row_bytes), np.uint8)
        return out if self.blocks.read(rows, out).all() else None

    def _fetched(self, run: range) -> dict[int, Bytes]:
        index = self.index
        shard, first = index.shards[run.start // index.shard_blocks], run.start * index.block_rows
        end = min(run.stop * index.block_rows, index.rows)
        offset, size = (first - shard.begin) * index.row_bytes, index.block_rows * index.row_bytes

        def right(begin: int, piece: bytes) -> int:
            return self._right(run, (begin - offset) // size, piece, (end - first) * index.row_bytes - (begin - offset))

        content = fetch(self.store, shard.name, offset, offset + (end - first) * index.row_bytes, right)
        rows = np.frombuffer(content, np.uint8).reshape(end - first, index.row_bytes)
        return {
            block: rows[begin : begin + index.block_rows] for block, begin in zip(run, range(0, len(rows), index.block_rows), strict=True)
        }

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
