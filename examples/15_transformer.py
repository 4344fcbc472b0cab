"""A small transformer encoder: learned positions, blocks of attention, and a head; padding is masked, so it never changes an output."""

import random

import torch

import epochal

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def question(number: int) -> tuple[str, str]:
    """Return a list of digits in words, and the largest one: any of the words may decide."""
    chance = random.Random(number)
    digits = [chance.randrange(10) for _ in range(chance.randint(2, 8))]
    return " ".join(DIGITS[digit] for digit in digits), DIGITS[max(digits)]


data = epochal.load([question(number) for number in range(3000)], tokens="words").split(seed=0)
print(data.spec.describe())

run = epochal.train(data, model={"name": "transformer", "dim": 64, "layers": 2, "heads": 4, "dropout": 0.1}, epochs=10, quiet=True)
print(run.test)
print(run.summary())
for text in ("two seven one", "nine three nine", "zero zero"):
    print(f"the largest of {text}: {run.predict(text)[0]}")

# Texts are padded to one length, which changes nothing.
net, rows = run.bundle.model.net, run.bundle.model.preprocess(data.input.encode(["two seven one"]))
with torch.no_grad():
    difference = (net(rows[:, :3]) - net(rows)).abs().max()
print(f"{rows.shape[1]} places instead of 3 change the outputs by {difference:.0e}")
