"""The numbers of the pieces of words in a text: of each word, the longest that it begins with, then that of the rest, and so on."""

import hashlib
import unicodedata
from functools import cache
from pathlib import Path

# Of these, each character is a word.
HAN = (
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF)),
    *((0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0x2F800, 0x2FA1F)),
)


def encode(text: str, rule: dict) -> list[int]:
    """Return the number of each piece, in order."""
    known, length = vocabulary(rule["files"]["vocabulary.txt"]), rule["shape"][0]
    words = "".join(map(plain, unicodedata.normalize("NFD", text))).split()
    return [number for word in words[:length] for number in pieces(word, known)][:length]


@cache
def vocabulary(sha256: str) -> dict[str, int]:
    """Return the number of each piece."""
    content = Path(__file__).with_name("vocabulary.txt").read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError("vocabulary.txt is not that of the model")
    return {piece: number for number, piece in enumerate(content.decode().split("\n"))}


@cache
def plain(letter: str) -> str:
    """Return a character in lower case; with blanks around it if it is a word by itself; nothing for accents."""
    kind = unicodedata.category(letter)
    if letter in "\t\n\r" or kind[0] == "Z":
        return " "
    if kind == "Mn" or kind[0] == "C" or letter == "\ufffd":
        return ""
    is_mark = kind[0] == "P" or (letter.isascii() and not letter.isalnum())
    return f" {letter} " if is_mark or any(first <= ord(letter) <= last for first, last in HAN) else letter.lower()


def pieces(word: str, known: dict[str, int]) -> list[int]:
    """Return the numbers of the longest pieces of a word, from left to right."""
    found, begin = [], 0
    while begin < len(word) <= 100:
        for end in range(len(word), begin, -1):
            piece = ("##" if begin else "") + word[begin:end]
            if known.get(piece, 0):
                break
        else:
            return [known["[UNK]"]]
        found.append(known[piece])
        begin = end
    return found or [known["[UNK]"]]
