"""The line y = 2 x + 3 through 100 points: w and b start at 0, and 200 steps of gradient descent."""

import torch
from torch import nn

import epochal

torch.manual_seed(0)
x = torch.rand(100)
y = x * 2 + 3

model = nn.Linear(1, 1)
nn.init.zeros_(model.weight)
nn.init.zeros_(model.bias)


def report(record: object) -> None:
    if isinstance(record, epochal.EpochDone) and record.epoch % 10 == 0:
        w, b = model.weight.item(), model.bias.item()
        print(f"Iter: {record.epoch}, w: {w:.4f}, b: {b:.4f}, training loss: {record.train_loss:.4f}")


epochal.fit(model, (x, y), epochal.load_recipe("tutorial-line"), watchers=[report])

# At this learning rate 200 steps come close; with steps twenty times as large they get there.
epochal.fit(model, (x, y), epochal.load_recipe("tutorial-line").updated({"lr": 0.3}))
print(f"w = {model.weight.item():.2f}, b = {model.bias.item():.2f}")
