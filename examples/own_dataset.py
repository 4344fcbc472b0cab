"""Bring your own Dataset, even with random transforms: they stay random, and are repeatable from the seed."""

import torch
from torch import Tensor
from torch.utils.data import Dataset

import epochal


class Noisy(Dataset[tuple[Tensor, int]]):
    """Points in two rings, slightly different at every reading."""

    def __init__(self, count: int, noise: float) -> None:
        angle = torch.arange(count) * 2.399963
        self.labels = torch.arange(count) % 2
        self.points = torch.stack([angle.cos(), angle.sin()], 1) * (1.0 + self.labels[:, None])
        self.noise = noise

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.points[index] + self.noise * torch.randn(2), int(self.labels[index])


run = epochal.train({"train": Noisy(600, noise=0.1), "test": Noisy(200, noise=0.0)}, model="mlp", epochs=15)
print(run.test)
print(run.predict(torch.tensor([0.0, 2.0])))
