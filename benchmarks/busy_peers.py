"""The ways of `busy_steps.py` that need a peer."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.busy_steps import BATCH_SIZE, Halves, made, network, optimizer_of
from benchmarks.protocol import bulk_loader, let_torchvision_import


def lightning(steps: int, halves: Halves) -> None:
    """Train by Lightning's Trainer, barebones."""
    let_torchvision_import()
    import lightning as peer

    class Module(peer.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.loss_of = network(), nn.CrossEntropyLoss()

        def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
            return self.loss_of(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return optimizer_of(self.net)

        def on_train_start(self) -> None:
            halves.begin()

        def on_train_batch_end(self, *_: object) -> None:
            halves.step()

    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    trainer = peer.Trainer(barebones=True, max_epochs=1, accelerator="cpu", devices=1)
    trainer.fit(Module(), bulk_loader(*made(steps), BATCH_SIZE))


def skorch(steps: int, halves: Halves) -> None:
    """Train by skorch, without its callbacks."""
    from skorch import NeuralNetClassifier
    from torch.utils.data import BatchSampler, RandomSampler

    class Timed(NeuralNetClassifier):
        def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
            halves.begin()
            super().on_epoch_begin(net, **kwargs)

        def on_batch_end(self, net: Any, **kwargs: Any) -> None:
            super().on_batch_end(net, **kwargs)
            halves.step()

    x, y = made(steps)
    sampler = BatchSampler(RandomSampler(range(len(x))), BATCH_SIZE, drop_last=False)
    settings = {"lr": 0.001, "max_epochs": 1, "train_split": None, "callbacks": "disable", "verbose": 0, "optimizer__fused": True}
    loader = {"iterator_train__sampler": sampler, "iterator_train__batch_size": None}
    Timed(network, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.AdamW, **settings, **loader).fit(x, y)
