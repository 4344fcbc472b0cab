"""A smaller CNN on MNIST, 10 epochs, with progress lines."""

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import epochal

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data", nargs="?", default="mnist")
parser.add_argument("--epochs", type=int, default=10)
arguments = parser.parse_args()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=5)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5)
        self.dropout = nn.Dropout2d()
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.dropout(self.conv2(x)), 2))
        x = F.relu(self.fc1(x.view(-1, 320)))
        return F.log_softmax(self.fc2(x), dim=1)


def report(record: object) -> None:
    if isinstance(record, epochal.Progress):
        percent = 100 * record.examples / record.epoch_examples
        print(f"Train Epoch: {record.epoch} [{record.examples}/{record.epoch_examples} ({percent:.0f}%)]\tLoss: {record.loss:.6f}")


torch.manual_seed(42)
recipe = epochal.load_recipe("tutorial-small-cnn").updated({"model": "Net", "epochs": arguments.epochs})
run = epochal.train(arguments.data, recipe, model=Net(), watchers=[report], quiet=True)
print(run.test)
