"""Your own network on MNIST: 784-128-64-10, Adam, 10 epochs."""

import argparse

import torch
from torch import Tensor, nn

import epochal

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data", nargs="?", default="mnist")
parser.add_argument("--epochs", type=int, default=10)
arguments = parser.parse_args()


class SimpleNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(28 * 28, 128)
        self.fc2 = nn.Linear(128, 64)
        self.fc3 = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(-1, 28 * 28)
        x = torch.relu(self.fc1(x))
        x = torch.relu(self.fc2(x))
        return self.fc3(x)


def report(record: object) -> None:
    if isinstance(record, epochal.EpochDone):
        print(f"Epoch [{record.epoch}/{record.epochs}], Loss: {record.train_loss:.4f}")


torch.manual_seed(0)
recipe = epochal.load_recipe("tutorial-simple").updated({"model": "SimpleNN", "epochs": arguments.epochs})
run = epochal.train(arguments.data, recipe, model=SimpleNN(), watchers=[report], quiet=True)
print(f"Test Accuracy: {100 * run.test.accuracy:.2f}%")
