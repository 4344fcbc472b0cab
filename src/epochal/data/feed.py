"""Batches on the device, in an order that is a function of the seed and the epoch.

Examples that fit memory are kept on the device and gathered by index, a whole batch at a time, without a DataLoader. Those
that do not are gathered from their file in the same way, a batch ahead. Those that can only be read one by one, or that change
each time they are read, come through PyTorch's DataLoader behind the same interface.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from epochal.data.augment import Augment
from epochal.data.examples import Examples, Lazy, Stored
from epochal.data.mixing import Mixing
from epochal.random import drawn_from, key, permutation


class Batch(NamedTuple):
    """A few examples on the device: inputs [batch, *shape], targets [batch, ...], and their places (int64 [batch]) in the split."""

    inputs: Tensor
    targets: Tensor
    places: Tensor


class Feed(Protocol):
    """What training and inference read from."""

    examples: Examples

    def __len__(self) -> int:
        """How many batches an epoch has; the last one may be smaller."""
        ...

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from batch `start` on."""
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
) -> Feed:
    """Return a feed of `examples`, shuffled in each epoch where there is a `shuffle_seed`, else in their own order.

    `augment` changes examples one by one; then `mixing` mixes each with the one that follows it.
    """
    order = _Order(len(examples), batch_size, shuffle_seed)
    if isinstance(examples.inputs, Tensor):
        return _ResidentFeed(examples, order, device, _Changes(augment, mixing))
    if isinstance(examples.inputs, Stored):
        return _StoredFeed(examples, order, device, _Changes(augment, mixing))
    return _StreamedFeed(examples, order, device, _Changes(augment, mixing), workers)


class _Order:
    """Which examples stand in which batch of which epoch."""

    def __init__(self, count: int, batch_size: int, seed: int | None) -> None:
        self.count = count
        self.batch_size = batch_size
        self.seed = seed

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def batches(self, epoch: int, following: int) -> list[Tensor]:
        """Return the places of the examples of each batch, and of so many that come after it (after the last the first)."""
        order = torch.arange(self.count) if self.seed is None else permutation(key(self.seed, epoch, "order"), self.count)
        ring = torch.cat((order, order[:following]))
        begins = range(0, self.count, self.batch_size)
        return [ring[begin : min(begin + self.batch_size, self.count) + following] for begin in begins]


class _Changes:
    """What is done to examples between reading and training."""

    def __init__(self, augment: Augment | None, mixing: Mixing | None) -> None:
        self.augment = augment
        self.mixing = mixing
        self.following = 0 if mixing is None else 1

    def __call__(self, inputs: Tensor, targets: Tensor, places: Tensor, epoch: int) -> Batch:
        """Make a batch of what was read for it, all on the device."""
        if self.augment is not None:
            inputs = self.augment(inputs, places, epoch)
        if self.mixing is not None:
            inputs, targets = self.mixing(inputs, targets, places, epoch)
        return Batch(inputs, targets, places[: len(inputs)])


def targets_on(device: torch.device, targets: Tensor) -> Tensor:
    """Return targets on a device; Apple's has no float64, and models that answer in it are refused there."""
    return (targets.float() if device.type == "mps" and targets.dtype == torch.float64 else targets).to(device)


class _ResidentFeed:
    def __init__(self, examples: Examples, order: _Order, device: torch.device, changes: _Changes) -> None:
        assert isinstance(examples.inputs, Tensor)
        self.examples = examples
        self.inputs = examples.inputs.to(device)
        self.targets = targets_on(device, examples.targets)
        self.order = order
        self.changes = changes

    def __len__(self) -> int:
        return len(self.order)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        for places in self.order.batches(number, self.changes.following)[start:]:
            on_device = places.to(self.inputs.device)
            yield self.changes(self.inputs.index_select(0, on_device), self.targets.index_select(0, on_device), on_device, number)


class _StoredFeed:
    def __init__(self, examples: Examples, order: _Order, device: torch.device, changes: _Changes) -> None:
        assert isinstance(examples.inputs, Stored)
        self.examples = examples
        self.inputs: Stored = examples.inputs
        self.targets = targets_on(device, examples.targets)
        self.order = order
        self.device = device
        self.changes = changes

    def __len__(self) -> int:
        return len(self.order)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        batches = self.order.batches(number, self.changes.following)[start:]
        # While a batch is used, a thread reads the next from the disk.
        with ThreadPoolExecutor(1) as reader:
            coming = deque(reader.submit(self._read, places) for places in batches[:1])
            for place, places in enumerate(batches, 1):
                inputs = coming.popleft().result()
                coming.extend(reader.submit(self._read, following) for following in batches[place : place + 1])
                on_device = places.to(self.device)
                inputs = inputs.to(self.device, non_blocking=True)
                yield self.changes(inputs, self.targets.index_select(0, on_device), on_device, number)

    def _read(self, places: Tensor) -> Tensor:
        inputs = self.inputs.gather(places)
        return inputs.pin_memory() if self.device.type == "cuda" else inputs


class _StreamedFeed:
    def __init__(self, examples: Examples, order: _Order, device: torch.device, changes: _Changes, workers: int) -> None:
        assert not isinstance(examples.inputs, Tensor)
        self.examples = examples
        self.inputs: Lazy = examples.inputs
        self.targets = examples.targets
        self.order = order
        self.device = device
        self.changes = changes
        self.workers = workers

    def __len__(self) -> int:
        return len(self.order)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        batches = [places.tolist() for places in self.order.batches(number, self.changes.following)[start:]]
        seeded = _Seeded(self.inputs, key(self.order.seed or 0, number, "read"))
        # DataLoader draws a seed for its workers from the global generator; a generator of its own leaves that one alone.
        loader = DataLoader(
            seeded,
            batch_sampler=batches,
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),
        )
        for batch, inputs in zip(batches, loader, strict=True):
            places = torch.tensor(batch)
            inputs = inputs.to(self.device, non_blocking=True)
            yield self.changes(inputs, targets_on(self.device, self.targets[places]), places.to(self.device), number)


class _Seeded(Dataset[Tensor]):
    """Inputs whose own random changes become a function of (seed, epoch, place): no worker repeats another's."""

    def __init__(self, inputs: Lazy, stream: int) -> None:
        self.inputs = inputs
        self.stream = stream

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, place: int) -> Tensor:
        with drawn_from(key(self.stream, place)):
            return self.inputs[place]
