"""An MLP on MNIST: 784-128-10, Adam, 5 epochs; a line every 100 batches, tested and timed after each epoch."""

import argparse
import itertools
import math
from dataclasses import replace

from torch import Tensor, nn
from torch.nn import functional as F

import epochal

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data", nargs="?", default="mnist")
parser.add_argument("--epochs", type=int, default=5)
arguments = parser.parse_args()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(28 * 28, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(-1, 28 * 28)
        x = F.relu(self.fc1(x))
        return self.fc2(x)


def logged_loss(output: Tensor, target: Tensor) -> Tensor:
    loss = F.cross_entropy(output, target)
    # Only in training: evaluation has no gradients.
    if steps is not None and output.requires_grad:
        epoch, batch = divmod(next(steps), math.ceil(len(data.train) / recipe.batch_size))
        if batch % 100 == 0:
            print(f"Epoch: {epoch + 1} [{batch * len(target)}/{len(data.train)}] Loss: {loss.item():.6f}")
    return loss


def report(record: object) -> None:
    global steps
    if isinstance(record, epochal.Started):
        steps = itertools.count()
    if isinstance(record, epochal.EpochDone):
        test = record.valid
        right = round(test.accuracy * test.count)
        print(f"\nTest set: Average loss: {test.loss:.4f}, Accuracy: {right}/{test.count} ({100 * test.accuracy:.2f}%)\n")
        print(f"Epoch {record.epoch} 用时: {record.seconds:.2f} 秒")
    if isinstance(record, epochal.Finished):
        print(f"\n总耗时:{record.seconds:.2f}")


# Steps since the start of training.
steps = None
recipe = epochal.load_recipe("tutorial-mlp").updated({"model": "Net", "epochs": arguments.epochs, "keep": "last"})
# To watch the test set after every epoch, it is also given as validation data; with keep = "last" nothing is chosen by it.
data = epochal.load(arguments.data)
run = epochal.train(replace(data, valid=data.test), recipe, model=Net(), loss=logged_loss, watchers=[report], quiet=True)
# run.bundle.save("mnist-mlp") saves all that prediction needs; torch.save(run.bundle.model.state_dict(), "mnist_model.pth") works too.
