"""A CNN on MNIST: two convolutions, dropout, SGD with momentum, 2 epochs, a progress bar of one's own."""

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import epochal

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data", nargs="?", default="mnist")
parser.add_argument("--epochs", type=int, default=2)
arguments = parser.parse_args()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, 1)
        self.conv2 = nn.Conv2d(32, 64, 3, 1)
        self.dropout1 = nn.Dropout2d(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(9216, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(self.conv2(x), 2)
        x = torch.flatten(self.dropout1(x), 1)
        x = self.dropout2(F.relu(self.fc1(x)))
        return F.log_softmax(self.fc2(x), dim=1)


def report(record: object) -> None:
    if isinstance(record, epochal.Progress):
        percent = 100 * record.examples // record.epoch_examples
        print(f"\rTrain epoch {record.epoch}: {record.examples}/{record.epoch_examples}, [{'-' * (percent // 2)}>] {percent}%", end="")


torch.manual_seed(0)
recipe = epochal.load_recipe("tutorial-cnn").updated({"model": "Net", "epochs": arguments.epochs})
test = epochal.train(arguments.data, recipe, model=Net(), watchers=[report], quiet=True).test
print(f"\nTest: average loss: {test.loss:.4f}, accuracy: {round(test.accuracy * test.count)}/{test.count} ({100 * test.accuracy:.0f}%)")
