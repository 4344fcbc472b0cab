"""Batches on the device, in an order that is a function of the seed and the epoch.

Examples that fit in memory are kept on the device and gathered by index, a whole batch at a time, without a DataLoader. Those
in a file are gathered from it in the same way, one batch ahead. Those that can only be read one by one, or that change
each time they are read, come through PyTorch's DataLoader behind the same interface.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from epochal.data.examples import Examples
from epochal.data.inputs.base import Augment
from epochal.data.inputs.values import Inputs, access, ahead, in_memory
from epochal.data.mixing import Mixing
from epochal.data.order import Order
from epochal.data.slices import Slice, Slices
from epochal.random import key, seeded

# Inputs of as many batches as fit in this are gathered together, to be found in the processor's cache.
_GATHERED_BYTES = 1 << 20


class Batch(NamedTuple):
    """A few examples on the device: inputs [batch, *shape], targets [batch, ...], and their places (int64 [batch]) in the split.

    `whole` is the number of examples in the whole batch. Where several processes train, or a batch has parts, these are the examples of the
    `slices`, one after another.
    """

    inputs: Tensor
    targets: Tensor
    places: Tensor
    whole: int
    slices: tuple[Slice, ...]

    def split(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield inputs, targets and places of each slice."""
        rows = [one.rows for one in self.slices]
        for inputs, targets, places, own in zip(
            self.inputs.split(rows), self.targets.split(rows), self.places.split(rows), self.slices, strict=True
        ):
            yield inputs, targets, places if own.counts else places[:0]


class Rows(NamedTuple):
    """The number of examples in a whole batch, and which of them are read."""

    whole: int
    slices: tuple[Slice, ...]


class Feed(Protocol):
    """The source of batches for training and inference."""

    examples: Examples

    def __len__(self) -> int:
        """Return the number of batches in an epoch; the last one may be smaller."""
        ...

    def epoch(self, number: int, start: int = 0, step: int = 1) -> Iterator[Batch]:
        """Yield the batches of an epoch, from batch `start` on, or each so many-th of these."""
        ...


def feed(
    examples: Examples,
    batch_size: int,
    device: torch.device,
    *,
    shuffle_seed: int | None = None,
    augment: Augment | None = None,
    mixing: Mixing | None = None,
    workers: int = 0,
    balanced: bool = False,
    slices: Slices = Slices(),  # noqa: B008  it is frozen
) -> Feed:
    """Return a feed of `examples`, shuffled in each epoch if there is a `shuffle_seed`, otherwise in their own order.

    If `balanced`, an epoch has equally many examples of each class (see `Order`). `augment` changes single examples; then `mixing`
    mixes each with the next one. Of each batch it has the examples of `slices`.
    """
    order = Order(len(examples), batch_size, shuffle_seed, examples.targets if balanced else None)
    changes = _Changes(order, augment, mixing, slices)
    match access(examples.inputs):
        case "memory":
            return _ResidentFeed(examples, order, device, changes)
        case "file":
            return _StoredFeed(examples, order, device, changes)
        case "items":
            return _StreamedFeed(examples, order, device, changes, workers)


def by_length(
    examples: Examples, lengths: Tensor | None, batch_size: int, device: torch.device, augment: Augment | None = None
) -> tuple[Feed, Tensor]:
    """Return a feed for inference, and which example comes when (int64 [n]).

    Padded inputs, which have `lengths` (see `InputRule`), come from the longest to the shortest, in batches without the padding that all
    of them have. Others come in their own order.
    """
    if lengths is None:
        return feed(examples, batch_size, device, augment=augment), torch.arange(len(examples))
    order = lengths.argsort(descending=True, stable=True)
    longest = [max(1, int(some.max())) for some in lengths[order].split(batch_size)]
    return _Trimmed(feed(examples.take(order), batch_size, device, augment=augment), longest), order


