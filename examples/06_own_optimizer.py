"""The same line with your own model and optimizer class: all an optimizer needs is step and zero_grad."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

import epochal

torch.manual_seed(0)
x = torch.rand(100)
y = x * 2 + 3


class SimpleLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.0]))
        self.b = nn.Parameter(torch.tensor([0.0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.w * x + self.b


class Optimizer:
    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        self.parameters = list(parameters)
        self.lr = lr

    def step(self) -> None:
        for parameter in self.parameters:
            parameter.data -= parameter.grad * self.lr

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad.data.zero_()


model = SimpleLinear()


def report(record: object) -> None:
    if isinstance(record, epochal.EpochDone):
        print(f"Epoch {record.epoch - 1},w:{model.w.item():.4f} b:{model.b.item():.4f},loss is {record.train_loss:.4f}")


recipe = epochal.load_recipe("tutorial-line").updated({"epochs": 10})
epochal.fit(model, (x, y), recipe, optimizer=lambda parameters: Optimizer(parameters, lr=0.3), watchers=[report])
