"""What packed data are: the files of a place, and what is in them.

    epochal-index.json            the description, with its SHA-256: rule, task, names, counts, and each shard's rows, bytes and SHA-256
    examples-HASH.safetensors     targets, and names, groups, ... of all examples; the SHA-256 of each block of rows
    shard-00000-HASH.bin, ...     inputs [rows, *shape] as they are in memory, one after another

The hash in a name is the beginning of the SHA-256. Rows are those of train, valid and test in this order, each split in the order of its
source. Nothing in an index is believed: all sizes follow from a few numbers, and are compared.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from math import prod
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from epochal.data.attributes import Attributes
from epochal.data.examples import Examples
from epochal.data.spec import SPLITS, AnyRule, DataSpec
from epochal.errors import DataError
from epochal.io.safe_read import MAX_AXES
from epochal.shown import counted
from epochal.tasks.words import Words

NAME = "epochal-index.json"

# The most bytes of an index, of a file of examples, and of a block of rows that has more than one; the most shards and examples.
MAX_INDEX = 64_000_000
MAX_EXAMPLES = 1 << 33
MAX_BLOCK = 1 << 22
MAX_SHARD = 1 << 30
_MAX_ROWS = 1 << 40

_SHARD = re.compile(r"shard-\d{5,7}-[0-9a-f]{16}\.bin")
_EXAMPLES = re.compile(r"examples-[0-9a-f]{16}\.safetensors")

# What examples may have in words.
_WORDS = ("files", "texts", "groups")

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Dtype = Literal["uint8", "int16", "int32", "int64", "float32", "float64"]


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class File(_Stored):
    """A file: its name, its bytes and their SHA-256."""

    name: str
    size: PositiveInt
    sha256: Digest


class Shard(File):
    """A file of rows: those from `begin` to `end`."""

    begin: NonNegativeInt
    end: PositiveInt


class Index(_Stored):
    """The description of packed data; `load` makes of it what it made of the data themselves.

    `spec` has their rule, as it is before statistics are measured, and `learned` the rule with those of training parts, by `places_key`.
    Blocks have `block_rows` rows each, and shards `shard_blocks` blocks each; the last ones may have less.
    """

    format: Literal["epochal packed data, version 1"] = "epochal packed data, version 1"
    spec: DataSpec
    learned: dict[Digest, AnyRule] = Field(default_factory=dict, max_length=16)
    notes: tuple[str, ...] = ()
    batch_size: PositiveInt | None = None
    model: str | None = None
    attributes: Attributes = Attributes()
    shape: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=MAX_AXES)]
    dtype: Dtype
    block_rows: PositiveInt
    shard_blocks: PositiveInt
    examples: File
    shards: tuple[Shard, ...]

    @property
    def rows(self) -> int:
        """How many examples all splits have."""
        return sum(self.spec.counts.values())

    @property
    def row_bytes(self) -> int:
        """How many bytes an input takes."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return -(-self.rows // self.block_rows)

    @model_validator(mode="after")
    def _check(self) -> Self:
        counts = self.spec.counts
        if not set(counts) <= set(SPLITS) or not counts.get("train") or not all(counts.values()) or self.rows > _MAX_ROWS:
            raise ValueError("its counts are impossible")
        if self.shape != self.spec.shape or self.dtype != self.spec.dtype:
            raise ValueError("its shape is not that of its rule")
        if self.block_rows > 1 and self.block_rows * self.row_bytes > MAX_BLOCK:
            raise ValueError("its blocks are too large")
        if not _EXAMPLES.fullmatch(self.examples.name) or self.examples.size > MAX_EXAMPLES:
            raise ValueError("its file of examples has an impossible name or size")
        step = self.block_rows * self.shard_blocks
        if self.shard_blocks > 1 and step * self.row_bytes > MAX_SHARD:
            raise ValueError("its shards are too large")
        if len(self.shards) != -(-self.rows // step):
            raise ValueError(f"it has {counted(len(self.shards), 'shard')} for {counted(self.rows, 'example')}")
        for place, shard in enumerate(self.shards):
            begin, end = place * step, min((place + 1) * step, self.rows)
            if (shard.begin, shard.end, shard.size) != (begin, end, (end - begin) * self.row_bytes) or not _SHARD.fullmatch(shard.name):
                raise ValueError(f"shard {place} does not follow from its numbers")
        return self


def shard_name(number: int, sha256: str) -> str:
    """Return the name of a shard."""
    return f"shard-{number:05d}-{sha256[:16]}.bin"


def is_ours(name: str) -> bool:
    """Whether a file has the name of one of packed data."""
    return name == NAME or bool(_SHARD.fullmatch(name) or _EXAMPLES.fullmatch(name))


def read_index(value: Any) -> Index:
    """Return the index in the value of a JSON file. Raises `ValueError` with the reason why it is none."""
    try:
        return Index.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place + ': ' if place else ''}{first['msg']}") from error


