"""A CNN on MNIST: two convolutions, dropout, SGD with momentum, 2 epochs, with your own progress bar; tested after each epoch."""

import argparse
import math
from dataclasses import replace

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


def bar(epoch: int, done: int, total: int) -> None:
    progress = math.ceil(50 * done / total)
    print(f"\rTrain epoch {epoch}: {done}/{total}, [{'-' * progress + '>':<51}] {2 * progress}%", end="")


def report(record: object) -> None:
    if isinstance(record, epochal.Progress):
        bar(record.epoch, record.examples, record.epoch_examples)
    if isinstance(record, epochal.EpochDone):
        bar(record.epoch, len(data.train), len(data.train))
        test = record.valid
        right = round(test.accuracy * test.count)
        print(f"\nTest: average loss: {test.loss:.4f}, accuracy: {right}/{test.count} ({100 * test.accuracy:.0f}%)")


torch.manual_seed(0)
recipe = epochal.load_recipe("tutorial-cnn").updated({"model": "Net", "epochs": arguments.epochs, "keep": "last"})
# To watch the test set after every epoch, it is also given as validation data; with keep = "last" nothing is chosen by it.
data = epochal.load(arguments.data)
run = epochal.train(replace(data, valid=data.test), recipe, model=Net(), watchers=[report], quiet=True)
# run.bundle.save("mnist-cnn") saves all that prediction needs; torch.save(run.bundle.model.state_dict(), "mnist_cnn.pt") works too.