class _Changes:
    """Which examples of each batch are read, and their random changes between reading and training."""

    def __init__(self, order: Order, augment: Augment | None, mixing: Mixing | None, slices: Slices) -> None:
        self.order = order
        self.augment = augment
        self.mixing = mixing
        self.slices = slices
        self.following = 0 if mixing is None else 1
        self._rows: dict[int, Rows] = {}

    def batches(self, epoch: int, start: int, step: int) -> list[tuple[Tensor, Rows]]:
        """Return for each `step`-th batch of an epoch, from batch `start` on, the numbers of the examples to read, and which rows they
        are."""
        return [self._own(batch) for batch in self.order.batches(epoch, self.following)[start::step]]

    def _own(self, numbers: Tensor) -> tuple[Tensor, Rows]:
        count = len(numbers) - self.following
        # Batches are of one size, or two.
        rows = self._rows.get(count) or self._rows.setdefault(count, Rows(count, self.slices.of(count)))
        if self.slices.size == 1:
            return numbers, rows
        # Of several slices each comes with the examples that follow it.
        return torch.cat([numbers[one.begin : one.end + self.following] for one in rows.slices]), rows

    def __call__(self, inputs: Tensor, targets: Tensor, numbers: Tensor, epoch: int, rows: Rows) -> Batch:
        """Return a batch of the inputs and targets of these `numbers` of an order, all on the device."""
        if self.augment is not None:
            inputs = self.augment(inputs, numbers, epoch)
        if self.mixing is not None:
            inputs, targets, numbers = self._mixed(self.mixing, inputs, targets, numbers, epoch, rows)
        return Batch(inputs, targets, self.order.places(numbers), *rows)

    def _mixed(
        self, mixing: Mixing, inputs: Tensor, targets: Tensor, numbers: Tensor, epoch: int, rows: Rows
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mix each example with the one that follows it, which was read for that."""
        runs = [rows.whole + 1] if self.slices.size == 1 else [one.rows + 1 for one in rows.slices]
        mixed = [
            (*mixing(some, wanted, own, epoch), own[:-1])
            for some, wanted, own in zip(inputs.split(runs), targets.split(runs), numbers.split(runs), strict=True)
        ]
        return mixed[0] if len(mixed) == 1 else tuple(map(torch.cat, zip(*mixed, strict=True)))  # type: ignore[return-value]


def targets_on(device: torch.device, targets: Tensor) -> Tensor:
    """Return targets on a device; MPS has no float64, so models with float64 outputs are refused there."""
    return (targets.float() if device.type == "mps" and targets.dtype == torch.float64 else targets).to(device)


class _ResidentFeed:
    def __init__(self, examples: Examples, order: Order, device: torch.device, changes: _Changes) -> None:
        inputs = in_memory(examples.inputs)
        assert inputs is not None
        self.examples = examples
        self.inputs = inputs.to(device)
        self.targets = targets_on(device, examples.targets)
        self.order = order
        self.changes = changes

    def __len__(self) -> int:
        return len(self.order)

    def epoch(self, number: int, start: int = 0, step: int = 1) -> Iterator[Batch]:
        batches = self.changes.batches(number, start, step)
        # A gather per batch would cost a small network's step more in calls than in copying.
        together = max(1, _GATHERED_BYTES // (self.inputs[:1].nbytes * self.order.batch_size or 1))
        for first in range(0, len(batches), together):
            block, rows = zip(*batches[first : first + together], strict=True)
            numbers = torch.cat(block).to(self.inputs.device)
            places = self.order.places(numbers)
            inputs, targets = self.inputs.index_select(0, places), self.targets.index_select(0, places)
            sizes = [len(batch) for batch in block]
            for some, wanted, own, which in zip(inputs.split(sizes), targets.split(sizes), numbers.split(sizes), rows, strict=True):
                # A network may change its inputs in place: for autograd, these are tensors of their own.
                yield self.changes(some.detach(), wanted.detach(), own, number, which)


class _StoredFeed:
    def __init__(self, examples: Examples, order: Order, device: torch.device, changes: _Changes) -> None:
        self.examples = examples
        self.targets = targets_on(device, examples.targets)
        self.order = order
        self.device = device
        self.changes = changes

    def __len__(self) -> int:
        return len(self.order)

    def epoch(self, number: int, start: int = 0, step: int = 1) -> Iterator[Batch]:
        batches = self.changes.batches(number, start, step)
        # While a batch is used, a thread reads the next from disk; over a network, several of them.
        count = ahead(self.examples.inputs)
        with ThreadPoolExecutor(count) as reader:
            coming = deque(reader.submit(self._read, batch) for batch, _ in batches[:count])
            for place, (batch, rows) in enumerate(batches, count):
                inputs = coming.popleft().result()
                coming.extend(reader.submit(self._read, following) for following, _ in batches[place : place + 1])
                numbers = batch.to(self.device)
                inputs = inputs.to(self.device, non_blocking=True)
                yield self.changes(inputs, self.targets.index_select(0, self.order.places(numbers)), numbers, number, rows)

    def _read(self, numbers: Tensor) -> Tensor:
        inputs = self.examples.inputs[self.order.places(numbers)]
        return inputs.pin_memory() if self.device.type == "cuda" else inputs


class _StreamedFeed:
    def __init__(self, examples: Examples, order: Order, device: torch.device, changes: _Changes, workers: int) -> None:
        self.examples = examples
        self.order = order
        self.device = device
        self.changes = changes
        self.workers = workers

    def __len__(self) -> int:
        return len(self.order)

    def epoch(self, number: int, start: int = 0, step: int = 1) -> Iterator[Batch]:
        batches = self.changes.batches(number, start, step)
        seeded = _Seeded(self.examples.inputs, self.order, key(self.order.seed or 0, number, "read"))
        # DataLoader draws a seed for its workers: from this generator, so that the global one does not change.
        loader = DataLoader(
            seeded,
            batch_sampler=[batch.tolist() for batch, _ in batches],
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),
        )
        for (numbers, rows), inputs in zip(batches, loader, strict=True):
            inputs = inputs.to(self.device, non_blocking=True)
            targets = targets_on(self.device, self.examples.targets[self.order.places(numbers)])
            yield self.changes(inputs, targets, numbers.to(self.device), number, rows)


class _Seeded(Dataset[Tensor]):
    """Inputs whose own random changes become a function of (seed, epoch, number), whichever worker reads them."""

    def __init__(self, inputs: Inputs, order: Order, stream: int) -> None:
        self.inputs = inputs
        self.count = order.count
        self.stream = stream

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, number: int) -> Tensor:
        with seeded(key(self.stream, number)):
            return self.inputs[torch.tensor([number % self.count])][0]


class _Trimmed:
    """Batches of another feed, each up to so many values along the last axis."""

    def __init__(self, batches: Feed, longest: Sequence[int]) -> None:
        self.examples = batches.examples
        self.batches = batches
        self.longest = longest

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, number: int, start: int = 0, step: int = 1) -> Iterator[Batch]:
        for batch, longest in zip(self.batches.epoch(number, start, step), self.longest[start::step], strict=True):
            yield batch._replace(inputs=batch.inputs[..., :longest])