def frozen_examples(parts: Mapping[str, Examples], digests: NDArray[np.uint8]) -> bytes:
    """Return the content of the file of examples, whose positions are their places: `digests` (uint8 [blocks, 32]) are those of blocks."""
    tensors = {"blocks": torch.from_numpy(digests)}
    for split, part in parts.items():
        tensors[f"{split}.targets"] = part.targets.contiguous()
        if part.hashes is not None:
            tensors[f"{split}.hashes"] = torch.from_numpy(np.ascontiguousarray(part.hashes).view(np.uint8).reshape(len(part), -1).copy())
        if part.attributes is not None:
            tensors[f"{split}.attributes"] = part.attributes.contiguous()
        for name in _WORDS:
            words = getattr(part, name)
            if words is not None:
                _freeze_words(Words.of(words), f"{split}.{name}", tensors)
    return save_tensors(tensors)


def thawed_examples(content: bytes, index: Index, where: str) -> tuple[dict[str, dict[str, Any]], NDArray[np.uint8]]:
    """Return what a `Part` of each split has beside inputs, and the SHA-256 of blocks. Raises `DataError` if something does not fit."""
    try:
        tensors = load_tensors(content)
        blocks = _expect(tensors, "blocks", torch.uint8, (index.blocks, 32))
        parts = {split: _thawed_part(tensors, split, count, index) for split, count in index.spec.counts.items()}
        if tensors:
            raise ValueError(f"it has {next(iter(tensors))}")
    except (ValueError, KeyError, IndexError, SafetensorError) as error:
        raise DataError(f"{where} is not what its index says: {error}.", "Pack the data again, to another place.") from error
    return parts, blocks.numpy()


def _thawed_part(tensors: dict[str, Tensor], split: str, count: int, index: Index) -> dict[str, Any]:
    """Take what a split has out of `tensors`."""
    targets = tensors.pop(f"{split}.targets")
    if targets.dtype not in (torch.int64, torch.float32, torch.float64) or targets.ndim not in (1, 2) or len(targets) != count:
        raise ValueError(f"the targets of {split} are of the wrong form")
    hashes = _maybe(tensors, f"{split}.hashes", torch.uint8, (count, 16))
    return {
        "targets": targets,
        "digest": hashlib.sha256(f"{index.spec.fingerprint} {split}".encode()).digest(),
        "hashes": None if hashes is None else hashes.numpy().view("V16")[:, 0],
        "attributes": _maybe(tensors, f"{split}.attributes", torch.float32, (count, len(index.attributes.columns))),
        **{name: _thawed_words(tensors, f"{split}.{name}", count) for name in _WORDS},
    }


def _expect(tensors: dict[str, Tensor], name: str, dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
    found = tensors.pop(name)
    if found.dtype != dtype or found.shape != tuple(shape):
        raise ValueError(f"{name} is {found.dtype} of shape {tuple(found.shape)}, not {tuple(shape)}")
    return found


def _maybe(tensors: dict[str, Tensor], name: str, dtype: torch.dtype, shape: Sequence[int]) -> Tensor | None:
    return _expect(tensors, name, dtype, shape) if name in tensors else None


def _freeze_words(words: Words, name: str, tensors: dict[str, Tensor]) -> None:
    """Add words to `tensors`: the bytes of all, where each ends, and which each example has."""
    encoded = [word.encode("utf-8", "surrogateescape") for word in words.words]
    tensors[f"{name}.bytes"] = torch.frombuffer(bytearray(b"".join(encoded) or b"\0"), dtype=torch.uint8)
    tensors[f"{name}.ends"] = torch.tensor([len(word) for word in encoded], dtype=torch.int64).cumsum(0)
    tensors[f"{name}.codes"] = torch.from_numpy(words.codes.astype(np.int32))


def _thawed_words(tensors: dict[str, Tensor], name: str, count: int) -> Words | None:
    if f"{name}.codes" not in tensors:
        return None
    codes = _expect(tensors, f"{name}.codes", torch.int32, (count,)).numpy()
    ends, content = tensors.pop(f"{name}.ends"), tensors.pop(f"{name}.bytes")
    begins = [0, *ends.flatten().tolist()]
    if ends.dtype != torch.int64 or content.dtype != torch.uint8 or any(a > b for a, b in itertools.pairwise(begins)):
        raise ValueError(f"{name} is of the wrong form")
    if begins[-1] > len(content) or codes.min() < 0 or codes.max() >= len(ends):
        raise ValueError(f"{name} has other words")
    whole = content.numpy().tobytes()
    return Words([whole[a:b].decode("utf-8", "surrogateescape") for a, b in itertools.pairwise(begins)], codes)
