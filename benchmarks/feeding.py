"""Pictures as they reach training, cropped, flipped and normalized: Epochal's feed, and torchvision's transforms in a DataLoader."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.environment import not_installed

BATCH_SIZE = 128


def feed_speeds(number: int, rounds: int) -> dict[str, list[float]]:
    """Return pictures per second of each way, in each round, on `number` pictures of 32×32 that are in memory."""
    import torch

    torch.manual_seed(0)
    x, y = torch.randint(256, (number, 3, 32, 32), dtype=torch.uint8), torch.arange(number) % 10
    ways = {"Epochal's feed": _epochal(x, y)}
    if "torchvision" not in not_installed():
        ways |= {f"torchvision, DataLoader with {workers} workers": _torchvision(x, y, workers) for workers in (0, 2)}
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, epoch in ways.items():
            started = time.perf_counter()
            for _batch in epoch():
                pass
            # The first round, which warms up, does not count.
            if turn:
                speeds[name].append(number / (time.perf_counter() - started))
    return speeds


def _epochal(x: Any, y: Any) -> Callable[[], Iterator[Any]]:
    import epochal
    import torch
    from epochal.data.feed import feed

    data = epochal.load((x, y))
    recipe = epochal.Recipe().updated({"augment.shift": 4, "augment.flip": True})
    augment = data.spec.input.augment(recipe.augment, 0)
    batches = feed(data.train, BATCH_SIZE, torch.device("cpu"), shuffle_seed=0, augment=augment)
    scale = data.spec.input.preprocess()
    return lambda: (scale(batch.inputs) for batch in batches.epoch(1))


def _torchvision(x: Any, y: Any, workers: int) -> Callable[[], Iterator[Any]]:
    from torch.utils.data import DataLoader, Dataset

    from benchmarks.protocol import let_torchvision_import

    let_torchvision_import()
    from PIL import Image
    from torchvision import transforms

    steps = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    change = transforms.Compose([*steps, transforms.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))])
    pictures = x.permute(0, 2, 3, 1).contiguous().numpy()

    class Pictures(Dataset[Any]):
        """As torchvision's CIFAR10 reads: an array becomes a picture, which is transformed."""

        def __len__(self) -> int:
            return len(pictures)

        def __getitem__(self, index: int) -> Any:
            return change(Image.fromarray(pictures[index])), int(y[index])

    loader = DataLoader(Pictures(), BATCH_SIZE, shuffle=True, num_workers=workers)
    return lambda: iter(loader)
