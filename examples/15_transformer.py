"""Small transformers: over the words of a text, where padding is masked, so that it never changes an output; and over the patches of a
picture, from the same blocks of attention."""

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

# A picture is a sequence, too: of its patches. ("ast" reads the spectrograms of sounds likewise: see 17_audio.py.)
run = epochal.train("digits", model={"name": "vit", "patch": 2, "layers": 2}, epochs=5, batch_size=16, quiet=True)
print(f"pictures: {run.test}")
