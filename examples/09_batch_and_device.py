"""Batch 64 against 128, CPU against GPU: the same training, timed.

Where the time goes, without training to the end: epochal bench mnist --recipe tutorial-mlp --batch-sizes 64,128
"""

import argparse

import torch

import epochal

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data", nargs="?", default="mnist")
parser.add_argument("--epochs", type=int, default=5)
arguments = parser.parse_args()

gpu = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else None
data = epochal.load(arguments.data)
for device in ("cpu", gpu):
    for batch_size in (64, 128):
        if device is None:
            print(f"batch {batch_size}: no GPU here")
            continue
        run = epochal.train(data, recipe="tutorial-mlp", device=device, batch_size=batch_size, epochs=arguments.epochs, quiet=True)
        print(f"batch {batch_size} on {device}: {run.seconds['train']:.2f} s, {run.test}")
