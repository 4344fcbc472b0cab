"""A FILE is one text: a .txt file in UTF-8. tokens.py, beside this program, turns it into the numbers of its words, or parts of these."""

from pathlib import Path

import numpy as np

from epochal.exports.scripts.hashed import encode


def read(path: str, rule: dict):
    """Yield the name of a text and its numbers, padded with 0."""
    text = Path(path).read_bytes().decode("utf-8-sig")
    if not path.lower().endswith(".txt") or "\0" in text:
        raise ValueError("it is not a .txt file")
    inputs, numbers = np.zeros(rule["shape"], np.int32), np.array(encode(text[:200_000], rule), np.int32)
    inputs[..., : numbers.shape[-1]] = numbers
    yield path, inputs
