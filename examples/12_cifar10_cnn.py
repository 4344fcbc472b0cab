"""A CNN on CIFAR-10 with random crops and flips. DATA may be "cifar10" or a folder of pictures."""

import argparse

import epochal

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data", nargs="?", default="cifar10")
parser.add_argument("--epochs", type=int, default=10)
arguments = parser.parse_args()

run = epochal.train(arguments.data, recipe="tutorial-cifar", epochs=arguments.epochs)
print(run.test)
print(run.summary())
