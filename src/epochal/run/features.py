"""What the frozen part of a network makes of examples: computed once, and kept in the cache for every later run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from epochal.data.examples import Examples
from epochal.data.feed import by_length
from epochal.data.inputs.base import Augment
from epochal.data.inputs.values import Access, Inputs
from epochal.data.load import Data
from epochal.data.storage.cache import DamagedError, Pack, content_hash, open_cache
from epochal.data.storage.fill import NoRoomError, fits, write_pack
from epochal.device import choose, keep_memory
from epochal.models.build import eval_mode
from epochal.models.pretrained.head import AT_ONCE
from epochal.progress import Advance, progress
from epochal.recipe import Recipe

# Bytes of a piece: what is lost if the program is killed, and what is in memory at once where not all is.
PIECE = 1 << 24


class _Pieces:
    """Inputs in several packs, one after the other."""

    access: Access = "file"

    def __init__(self, packs: Sequence[Pack]) -> None:
        self.packs = packs
        self.ends = torch.tensor([len(pack) for pack in packs]).cumsum(0)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: Tensor) -> Tensor:
        """Read the inputs at `index` (int64 [n]): [n, *shape]."""
        which = torch.searchsorted(self.ends, index, right=True)
        found = torch.empty((len(index), *self.packs[0].shape[1:]))
        for number in which.unique().tolist():
            rows = (which == number).nonzero().flatten()
            pack = self.packs[number]
            found[rows] = torch.from_numpy(pack.read((index[rows] - (self.ends[number] - len(pack))).tolist()))
        return found


@dataclass(frozen=True)
class _Piece:
    """Examples `begin` to `end` of a split, in one of the ways in which they are changed: `augment` in epoch `copy`."""

    begin: int
    end: int
    copy: int
    key: str

    def __len__(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True)
class Trunk:
    """What is computed once: `layers` from raw inputs to features of `shape`, of `data`, as a `recipe` says."""

    layers: nn.Module
    shape: tuple[int, ...]
    data: Data
    recipe: Recipe

    def features(self, examples: Examples, augment: Augment | None = None, copies: int = 1) -> Inputs:
        """Return what `layers` make of examples: float32 [copies x n, *shape], each copy changed in its own way if there is `augment`.

        They are in memory, or, where they do not fit, in the cache. What has been computed there before is not computed again. Raises
        `NoRoomError` if neither has room.
        """
        bytes_each = 4 * int(np.prod(self.shape))
        rows = copies * len(examples)
        in_memory = fits(rows * bytes_each, self.recipe.data.memory)
        whole = torch.empty((rows, *self.shape)) if in_memory else None
        pieces = list(self._pieces(examples, max(AT_ONCE, PIECE // bytes_each), augment, copies))
        packs: list[Pack] = []
        place, title = 0, f"features of {examples.part} of {self.data.name}"
        batches = sum(-(-len(piece) // AT_ONCE) for piece in pieces)
        with progress("Features", batches) as advance:
            for piece in pieces:
                out = torch.empty((len(piece), *self.shape)) if whole is None else whole[place : place + len(piece)]
                if (pack := self._kept(piece, out if in_memory else None)) is None:
                    self._compute(examples, piece, augment, out, advance)
                    pack = self._keep(piece, out, title, in_memory=in_memory)
                else:
                    advance(-(-len(piece) // AT_ONCE))
                place += len(piece)
                if pack is not None and not in_memory:
                    packs.append(pack)
        return whole if whole is not None else _Pieces(packs)

    def _pieces(self, examples: Examples, size: int, augment: Augment | None, copies: int) -> Iterator[_Piece]:
        # What inputs are made of: the content of their files, or else all of the data.
        places = examples.positions.numpy()
        rule = self.data.input.model_dump_json().encode()
        how = f"{self.shape} {torch.__version__}".encode()
        weights = _hash(self.layers)
        ends = [*range(0, len(examples), size), len(examples)]
        for copy in range(copies):
            for begin, end in pairwise(ends):
                some = places[begin:end]
                content = (
                    (self.data.fingerprint + examples.part).encode() + some.tobytes()
                    if examples.hashes is None
                    else examples.hashes[some].tobytes()
                )
                changed = f"{self.recipe.augment} {self.recipe.seed} {copy} {begin}".encode() if augment is not None else b""
                yield _Piece(begin, end, copy, content_hash(content, rule, weights, how, changed).hex())

    def _kept(self, piece: _Piece, out: Tensor | None) -> Pack | None:
        """Return the pack of a piece, and read it into `out`; `None` if it has to be computed."""
        try:
            pack = open_cache().find(piece.key, (len(piece), *self.shape))
            if pack is not None and out is not None:
                pack.read_all(out.numpy())
        except DamagedError:
            return None  # It has been removed, or is replaced.
        return pack

    def _compute(self, examples: Examples, piece: _Piece, augment: Augment | None, out: Tensor, advance: Advance) -> None:
        keep_memory()
        device = choose(self.recipe.device)
        some = examples.take(torch.arange(piece.begin, piece.end))
        changed = None if augment is None else _Shifted(augment, piece.begin)
        batches, order = by_length(some, self.data.input.lengths(some.inputs), AT_ONCE, device, changed)
        with eval_mode(self.layers), torch.inference_mode():
            self.layers.to(device)
            for batch in batches.epoch(piece.copy):
                out[order[batch.places.cpu()]] = self.layers(batch.inputs).cpu()
                advance()

    def _keep(self, piece: _Piece, features: Tensor, title: str, *, in_memory: bool) -> Pack | None:
        try:
            return write_pack([(0, features.numpy())], tuple(features.shape), features.dtype, title, piece.key)
        except OSError as error:
            if in_memory:
                return None  # They are here for this run, and computed again for another.
            raise NoRoomError(
                f"The {title} do not fit in memory, and cannot be cached: {error.strerror}.",
                "Allow more memory (data.memory), or a larger cache (EPOCHAL_CACHE, EPOCHAL_CACHE_SIZE).",
            ) from error


class _Shifted:
    """Random changes of examples whose numbers begin at another one than 0."""

    def __init__(self, augment: Augment, begin: int) -> None:
        self.augment = augment
        self.begin = begin

    def __call__(self, inputs: Tensor, positions: Tensor, epoch: int, /) -> Tensor:
        return self.augment(inputs, positions + self.begin, epoch)


def _hash(module: nn.Module) -> bytes:
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.cpu().numpy()).data.cast("B"))
    return digest.digest()
