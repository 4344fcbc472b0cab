"""The numbers of the words of a text, or of its n-grams: hashes of their characters."""

import re
import unicodedata
from collections import Counter
from functools import reduce

BASE, ORDER, MIX, MASK, BEGIN, END = 0x9E3779B97F4A7C15, 0x9FB21C651E98DF25, 0xD6E8FEB86659FD93, 2**64 - 1, 0x200000, 0x200001
# Of these, each character is a word, for there are no blanks between words: Thai to Tibetan, Burmese, Khmer, Kana, Han.
UNSPACED = re.compile(r"[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


def encode(text: str, rule: dict) -> list:
    """Return the number of each word, in order; or the numbers of n-grams, and how often each occurs. Of too many, the first are kept."""
    text = unicodedata.normalize("NFC", text.lower())
    words = [text[slice(*found.span())] for found in re.finditer("L+|S", "".join(map(kind, text)))]
    hashes = [mixed(sum((ord(letter) + 1) * pow(BASE, min(place, 1024), 2**64) for place, letter in enumerate(word, 1))) for word in words]
    if rule["tokens"] == "words":
        return [number(value, rule) for value in hashes[: rule["shape"][-1]]]
    counts = Counter(number(value, rule) for value in ngrams(words, hashes))
    kept = sorted([*counts][: rule["shape"][-1]])
    return [kept, [counts[one] for one in kept]]


def kind(letter: str) -> str:
    """Return whether a character is a part of a word (L), a word by itself (S), or nothing."""
    category = unicodedata.category(letter)[0]
    if letter.isspace() or category == "C":
        return " "
    return "L" if (category in "LNM" or letter == "_") and not UNSPACED.match(letter) else "S"


def ngrams(words: list[str], hashes: list[int]):
    """Yield the hash of each word, of two and of three in a row, and of 3 to 5 characters in a row within a word, with borders."""
    yield from hashes
    for length in (2, 3):
        for run in runs([BEGIN, *hashes, END], length) if hashes else ():
            yield mixed(reduce(lambda total, value: total * ORDER + value, run) + length)
    for length in (3, 4, 5):
        for word in words:
            for run in runs([BEGIN, *map(ord, word), END], length) if len(word) > 1 else ():
                yield mixed(reduce(lambda total, value: total * BASE + value + 1, run, 0) ^ length << 40)


def runs(values: list[int], length: int):
    """Return every so many values in a row."""
    return zip(*(values[place:] for place in range(length)), strict=False)


def number(value: int, rule: dict) -> int:
    """Return a hash as a number of the model's, from 1."""
    return (value >> 64 - rule["bits"]) + 1


def mixed(value: int) -> int:
    """Spread a number over all of 64 bits."""
    value &= MASK
    for _ in range(2):
        value = (value ^ value >> 32) * MIX & MASK
    return value ^ value >> 32
