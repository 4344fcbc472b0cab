"""Recurrent networks that read words in their order: GRU and LSTM, in one direction and in both, on a task that needs the order."""

import random

import epochal

FIRST, SECOND = ["Anna", "Boris", "Chen", "Dora"], ["the race", "the game", "the prize", "the bet"]


def sentence(number: int) -> tuple[str, str]:
    """Return a sentence with two people, and who of them won: the same words in another order have another answer."""
    chance = random.Random(number)
    one, other = chance.sample(FIRST, 2)
    what, before = chance.choice(SECOND), chance.choice(["", "yesterday ", "at last ", "to our surprise "])
    is_won = chance.random() < 0.5
    return f"{before}{one} {'won' if is_won else 'lost'} {what} against {other}", one if is_won else other


data = epochal.load([sentence(number) for number in range(1500)], tokens="words").split(seed=0)
print(data.spec.describe())

for model in ("gru", "lstm"):
    for bidirectional in (False, True):
        run = epochal.train(data, model={"name": model, "bidirectional": bidirectional}, epochs=8, lr=0.005, quiet=True)
        print(f"{model:<5} {'both directions' if bidirectional else 'one direction':<16} {run.test}")

for text in ("Anna won the race against Dora", "Dora lost the race against Anna", "Dora won the race against Anna"):
    print(f"{text}: {run.predict(text)[0]}")
