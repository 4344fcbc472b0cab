"""Examples in memory or read one by one, and the results of sources."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from epochal.data.attributes import NO_ATTRIBUTES, Attributes
from epochal.data.inputs.base import InputRule
from epochal.data.inputs.values import Inputs, in_memory, subset
from epochal.data.spec import NO_LISTING, Listing
from epochal.shown import Rows, Shown
from epochal.tasks.base import TaskName
from epochal.tasks.words import Words


@dataclass(frozen=True, repr=False)
class Examples(Shown):
    """The examples of one split.

    `inputs` is [n, *shape] of the rule's dtype: a tensor if they are in memory. `targets` is int64 [n] for one label, float32
    [n, labels] of 0 and 1 for several, and [n, outputs] for quantities: float32, or float64 if float32 would round them. `part` and
    `positions` (int64 [n]) are the split and the indices of the examples in the source; `files`, the `hashes` of their content
    (16 bytes each), the `texts` that inputs were made from, the `groups` that stay in one split, and `attributes` (float32 [n, columns],
    see `Attributes`), if any, are indexed by position too.
    `varies` says that inputs change each time they are read.
    """

    inputs: Inputs
    targets: Tensor
    part: str
    positions: Tensor
    files: Sequence[str] | None = None
    hashes: NDArray[Any] | None = None
    varies: bool = False
    texts: Sequence[str] | None = None
    groups: Sequence[str] | None = None
    attributes: Tensor | None = None

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

    def text(self, index: int) -> str:
        """Return the text of an example; "" if it is no text, or was not kept."""
        return "" if self.texts is None else self.texts[int(self.positions[index])]

    def group_names(self) -> Words | None:
        """Return the name of each example's group; `None` if there are no groups."""
        return None if self.groups is None else Words.of(self.groups).take(self.positions.numpy())

    def where(self, index: int) -> str:
        """Return the name of an example for messages and figures: its file, or its index in the source."""
        position = int(self.positions[index])
        return self.files[position] if self.files is not None else address(self.part, position)


class Correction(NamedTuple):
    """What a user says of the example of that name: its right `label` in place of the `given` one, or `None` to leave it out.

    Of several labels, or quantities, `target` names the one that is meant: 0 or 1, or a number, is right in place of another.
    """

    example: str
    given: str
    label: str | None
    target: str = ""


def places_key(examples: Examples) -> str:
    """Return what identifies which examples of the data are in a split: a SHA-256 of their places in the source."""
    return hashlib.sha256(examples.part.encode() + examples.positions.numpy().astype("<i8").tobytes()).hexdigest()


def group_numbers(*parts: Examples) -> Tensor | None:
    """Return the number of each example's group, from 0, through all parts: int64 [n]; `None` if a part has no groups."""
    numbers: dict[str, int] = {}
    found = [part.group_names() for part in parts]
    named = [names for names in found if names is not None]
    if len(named) < len(found):
        return None
    return torch.tensor([numbers.setdefault(name, len(numbers)) for names in named for name in names])


def address(part: str, position: int) -> str:
    """Return the name of an example without a file."""
    return f"{part}[{position}]"


@dataclass(frozen=True)
class Part:
    """One split as a source found it: inputs [n, ...] and raw targets [n, ...], not yet checked or encoded.

    `digest` is a hash of what the inputs were made from, if the source has one; otherwise the inputs themselves are hashed.
    `hashes` are those of the files' content, 16 bytes each. `positions` (int64 [n]) are the indices in the source, if some examples
    were left out. `varies` says that inputs change each time they are read. `texts` are what inputs were made from, by position,
    `groups` the names of what stays in one split, and `attributes` what else is known of each (float32 [n, columns]).
    """

    inputs: Inputs
    targets: Tensor | Sequence[str]
    files: Sequence[str] | None = None
    digest: bytes | None = None
    hashes: NDArray[Any] | None = None
    positions: Tensor | None = None
    varies: bool = False
    texts: Sequence[str] | None = None
    groups: Sequence[str] | None = None
    attributes: Tensor | None = None

    def examples(self, inputs: Inputs, targets: Tensor, part: str) -> Examples:
        """Return the same as examples of `part`, whose inputs and encoded targets were checked."""
        positions = torch.arange(len(inputs)) if self.positions is None else self.positions
        known = (self.files, self.hashes, self.varies, self.texts, self.groups, self.attributes)
        return Examples(inputs, targets, part, positions, *known)

    def position(self, index: int) -> int:
        """Return the index of an example in the source."""
        return index if self.positions is None else int(self.positions[index])

    def where(self, part: str, index: int) -> str:
        """Return the name of an example of `part` for error messages: its file, or its index in the source."""
        return self.files[self.position(index)] if self.files is not None else address(part, self.position(index))

    def without(self, names: Container[str], part: str) -> Part:
        """Return the examples of `part` without those in `names`."""
        kept = [index for index in range(len(self.inputs)) if self.where(part, index) not in names]
        index = torch.tensor(kept, dtype=torch.long)
        targets = self.targets[index] if isinstance(self.targets, Tensor) else Words.of(self.targets).take(index.numpy())
        digest = None if self.digest is None else hashlib.sha256(self.digest + index.numpy().tobytes()).digest()
        inputs = subset(self.inputs, index)
        return replace(self, inputs=inputs, targets=targets, digest=digest, positions=index)


@dataclass(frozen=True)
class Found:
    """The result of a source: its splits ("train" always, "valid" and "test" if it has them).

    `classes` are the class names if the source knows them; targets are then numbers from 0. `input` is the rule by which
    files were read. `notes` are choices that the user should know about. `task` is what targets mean, where the source knows. `listing`
    says which columns of a table were used, `attributes` which others are known, and `model` which pre-trained model pictures were read
    for. Of packed data, `fingerprint` is known, and `learned` has rules with the statistics of training parts (see `places_key`).
    """

    name: str
    parts: Mapping[str, Part]
    classes: tuple[str, ...] | None = None
    input: InputRule | None = None
    notes: tuple[str, ...] = ()
    batch_size: int | None = field(default=None, kw_only=True)
    task: TaskName | None = field(default=None, kw_only=True)
    listing: Listing = field(default=NO_LISTING, kw_only=True)
    attributes: Attributes = field(default=NO_ATTRIBUTES, kw_only=True)
    model: str | None = field(default=None, kw_only=True)
    fingerprint: str | None = field(default=None, kw_only=True)
    learned: Mapping[str, InputRule] = field(default_factory=dict, kw_only=True)

    def changed(self, parts: Mapping[str, Part]) -> Found:
        """Return the same with other parts, of which no fingerprint is known."""
        return replace(self, parts=parts, fingerprint=None)
