"""The numbers of the pieces of words in a text: of characters, neighbours are merged whose piece is the first in the vocabulary."""

import hashlib
import re
from functools import cache
from pathlib import Path

NEVER = (2,)


def encode(text: str, rule: dict) -> list[int]:
    """Return the number of each piece, in order."""
    known, length = vocabulary(rule["files"]["vocabulary.txt"]), rule["shape"][0]
    words = re.findall("▁+[^▁]*|[^▁]+", "▁" + text.replace(" ", "▁")) if text else []
    return [number for word in words[:length] for number in pieces(word, known)][:length]


@cache
def vocabulary(sha256: str) -> dict[str, int]:
    """Return the number of each piece."""
    content = Path(__file__).with_name("vocabulary.txt").read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError("vocabulary.txt is not that of the model")
    return {piece: number for number, piece in enumerate(content.decode().split("\n"))}


def pieces(word: str, known: dict[str, int]) -> list[int]:
    """Return the numbers of the pieces of a word."""

    def rank(place: int) -> tuple:
        """Return when a piece is merged with the next one: runs of blanks are last."""
        merged = found[place] + found[place + 1]
        return (not merged.strip("▁"), known[merged], known[found[place]]) if merged in known else NEVER

    found = []
    for letter in word:
        # A character without a piece is those of its bytes.
        found += [letter] if letter in known else [f"<0x{byte:02X}>" for byte in letter.encode()]
    ranks = [rank(place) for place in range(len(found) - 1)]
    while ranks and (best := min(ranks)) != NEVER:
        place = ranks.index(best)
        found[place : place + 2] = [found[place] + found[place + 1]]
        del ranks[place]
        for near in range(max(place - 1, 0), min(place + 1, len(ranks))):
            ranks[near] = rank(near)
    return [known[piece] for piece in found]
