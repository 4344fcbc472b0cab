"""From the pictures of a folder to inputs: from the cache or decoded, in memory or streamed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from mmap import mmap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from torch import Tensor

from epochal.data.inputs.picture.choose import choose_rule
from epochal.data.inputs.picture.decoding import UnlikeError, decode, decode_to, hash_files, measure, seconds_to_decode, shared_memory
from epochal.data.inputs.picture.read import GIANT, Measured, StreamedPictures
from epochal.data.inputs.picture.rule import PictureRule, ResizeMode
from epochal.data.inputs.values import Inputs
from epochal.data.storage.cache import Cache, DamagedError, Pack, checksums, content_hash, open_cache
from epochal.data.storage.fill import PackedInputs, fits
from epochal.errors import DataError, UnreadableError
from epochal.shown import counted

# If decoding takes less time, threads decode into memory, and a failure to write the cache is not worth a note.
SMALL_SECONDS = 0.5

# The number of training pictures measured to see whether all may be alike.
SAMPLE = 64


@dataclass(frozen=True)
class Wanted:
    """Picture files by `names`, relative to `root` or absolute, and how to turn them into inputs.

    The rule is chosen for the first `training` of them, with `size` and `fit` as in `choose_rule`, unless a `rule` is given.
    Inputs of more than `memory` bytes are streamed; by default, more than half of what is free.
    """

    root: Path
    names: Sequence[str]
    training: int
    rule: PictureRule | None = None
    size: int | tuple[int, int] | None = None
    fit: ResizeMode | None = None
    memory: float | None = None

    @cached_property
    def paths(self) -> list[str]:
        """The full paths."""
        return [os.path.join(self.root, name) for name in self.names]  # noqa: PTH118  a Path takes longer

    def fits(self, rule: PictureRule) -> bool:
        """Whether the inputs may be kept in memory."""
        return fits(self.bytes(rule), self.memory)

    def bytes(self, rule: PictureRule) -> int:
        """How many bytes the inputs take."""
        return len(self.names) * prod(rule.shape)


class Ingested(NamedTuple):
    """Inputs [n, channels, height, width], the rule by which they were read, and the hash of each file's content (16 bytes).

    `is_deep` says that some training pictures have 16 bits. `notes` are for the user.
    """

    inputs: Inputs
    rule: PictureRule
    hashes: NDArray[Any]
    is_deep: bool
    notes: tuple[str, ...]


class _Choice(NamedTuple):
    rule: PictureRule
    notes: tuple[str, ...] = ()
    is_deep: bool = False


class _Packed(NamedTuple):
    pack: Pack
    hashes: NDArray[Any]
    choice: _Choice
    memory: mmap | None = None  # the content of the pack, if it was just written and also kept in memory
    notes: tuple[str, ...] = ()


def ingest(wanted: Wanted) -> Ingested:
    """Read pictures from the cache, or decode and cache them. Raises `UnreadableError` naming the files that cannot be read."""
    try:
        return _ingest(wanted)
    except UnreadableError as error:
        error.names = tuple(wanted.names[place] for place in error.places)
        raise


def _ingest(wanted: Wanted) -> Ingested:
    cache, notes = open_cache(), list[str]()
    try:
        packed, choice = _find(wanted, cache, notes)
        if packed is None and seconds_to_decode(wanted.paths) < SMALL_SECONDS:
            choice = choice or _choose(wanted, _measured(wanted))
            if wanted.fits(choice.rule):
                return _few(wanted, cache, choice, notes)
        return _cached(wanted, cache, packed or _make(wanted, cache, choice), notes)
    except OSError as error:
        notes.append(_not_kept(error))
    return _uncached(wanted, _choose(wanted, _measured(wanted)), notes)


def _few(wanted: Wanted, cache: Cache, choice: _Choice, notes: list[str]) -> Ingested:
    """Decode pictures into memory, and cache them too: a few giant ones may be compressed so well that they seem small."""
    began = time.time_ns()
    inputs, known = decode(wanted.paths, choice.rule)
    took = (time.time_ns() - began) / 1e9
    pixels = inputs.numpy()
    try:
        with cache.draft(pixels.nbytes) as draft:
            draft.path.write_bytes(pixels.data)
            sums = checksums(pixels.data.cast("B"), prod(choice.rule.shape))
            draft.seal(_key(choice.rule, known), wanted.root.resolve().name, pixels.shape, sums)
        cache.remember(wanted.root, wanted.names, known, began)
    except OSError as error:
        if took >= SMALL_SECONDS:
            notes.append(_not_kept(error))
    return Ingested(inputs, choice.rule, known["hash"], choice.is_deep, (*notes, *choice.notes, *_giants(wanted, known)))


def _not_kept(error: OSError) -> str:
    return f"decoded pictures are not cached: {error.strerror}"


def _giants(wanted: Wanted, known: NDArray[Any]) -> Iterator[str]:
    """Yield a note on pictures that take seconds to read."""
    giants = np.flatnonzero(known["height"].astype(np.int64) * known["width"] >= GIANT)
    if len(giants):
        first = f"{wanted.names[giants[0]]} ({known['width'][giants[0]]:,}×{known['height'][giants[0]]:,})" + ", ..." * (len(giants) > 1)
        what = f"{counted(len(giants), 'picture')} {'has' if len(giants) == 1 else 'have'}"
        yield f"{what} more than {GIANT / 1e6:.0f} million pixels, which take seconds to read the first time: {first}"


def _measured(wanted: Wanted) -> list[Measured]:
    return [] if wanted.rule is not None else measure(wanted.paths[: wanted.training])


def _choose(wanted: Wanted, measured: Sequence[Measured]) -> _Choice:
    if wanted.rule is not None:
        return _Choice(wanted.rule)
    return _Choice(*choose_rule(measured, wanted.size, wanted.fit), any(picture.deep for picture in measured))


def _uncached(wanted: Wanted, choice: _Choice, notes: Sequence[str]) -> Ingested:
    if wanted.fits(choice.rule):
        inputs, known = decode(wanted.paths, choice.rule)
        return Ingested(inputs, choice.rule, known["hash"], choice.is_deep, (*notes, *choice.notes))
    note = f"{_beyond(wanted, choice.rule)}: they are decoded again in each epoch (see data.size)"
    hashes = hash_files(wanted.paths)
    return Ingested(StreamedPictures(wanted.paths, choice.rule), choice.rule, hashes, choice.is_deep, (*notes, *choice.notes, note))


def _beyond(wanted: Wanted, rule: PictureRule) -> str:
    return f"{len(wanted.names):,} pictures would take {wanted.bytes(rule) / 1e9:,.1f} GB of memory"


def _cached(wanted: Wanted, cache: Cache, packed: _Packed, notes: list[str]) -> Ingested:
    rule, chosen = packed.choice.rule, packed.choice.notes
    inputs: Inputs
    if wanted.fits(rule):
        try:
            inputs = _in_memory(packed)
        except DamagedError as error:
            notes.append(_decoded_again(error))
            packed = _make(wanted, cache, packed.choice)
            inputs = _in_memory(packed)
    else:
        inputs = PackedInputs(packed.pack)
        chosen = (*chosen, f"{_beyond(wanted, rule)}: they are streamed from the cache (see data.memory)")
    return Ingested(inputs, rule, packed.hashes, packed.choice.is_deep, (*notes, *chosen, *packed.notes))


def _in_memory(packed: _Packed) -> Tensor:
    if packed.memory is not None:
        return torch.frombuffer(packed.memory, dtype=torch.uint8).view(packed.pack.shape)
    inputs = torch.empty(packed.pack.shape, dtype=torch.uint8)
    packed.pack.read_all(inputs.numpy())
    return inputs


def _decoded_again(error: DamagedError) -> str:
    return f"{error.problem.rstrip('.')}; they were decoded again"


def _find(wanted: Wanted, cache: Cache, notes: list[str]) -> tuple[_Packed | None, _Choice | None]:
    """Find the pack of files that have not changed since they were read; and the rule for them, if they are known."""
    known = cache.recall(wanted.root, wanted.names)
    if known is None:
        return None, None
    choice = _choose(wanted, [Measured(*row) for row in known[: wanted.training][list(Measured._fields)].tolist()])
    try:
        pack = cache.find(_key(choice.rule, known), (len(known), *choice.rule.shape))
    except DamagedError as error:
        notes.append(_decoded_again(error))
        pack = None
    return None if pack is None else _Packed(pack, known["hash"], choice), choice


def _make(wanted: Wanted, cache: Cache, choice: _Choice | None) -> _Packed:
    """Decode all pictures into a pack. If a sample is of one size, the rule is chosen for that, and each file is read only once."""
    expected = None
    if choice is None:
        expected = _common(wanted) if wanted.rule is None else None
        choice = _choose(wanted, _measured(wanted) if expected is None else [expected])
    began = time.time_ns()
    try:
        pack, known, memory = _decode(wanted, cache, choice.rule, expected)
    except UnlikeError:
        choice = _choose(wanted, _measured(wanted))
        pack, known, memory = _decode(wanted, cache, choice.rule, None)
    cache.remember(wanted.root, wanted.names, known, began)
    return _Packed(pack, known["hash"], choice, memory, tuple(_giants(wanted, known)))


def _common(wanted: Wanted) -> Measured | None:
    """Return the size and colour of a sample of training pictures, if all of those are alike."""
    paths = wanted.paths[: wanted.training]
    try:
        sample = set(measure(paths[:: len(paths) // SAMPLE + 1]))
    except DataError:
        return None  # All unreadable files are reported together, once all are measured.
    return sample.pop() if len(sample) == 1 else None


def _decode(wanted: Wanted, cache: Cache, rule: PictureRule, expected: Measured | None) -> tuple[Pack, NDArray[Any], mmap | None]:
    shape = (len(wanted.names), *rule.shape)
    memory = shared_memory(wanted.bytes(rule)) if wanted.fits(rule) else None
    with cache.draft(wanted.bytes(rule)) as draft:
        known, checksums = decode_to(draft.path, wanted.paths, rule, expected, wanted.training, memory)
        return draft.seal(_key(rule, known), wanted.root.resolve().name, shape, checksums), known, memory


def _key(rule: PictureRule, known: NDArray[Any]) -> str:
    """Return the key of a pack: the content of the files, and how they were decoded."""
    return content_hash(rule.key, PIL.__version__.encode(), known["hash"].tobytes()).hex()
