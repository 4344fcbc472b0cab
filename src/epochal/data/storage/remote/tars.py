"""Tars of examples (WebDataset's layout), indexed once: which examples are in each, where, and with which checksum.

    000017.jpg  000017.cls  000018.jpg  000018.cls  ...

Files that follow each other and have the same name up to its first dot are one example; the rest of the name says which part of it they
are (github.com/webdataset/webdataset, "The WebDataset Format"). The index of a tar is kept in the cache for as long as the place says that
the tar is the same; and what is read by it is compared with its checksum.
"""

from __future__ import annotations

import json
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from epochal.data.inputs.picture.decoding import raise_all
from epochal.data.inputs.picture.read import MAX_BYTES, SUFFIXES, Measured, measure_content, open_picture, to_tensor
from epochal.data.inputs.picture.rule import PictureRule
from epochal.data.inputs.values import Access
from epochal.data.storage.archives import Member, tar_members
from epochal.data.storage.cache import Cache, content_hash
from epochal.data.storage.remote.place import Store
from epochal.data.storage.remote.transfer import fetch, state_of
from epochal.errors import DataError, DownloadError
from epochal.io.safe_read import Stream, parse_json, text_of
from epochal.progress import progress

# What says which class an example is of: the first of these that it has.
LABELS = ("cls", "txt", "json")

# The names under which a JSON object has the label.
_NAMES = ("label", "cls", "class")

# The most bytes of a label's file.
_MAX_LABEL = 1 << 20

# A tar is read in pieces of so many bytes, some of them ahead, and so many tars at a time.
_PIECE = 1 << 22
_AHEAD = 2
_TARS = 4

# So many pictures are read at a time, and put where they are kept.
_READERS = 32
_BLOCK = 256

_FORM = b"epochal tar index, version 1"


class Example(NamedTuple):
    """A picture in a tar: its name there, where it is, its CRC-32, the hash of its content, what its header says, and its label.

    `measured` is none where it cannot be read.
    """

    file: str
    begin: int
    size: int
    crc: int
    hash: str
    measured: Measured | None
    label: str


def index_all(store: Store, names: Sequence[str], cache: Cache) -> list[list[Example]]:
    """Return what is in each tar, from the cache or by reading it. Raises `DataError` naming the tar and the file that breaks a rule."""
    with ThreadPoolExecutor(_TARS) as pool, progress("Indexing", len(names)) as advance:
        found = []
        for one in pool.map(lambda name: _indexed(store, name, cache), names):
            found.append(one)
            advance(1)
    return found


def key_and_kind(file: str) -> tuple[str, str]:
    """Return the example that a file in a tar belongs to, and in lower case what follows the first dot of its name."""
    folder, slash, base = file.rpartition("/")
    stem, _, kind = base.partition(".")
    return folder + slash + stem, kind.lower()


def _indexed(store: Store, name: str, cache: Cache) -> list[Example]:
    size, state = state_of(store, name)
    kept = cache.folder / f"{content_hash(_FORM, store.place.named(name).encode(), repr((size, state)).encode()).hex()}.found"
    with suppress(OSError, ValueError):
        content = kept.read_bytes()
        if content[:16] == content_hash(content[16:]):
            kept.touch()
            rows = json.loads(content[16:])
            return [Example._make((*known, measured and Measured(*measured), label)) for *known, measured, label in rows]
    where = store.place.named(name)
    try:
        found = list(_examples(_Tar(store, name, size), where))
    except ValueError as error:
        raise DataError(f"{where} cannot be read: {error}.", "Write it again.") from error
    if cache.limit:
        # Without room, it is made again next time.
        with suppress(OSError):
            cache.write(kept, json.dumps(found).encode())
    return found


def _examples(tar: _Tar, where: str) -> Iterator[Example]:
    """Yield the examples of a tar, by reading all of it."""
    parts: dict[str, tuple[Member, int, bytes]] = {}
    current, seen = "", set[str]()
    for member in tar_members(tar):
        if member.kind == "folder" or member.name.rpartition("/")[2].startswith("."):
            continue
        key, extension = key_and_kind(member.name)
        if member.kind != "file" or (extension not in LABELS and f".{extension}" not in SUFFIXES):
            raise DataError(
                f"{where}: the file {member.name} is of an unknown kind: '{extension or member.kind}'.",
                f"An example has a picture ({', '.join(one[1:] for one in SUFFIXES)}) and its class ({', '.join(LABELS)}).",
            )
        if member.size > (_MAX_LABEL if extension in LABELS else MAX_BYTES):
            raise DataError(f"{where}: the file {member.name} has {member.size:,} bytes.", "Write it smaller.")
        if key != current:
            if parts:
                yield _example(parts, current, where)
            if key in seen:
                raise DataError(
                    f"{where}: the example {key} comes twice.", "Give each example of a tar its own name, and write its files together."
                )
            current, parts = key, {}
            seen.add(key)
        part = extension if extension in LABELS else "picture"
        if part in parts:
            raise DataError(f"{where}: the example {key} has both {parts[part][0].name} and {member.name}.", "Write one of them.")
        begin = tar.position
        parts[part] = (member, begin, tar.take(member.size))
    if parts:
        yield _example(parts, current, where)


