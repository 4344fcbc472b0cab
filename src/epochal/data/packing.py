"""Packing data: shards, then what is known of examples, and the index last.

Names contain the beginning of the SHA-256 of what is in a file: what a writing that was cut off has left is used again, and nothing is ever
overwritten. Without an index there are no packed data.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from epochal.data.examples import Examples, places_key
from epochal.data.inputs.values import access
from epochal.data.load import Data
from epochal.data.spec import DataSpec
from epochal.data.storage.remote.index import MAX_EXAMPLES, MAX_INDEX, NAME, File, Index, Shard, frozen_examples, is_ours, shard_name
from epochal.data.storage.remote.place import Place, Store, opened
from epochal.errors import DataError, OutputError, TakenError
from epochal.io.checksums import with_checksum
from epochal.io.files import json_text
from epochal.progress import progress
from epochal.tasks.words import Words

# A block is what is fetched for a single row where data do not fit in the cache: 64 KB take about as long as a request does, at 100 MB/s
# with 32 requests at a time and 20 ms each.
BLOCK_BYTES = 1 << 16
SHARD_BYTES = 1 << 26

# So many shards are sent at a time.
_SENDERS = 4


class Packed(NamedTuple):
    """What was written: where, and how many examples, shards and bytes; `reused` shards were there already."""

    place: str
    examples: int
    shards: int
    size: int
    reused: int


def check_new(place: Place) -> Store:
    """Return the store of a place that data can be packed to. Raises `OutputError` if it is not empty, but for what was cut off."""
    store = opened(place)
    there = store.files()
    if NAME in there:
        raise TakenError(place.named(NAME))
    if others := [name for name in there if not is_ours(name)]:
        raise OutputError(f"{place.name} has other files, such as {others[0]}.", "Name a new folder.")
    return store


class Writer:
    """Writes the data that are given to a place; see `check_new`."""

    def __init__(self, store: Store, data: Data) -> None:
        if any(access(part.inputs) == "items" or part.varies for part in data.splits.values()):
            raise DataError(f"{data.name} is a dataset that is read one by one, and cannot be packed.", "Pass arrays, files or a folder.")
        self.store = store
        parts: dict[str, Any] = {split: renumbered(part) for split, part in data.splits.items()}
        self.data = replace(data, **parts)
        self.there = store.files()
        self.size = self.reused = 0

    def shards(self) -> tuple[list[Shard], list[bytes], int, int]:
        """Write all shards; return them, the SHA-256 of each block, and how many rows a block and blocks a shard has."""
        first = self.data.train.input(0)
        row, rows = first.nbytes, sum(map(len, self.data.splits.values()))
        block_rows = max(1, BLOCK_BYTES // row)
        shard_blocks = max(1, SHARD_BYTES // (block_rows * row))
        digests: list[bytes] = []
        written: deque[Future[Shard]] = deque()
        found = []
        with ThreadPoolExecutor(_SENDERS) as pool, progress(f"Packing {self.data.name}", rows * row, unit="bytes") as advance:
            for number, content in enumerate(_pieces(self.data, block_rows * shard_blocks)):
                begin = number * block_rows * shard_blocks
                step = block_rows * row
                digests += [hashlib.sha256(content[place : place + step]).digest() for place in range(0, len(content), step)]
                written.append(pool.submit(self._send, number, begin, content, row))
                if len(written) > _SENDERS:
                    found.append(written.popleft().result())
                advance(len(content))
            found += [one.result() for one in written]
        return found, digests, block_rows, shard_blocks

    def _send(self, number: int, begin: int, content: memoryview, row: int) -> Shard:
        sha256 = hashlib.sha256(content).hexdigest()
        shard = Shard(name=shard_name(number, sha256), size=len(content), sha256=sha256, begin=begin, end=begin + len(content) // row)
        self._write(shard.name, content)
        return shard

    def _write(self, name: str, content: bytes | memoryview) -> None:
        """Write a file, unless it is there: its name says what is in it."""
        if self.there.get(name) == len(content):
            self.reused += 1
        else:
            self.store.write(name, bytes(content))
        self.size += len(content)

    def finish(self, shards: tuple[list[Shard], list[bytes], int, int], split: Data | None) -> Packed:
        """Write what is known of examples, and the index. `split` are the same data as they will be split for training."""
        data, (found, digests, block_rows, shard_blocks) = self.data, shards
        content = frozen_examples(data.splits, np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32).copy())
        if len(content) > MAX_EXAMPLES:
            raise DataError(f"What is known of the examples of {data.name} takes {len(content) / 1e9:,.1f} GB.", "Pack fewer at a time.")
        sha256 = hashlib.sha256(content).hexdigest()
        examples = File(name=f"examples-{sha256[:16]}.safetensors", size=len(content), sha256=sha256)
        self._write(examples.name, content)
        index = Index(
            spec=DataSpec(
                name=data.name,
                input=data.input,
                task=data.task,
                counts={name: len(part) for name, part in data.splits.items()},
                fingerprint=data.fingerprint,
                listing=data.listing,
            ),
            learned={} if split is None else {places_key(split.train): split.spec.input},
            notes=data.notes,
            batch_size=data.batch_size,
            model=data.model,
            attributes=data.attributes,
            shape=data.input.shape,
            dtype=data.input.dtype,
            block_rows=block_rows,
            shard_blocks=shard_blocks,
            examples=examples,
            shards=tuple(found),
        )
        text = json_text(with_checksum(index.model_dump(mode="json"))).encode()
        if len(text) > MAX_INDEX:
            raise DataError(f"The index of {data.name} takes {len(text) / 1e6:,.0f} MB.", "Pack fewer examples at a time.")
        self.store.write(NAME, text)
        return Packed(self.store.place.name, index.rows, len(found), self.size + len(text), self.reused)


def renumbered(examples: Examples) -> Examples:
    """Return examples whose positions are their places, as if nothing had been left out of their source."""
    places = examples.positions.numpy()
    words: dict[str, Any] = {
        name: Words.of(known).take(places) for name in ("files", "texts", "groups") if (known := getattr(examples, name)) is not None
    }
    return replace(
        examples,
        positions=torch.arange(len(examples)),
        hashes=None if examples.hashes is None else examples.hashes[places],
        attributes=None if examples.attributes is None else examples.attributes[examples.positions],
        **words,
    )


def _pieces(data: Data, rows: int) -> Iterator[memoryview]:
    """Yield the bytes of all inputs, so many rows at a time, across splits."""
    waiting: list[Tensor] = []
    for part in data.splits.values():
        done = 0
        while done < len(part):
            wanted = rows - sum(map(len, waiting))
            waiting.append(part.inputs[torch.arange(done, min(done + wanted, len(part)))])
            done += len(waiting[-1])
            if sum(map(len, waiting)) == rows:
                yield _bytes(waiting)
                waiting = []
    if waiting:
        yield _bytes(waiting)


def _bytes(parts: list[Tensor]) -> memoryview:
    return memoryview(np.ascontiguousarray(torch.cat(parts).numpy()).reshape(-1).view(np.uint8).data)
