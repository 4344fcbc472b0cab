"""Save a trained model, load it again, and show a test picture with its prediction."""

import argparse
from pathlib import Path

import epochal
from epochal import figures

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data", nargs="?", default="mnist")
parser.add_argument("--out", type=Path, default=Path("mnist_model"))
parser.add_argument("--epochs", type=int, default=5)
arguments = parser.parse_args()

data = epochal.load(arguments.data)
run = epochal.train(data, recipe="tutorial-mlp", epochs=arguments.epochs, quiet=True)
run.bundle.save(arguments.out)

bundle = epochal.Bundle.load(arguments.out)  # needs no training data
example = data.test.input(0)
title = f"pred result: {bundle.predict(example)[0].label}"
print(title)
for file in figures.save(figures.single(example, title), arguments.out / "prediction"):
    print("wrote", file)
