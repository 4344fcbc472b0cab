"""Packed data, opened: what a source returns, with inputs that are fetched when they are needed."""

from __future__ import annotations

import hashlib
import itertools
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from epochal.data.examples import Found, Part
from epochal.data.inputs.values import Inputs, subset
from epochal.data.storage.cache import Cache, open_cache
from epochal.data.storage.fill import fits
from epochal.data.storage.remote.index import MAX_INDEX, NAME, File, Index, read_index, thawed_examples
from epochal.data.storage.remote.place import Place, Store, is_url, opened
from epochal.data.storage.remote.rows import RemoteRows
from epochal.data.storage.remote.transfer import fetch_checked, fetch_file
from epochal.errors import DataError
from epochal.io.checksums import verify_checksum
from epochal.io.safe_read import parse_json
from epochal.progress import progress
from epochal.tasks.base import TaskName

# Inputs of at most so many bytes are fetched at once: they are there before a model is built.
_SMALL = 1 << 26

# Where all inputs come into memory, so many bytes are fetched at a time.
_AT_ONCE = 1 << 25

# Bytes of a hash that `Cache.write` puts before a content.
_HASH = 16


def is_packed(what: object) -> bool:
    """Whether a user named packed data: a URL, or a folder with an index."""
    if is_url(what) or not isinstance(what, str | Path):
        return is_url(what)
    # What is no path at all is refused where it is read: `os.path` asks without an error.
    return os.path.isfile(os.path.join(os.path.expanduser(what), NAME))  # noqa: PTH111, PTH113, PTH118


def find_packed(what: str | Path, memory: float | None) -> tuple[Found, Index]:
    """Open packed data, of which `memory` bytes may be kept in memory. Raises `DataError`."""
    store = opened(Place.of(what))
    index = find_index(store)
    cache = open_cache()
    content = _examples(store, index.examples, cache)
    counts = index.spec.counts
    known, digests = thawed_examples(content, index, store.place.named(index.examples.name))
    remote = RemoteRows(store, index, digests, cache)
    size = index.rows * index.row_bytes
    is_quick = fits(size, memory) and (size <= _SMALL or _is_here(remote))
    rows: Inputs = _whole(remote) if is_quick else remote
    ends = [*itertools.accumulate(counts.values())]
    inputs = {split: subset(rows, slice(end - counts[split], end)) for split, end in zip(counts, ends, strict=True)}
    parts = {split: Part(inputs[split], **one) for split, one in known.items()}
    found = Found(
        name=index.spec.name,
        parts=parts,
        classes=index.spec.task.outputs,
        input=index.spec.input,
        notes=index.notes,
        batch_size=index.batch_size,
        task=cast(TaskName, index.spec.task.name),
        listing=index.spec.listing,
        attributes=index.attributes,
        model=index.model,
        fingerprint=index.spec.fingerprint,
        learned=index.learned,
    )
    return found, index


def find_index(store: Store) -> Index:
    """Read the index of a place. Raises `DataError` if there is none, or it is damaged."""
    index = fetch_checked(store, NAME, MAX_INDEX, _checked)
    if index is None:
        raise DataError(f"There is no {store.place.named(NAME)}.", "Give the URL or folder that `epochal pack DATA --to URL` wrote.")
    try:
        return read_index(index)
    except ValueError as error:
        raise DataError(f"{store.place.named(NAME)} cannot be used: {error}.", "Pack the data again, to another place.") from error


def _checked(content: bytes) -> dict[str, Any]:
    """Return the value of an index that arrived whole."""
    value = parse_json(content)
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return verify_checksum(value)


def _examples(store: Store, file: File, cache: Cache) -> bytes:
    """Return the content of the file of examples, which is kept in the cache."""
    kept = cache.folder / f"{file.sha256[:32]}.found"
    with suppress(OSError):
        content = kept.read_bytes()[_HASH:]
        if hashlib.sha256(content).hexdigest() == file.sha256:
            kept.touch()
            return content
    content = fetch_file(store, file.name, file.size, file.sha256)
    if cache.limit:
        # Without room, it is fetched again next time.
        with suppress(OSError):
            cache.write(kept, content)
    return content


def _is_here(rows: RemoteRows) -> bool:
    """Whether all rows are in the cache."""
    return not len(rows.blocks.missing(torch.arange(rows.index.blocks).numpy()))


def _whole(rows: RemoteRows) -> Tensor:
    """Fetch all rows into memory."""
    whole = torch.empty((len(rows), *rows.index.shape), dtype=getattr(torch, rows.index.dtype))
    with progress(f"Fetching {rows.index.spec.name}", whole.nbytes, unit="bytes") as advance:
        for some in torch.arange(len(rows)).split(max(1, _AT_ONCE // rows.index.row_bytes)):
            whole[some] = rows[some]
            advance(len(some) * rows.index.row_bytes)
    return whole