def _example(parts: dict[str, tuple[Member, int, bytes]], key: str, where: str) -> Example:
    if "picture" not in parts:
        raise DataError(f"{where}: the example {key} has no picture.", f"Write {key}.jpg or {key}.png beside it.")
    member, begin, content = parts["picture"]
    label = next((name for name in LABELS if name in parts), None)
    if label is None:
        raise DataError(f"{where}: the example {member.name} has no label.", f"Write {key}.cls, .txt or .json beside it.")
    measured = None
    with suppress(DataError):  # Where it is decoded, all that cannot be read are reported together.
        measured = measure_content(content, member.name)
    words = _label(parts[label][2], label, f"{where}: {parts[label][0].name}")
    return Example(member.name, begin, member.size, zlib.crc32(content), content_hash(content).hex(), measured, words)


def _label(content: bytes, kind: str, where: str) -> str:
    try:
        value: Any = parse_json(content) if kind == "json" else text_of(content).strip()
    except ValueError as error:
        raise DataError(f"{where} cannot be read: {error}.", "Write it again.") from error
    if isinstance(value, dict):
        value = next((value[name] for name in _NAMES if name in value), None)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise DataError(f"{where} has no label.", 'Write a word or a number; in JSON also as the "label" of an object.')
    return str(value)


class _Tar(Stream):
    """A tar from beginning to end, some pieces of which are asked for ahead."""

    def __init__(self, store: Store, name: str, size: int) -> None:
        super().__init__()
        self._pieces = self._coming(store, name, size)
        self._piece = memoryview(b"")

    def readinto(self, buffer: Any) -> int:
        """Read from the piece that is there."""
        if not self._piece:
            self._piece = memoryview(next(self._pieces, b""))
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._piece))
        view[:count], self._piece = self._piece[:count], self._piece[count:]
        self.position += count
        return count

    @staticmethod
    def _coming(store: Store, name: str, size: int) -> Iterator[bytes]:
        def piece(begin: int) -> bytes:
            return fetch(store, name, begin, min(begin + _PIECE, size), lambda _, content: len(content))

        with ThreadPoolExecutor(_AHEAD) as pool:
            waiting: deque[Future[bytes]] = deque()
            for begin in range(0, size, _PIECE):
                waiting.append(pool.submit(piece, begin))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


class TarPictures:
    """Pictures that are read from tars, many at a time, and decoded whenever they are needed."""

    access: Access = "file"
    ahead = 4

    def __init__(self, store: Store, examples: Sequence[tuple[str, Example]], rule: PictureRule) -> None:
        """`examples` are each with the name of its tar."""
        self.store = store
        self.examples = examples
        self.rule = rule

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: Tensor) -> Tensor:
        """Read the pictures at `index` (int64 [n]): uint8 [n, *shape]. Raises `DataError` naming the first that cannot be read."""
        with ThreadPoolExecutor(min(_READERS, len(index) or 1)) as pool:
            found = list(pool.map(self.read, index.tolist()))
        return torch.stack(found) if found else torch.empty((0, *self.rule.shape), dtype=torch.uint8)

    def read(self, place: int) -> Tensor:
        """Read one. Raises `DataError`, and `DownloadError` if its bytes are not those that were indexed."""
        tar, one = self.examples[place]

        def right(_: int, content: bytes) -> int:
            return one.size if len(content) == one.size and zlib.crc32(content) == one.crc else 0

        content = fetch(self.store, tar, one.begin, one.begin + one.size, right)
        return to_tensor(open_picture(content, f"{self.store.place.named(tar)}: {one.file}"), self.rule)

    def blocks(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield all pictures in blocks, each with the place of its first. Raises `UnreadableError` for all that cannot be read."""
        wrong: dict[int, DataError] = {}

        def read(place: int) -> Tensor:
            try:
                return self.read(place)
            except DownloadError:
                raise
            except DataError as error:
                wrong[place] = error
                return torch.zeros(self.rule.shape, dtype=torch.uint8)

        with ThreadPoolExecutor(_READERS) as pool, progress("Reading pictures", len(self)) as advance:
            for begin in range(0, len(self), _BLOCK):
                places = range(begin, min(begin + _BLOCK, len(self)))
                yield begin, torch.stack(list(pool.map(read, places))).numpy()
                advance(len(places))
        raise_all(wrong, names=[f"{tar}/{one.file}" for tar, one in self.examples])
