"""Texts in English and Chinese, from Python and from a folder: a bag of n-grams, which needs no vocabulary and no download."""

import random
import tempfile
from pathlib import Path

import epochal

GOOD = ["wonderful", "a joy to watch", "brilliantly acted", "funny and warm", "很好看", "非常感人", "演得精彩", "值得一看"]
BAD = ["dull", "a waste of time", "badly acted", "loud and empty", "很难看", "太无聊了", "演得糟糕", "不值得看"]
ABOUT = ["the film is", "this story was", "my friends found it", "in the end it is", "这部电影", "故事", "总的来说", "朋友们觉得"]


def review(number: int) -> tuple[str, str]:
    """Return a review in one of the languages, and whether it is good or bad."""
    chance = random.Random(number)
    label, words = chance.choice([("good", GOOD), ("bad", BAD)])
    language = chance.choice([slice(0, 4), slice(4, 8)])
    return f"{chance.choice(ABOUT[language])} {chance.choice(words[language])} ({chance.randrange(100)})", label


reviews = [review(number) for number in range(1200)]
data = epochal.load(reviews).split(seed=0)  # or epochal.load((texts, labels))
print(data.spec.describe())

run = epochal.train(data, quiet=True)
print(run.test)
for text in ("a wonderful film", "what a waste of time", "精彩，非常好看", "无聊"):
    print(f"{text}: {run.predict(text)[0]}")

# The same from files: a folder for each class, a .txt file for each text. `epochal train FOLDER` reads it too.
with tempfile.TemporaryDirectory() as folder:
    for number, (text, label) in enumerate(reviews[:400]):
        (Path(folder) / label).mkdir(exist_ok=True)
        (Path(folder) / label / f"{number}.txt").write_text(text, "utf-8")
    print(epochal.check(folder))
    run = epochal.train(folder, epochs=20, quiet=True)
    print(f"from files: {run.test}")
    print(run.predict(Path(folder) / "good")[:3])
