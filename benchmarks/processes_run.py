"""One process of a job of `processes.py`: train a small network, and say how fast that was, and what the validation accuracy is called.

    torchrun --nproc-per-node 2 -m benchmarks.processes_run WAY EPOCHS THREADS

The same 20,000 pictures of noise with a hint of their class, the same network, SGD and batches of 64 pictures in all, for every way.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

BATCH, COUNT, VALID = 64, 20_000, 10_001


def network() -> nn.Module:
    """Return a network of two convolutions."""
    torch.manual_seed(0)
    features = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*features, nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, 10))


def pictures(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return float32 [n, 1, 28, 28] and classes int64 [n]."""
    chance = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 10, (count,), generator=chance)
    made = torch.randn(count, 1, 28, 28, generator=chance)
    made[torch.arange(count), 0, labels, :] += 0.35
    return made, labels


def epochal(epochs: int, threads: int) -> dict[str, Any]:
    """Train by `epochal.fit`."""
    from epochal.data.load import load
    from epochal.training.loop import fit
    from epochal.training.records import EpochDone

    done: list[EpochDone] = []
    parts = {"train": pictures(COUNT, 1), "valid": pictures(VALID, 2)}
    settings: dict[str, Any] = {"epochs": epochs, "batch_size": BATCH, "threads": threads, "optimizer": "sgd", "lr": 0.05, "device": "cpu"}
    history = fit(network(), load(parts), settings | {"schedule": "constant", "eval_batch_size": 500, "keep": "last"})
    done += history.epochs
    valid = done[-1].valid
    assert valid is not None
    rates = sorted(one.examples_per_second for one in done[1:])
    return {"rate": rates[len(rates) // 2], "accuracy": valid.accuracy, "counted": valid.count}


def by_hand(epochs: int, threads: int) -> dict[str, Any]:
    """Train by DistributedDataParallel, with a DataLoader and a DistributedSampler, as tutorials do."""
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel
    from torch.utils.data.distributed import DistributedSampler

    torch.set_num_threads(threads)
    dist.init_process_group("gloo")
    size = dist.get_world_size()
    train, valid = TensorDataset(*pictures(COUNT, 1)), TensorDataset(*pictures(VALID, 2))
    sampler = DistributedSampler(train)
    batches = DataLoader(train, BATCH // size, sampler=sampler)
    model = DistributedDataParallel(network())
    optimizer, rates = torch.optim.SGD(model.parameters(), lr=0.05), []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        begin = time.perf_counter()
        for inputs, targets in batches:
            nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
        rates.append(COUNT / (time.perf_counter() - begin))
    found = torch.zeros(2)
    with torch.inference_mode():
        for inputs, targets in DataLoader(valid, 500, sampler=DistributedSampler(valid, shuffle=False)):
            found += torch.tensor([(model(inputs).argmax(1) == targets).sum(), len(targets)])
    dist.all_reduce(found)
    return {"rate": sorted(rates[1:])[len(rates[1:]) // 2], "accuracy": float(found[0] / found[1]), "counted": int(found[1])}


def lightning(epochs: int, threads: int) -> dict[str, Any]:
    """Train by Lightning's Trainer, with its own sampler."""
    from benchmarks.protocol import let_torchvision_import

    let_torchvision_import()
    import lightning
    from lightning.pytorch.strategies import DDPStrategy

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(threads)
    size, rates, counted = int(os.environ.get("WORLD_SIZE", "1")), [], torch.zeros(1)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()
            self.began = 0.0

        def training_step(self, batch: Any, _: int) -> Tensor:
            return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

        def validation_step(self, batch: Any, _: int) -> None:
            right = (self.network(batch[0]).argmax(1) == batch[1]).float().mean()
            counted.add_(len(batch[1]))
            self.log("accuracy", right, on_epoch=True, sync_dist=True, batch_size=len(batch[1]))

        def on_train_epoch_start(self) -> None:
            self.began = time.perf_counter()

        def on_train_epoch_end(self) -> None:
            rates.append(COUNT / (time.perf_counter() - self.began))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.05)

    strategy = DDPStrategy(process_group_backend="gloo")
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = lightning.Trainer(
        accelerator="cpu", devices=size, strategy=strategy, max_epochs=epochs, limit_val_batches=0, num_sanity_val_steps=0, **quiet
    )
    module = Module()
    trainer.fit(module, DataLoader(TensorDataset(*pictures(COUNT, 1)), BATCH // size, shuffle=True))
    trainer.limit_val_batches = 1.0
    found = trainer.validate(module, DataLoader(TensorDataset(*pictures(VALID, 2)), 500), verbose=False)
    torch.distributed.all_reduce(counted)
    return {"rate": sorted(rates[1:])[len(rates[1:]) // 2], "accuracy": found[0]["accuracy"], "counted": int(counted)}


def accelerate(epochs: int, threads: int) -> dict[str, Any]:
    """Train by Accelerate, with `gather_for_metrics`."""
    from accelerate import Accelerator

    torch.set_num_threads(threads)
    made = Accelerator(cpu=True)
    size = made.num_processes
    batches = DataLoader(TensorDataset(*pictures(COUNT, 1)), BATCH // size, shuffle=True)
    checks = DataLoader(TensorDataset(*pictures(VALID, 2)), 500)
    model = network()
    model, optimizer, batches, checks = made.prepare(model, torch.optim.SGD(model.parameters(), lr=0.05), batches, checks)
    rates = []
    for _ in range(epochs):
        begin = time.perf_counter()
        for inputs, targets in batches:
            made.backward(nn.functional.cross_entropy(model(inputs), targets))
            optimizer.step()
            optimizer.zero_grad()
        rates.append(COUNT / (time.perf_counter() - begin))
    right = counted = 0
    with torch.inference_mode():
        for inputs, targets in checks:
            answers, wanted = made.gather_for_metrics((model(inputs).argmax(1), targets))
            right, counted = right + int((answers == wanted).sum()), counted + len(wanted)
    return {"rate": sorted(rates[1:])[len(rates[1:]) // 2], "accuracy": right / counted, "counted": counted}


WAYS = {"epochal": epochal, "by_hand": by_hand, "lightning": lightning, "accelerate": accelerate}


def main() -> None:
    """Train, and let process 0 print what there is to say."""
    warnings.filterwarnings("ignore")
    way, epochs, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    found = WAYS[way](epochs, threads)
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
