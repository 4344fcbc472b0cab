"""Examples in memory, or readable one by one; and what a source hands over."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from epochal.data.inputs.base import InputRule
from epochal.data.inputs.values import Inputs, in_memory, subset
from epochal.shown import Rows, Shown


@dataclass(frozen=True, repr=False)
class Examples(Shown):
    """The examples of one split.

    `inputs` is [n, *shape] of the rule's type: a tensor where they fit memory. `targets` is int64 [n] for one label, float32 [n, labels]
    of 0 and 1 for several, and [n, outputs] for quantities: float32, or float64 where that would round them. `part` and
    `positions` (int64 [n]) say where the examples stood
    in what the source brought; `files` and the `hashes` of their content (16 bytes each), where there are any, are indexed by
    position too. `varies` says that each reading of the same input gives another one.
    """

    inputs: Inputs
    targets: Tensor
    part: str
    positions: Tensor
    files: Sequence[str] | None = None
    hashes: NDArray[Any] | None = None
    varies: bool = False

    def __len__(self) -> int:
        return len(self.targets)

    def _title(self) -> str:
        return f"{len(self):,} from {self.part}"

    def _rows(self) -> Rows:
        tensors = {"inputs": in_memory(self.inputs), "targets": self.targets}
        return [
            (name, "read one by one" if values is None else f"{str(values.dtype).removeprefix('torch.')} {list(values.shape)}")
            for name, values in tensors.items()
        ]

    def take(self, index: Tensor) -> Examples:
        """Return the examples at `index` (int64), in that order."""
        return replace(self, inputs=subset(self.inputs, index), targets=self.targets[index], positions=self.positions[index])

    def input(self, index: int) -> Tensor:
        """Return one input, without a batch axis."""
        return self.inputs[torch.tensor([range(len(self))[index]])][0]

    def where(self, index: int) -> str:
        """Name one example for an error message or a figure: its file, or its place in the source."""
        position = int(self.positions[index])
        return self.files[position] if self.files is not None else address(self.part, position)


def address(part: str, position: int) -> str:
    """Name an example that has no file."""
    return f"{part}[{position}]"


@dataclass(frozen=True)
class Part:
    """One split as a source found it: inputs [n, ...] and raw targets [n, ...], not yet checked or encoded.

    `digest` is a hash of what the inputs were made from, where the source has one; otherwise they are hashed themselves.
    `hashes` are those of the files' content, 16 bytes each. `positions` (int64 [n]) say where the examples stood in what the
    source brought, where some were left out. `varies` says that each reading of the same input gives another one.
    """

    inputs: Inputs
    targets: Tensor | Sequence[str]
    files: Sequence[str] | None = None
    digest: bytes | None = None
    hashes: NDArray[Any] | None = None
    positions: Tensor | None = None
    varies: bool = False

    def position(self, index: int) -> int:
        """Where an example stood in what the source brought."""
        return index if self.positions is None else int(self.positions[index])

    def where(self, part: str, index: int) -> str:
        """Name an example of `part` for an error message: its file, or its place in the source."""
        return self.files[index] if self.files is not None else address(part, self.position(index))

    def without(self, names: Container[str], part: str) -> Part:
        """Return the examples of `part` that no name names."""
        kept = [index for index in range(len(self.inputs)) if address(part, index) not in names]
        index = torch.tensor(kept, dtype=torch.long)
        targets = self.targets[index] if isinstance(self.targets, Tensor) else [self.targets[place] for place in kept]
        digest = None if self.digest is None else hashlib.sha256(self.digest + index.numpy().tobytes()).digest()
        return Part(subset(self.inputs, index), targets, digest=digest, positions=index, varies=self.varies)


@dataclass(frozen=True)
class Found:
    """What a source found: the splits that it brings ("train" always, "valid" and "test" where there are any).

    `classes` are the class names where the source knows them; targets are then numbers from 0. `input` is the rule by which
    files were read. `notes` are choices that the user should hear about.
    """

    name: str
    parts: Mapping[str, Part]
    classes: tuple[str, ...] | None = None
    input: InputRule | None = None
    notes: tuple[str, ...] = ()
    batch_size: int | None = field(default=None, kw_only=True)
