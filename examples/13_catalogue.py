"""The catalogue: models, losses, optimizers, schedules, metrics, saving and loading, on the digits, which need no download."""

import tempfile
from pathlib import Path

import torch
from torch import nn

import epochal

data = epochal.load("digits").split(valid=0.1, test=0.2, seed=0)  # train, validation and test data
print(data.spec.describe())

for optimizer in ("sgd", "adam", "adagrad", "rmsprop"):
    lr = {"sgd": 0.1, "adagrad": 0.02}.get(optimizer, 0.002)
    run = epochal.train(data, model="mlp", optimizer=optimizer, lr=lr, epochs=5, quiet=True)
    print(f"{optimizer:<8} {run.test}")

for schedule in ({"name": "step", "every": 2, "factor": 0.1}, {"name": "multi-step", "at": [3, 4]}, {"name": "plateau", "patience": 2}):
    run = epochal.train(data, model="mlp", schedule=schedule, epochs=5, quiet=True)
    print(f"{schedule['name']:<10} {run.test}")

module = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10), nn.LogSoftmax(dim=1))
for loss, model in (("cross-entropy", "vgg"), ("nll", module)):
    run = epochal.train(data, model=model, loss=loss, epochs=5, quiet=True)
    print(f"{loss:<13} {run.test}, macro F1 {run.test.macro.f1:.3f}")
print("confusion matrix:", *run.test.confusion.tolist(), sep="\n  ")

x = torch.rand(500, 1)
for loss in ("mse", "l1"):
    run = epochal.train((x, 2 * x + 3), model="linear", loss=loss, epochs=20, quiet=True)
    print(f"{loss:<3} {run.test}")

with tempfile.TemporaryDirectory() as folder:
    run = epochal.train(data, model="conv", epochs=5, quiet=True, out=Path(folder) / "run")
    bundle = epochal.Bundle.load(Path(folder) / "run")
    print("new data:", bundle.predict(data.test.input(0)), "is really", data.outputs[int(data.test.targets[0])])
