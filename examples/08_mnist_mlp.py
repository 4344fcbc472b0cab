"""An MLP on MNIST: 784-128-10, Adam, 5 epochs, tested and timed after each."""

import argparse
from dataclasses import replace

import epochal

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data", nargs="?", default="mnist")
parser.add_argument("--epochs", type=int, default=5)
arguments = parser.parse_args()


def report(record: object) -> None:
    if isinstance(record, epochal.Progress):
        print(f"Epoch: {record.epoch} [{record.examples}/{record.epoch_examples}] Loss: {record.loss:.6f}")
    if isinstance(record, epochal.EpochDone):
        test = record.valid
        right = round(test.accuracy * test.count)
        print(f"\nTest set: Average loss: {test.loss:.4f}, Accuracy: {right}/{test.count} ({100 * test.accuracy:.2f}%)\n")
        print(f"Epoch {record.epoch} 用时: {record.seconds:.2f} 秒")
    if isinstance(record, epochal.Finished):
        print(f"\n总耗时:{record.seconds:.2f}")


# To watch the test set after every epoch, it is also named as validation data; keep="last" lets nothing be chosen by it.
data = epochal.load(arguments.data)
epochal.train(replace(data, valid=data.test), recipe="tutorial-mlp", keep="last", epochs=arguments.epochs, watchers=[report], quiet=True)
