"""Texts as numbers: hashed n-grams with their counts, or hashed words in their order. Any language, no vocabulary, no download.

A word is a run of letters and digits, or a single sign: of writing without blanks (Chinese, Japanese, Thai, ...), of punctuation, an emoji.
N-grams are words, two and three of them in a row, to which the beginning and the end of the text belong, and 3 to 5 characters in a row
within a word, with its borders. All texts of a piece are computed at once, as arrays, one number per character; each number depends on its
own text alone.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Characters of a text beyond these are not used.
MAX_CHARACTERS = 200_000

# About so many characters are computed at once: each takes some hundred bytes.
_PIECE = 500_000

# The lengths of runs of characters within words, and the longest run of words.
_SHORTEST, _LONGEST, _WORDS = 3, 5, 3

# What a character is: nothing, a sign, a part of a word, or a mark.
BLANK, SIGN, LETTER, MARK = range(4)

# Writing without blanks between words: first and last characters.
_UNSPACED = (
    *((0x0E00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF)),  # Thai, Lao, Tibetan; Burmese; Khmer
    *((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)),  # Kana and Han
)

_Numbers = NDArray[np.uint64]

# Odd numbers without pattern: of a character by its place in a word, of words by their order, and to mix bits.
_BASE, _ORDER, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0x9FB21C651E98DF25), np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)
# The place in a word, beyond which characters count alike.
_PLACES = 1024
_POWERS: _Numbers = np.cumprod(np.full(_PLACES, _BASE, np.uint64), dtype=np.uint64)
# The borders of a word, and of a text, are no characters.
_BEGIN, _END = np.uint64(0x200000), np.uint64(0x200001)


class Features(NamedTuple):
    """Features of several texts, ordered by text: the number of the text, the id of the feature from 1, and how often it occurs."""

    texts: NDArray[np.int64]
    ids: NDArray[np.int64]
    counts: NDArray[np.int64]


def normalized(text: str) -> str:
    """Return a text in lower case, with each character in its composed form (NFC)."""
    return unicodedata.normalize("NFC", text[:MAX_CHARACTERS].lower().replace("\0", " "))


def hashed_words(texts: Sequence[str], bits: int) -> Features:
    """Return the words of texts in their order, with ids up to 2 ** `bits`; each counts once."""
    found = [_Words(piece).words() for piece in _pieces(texts)]
    return _joined(found, texts, lambda hashes, numbers: Features(numbers, _ids(hashes, bits), np.ones(len(hashes), np.int64)))


def hashed_ngrams(texts: Sequence[str], bits: int, most: int | None = None) -> Features:
    """Return the n-grams of texts, each once with its count, in the order of their ids, which go up to 2 ** `bits`.

    Of a text with more than `most`, those are kept that come first: words before runs of words, and these before characters.
    """

    def counted(hashes: _Numbers, numbers: NDArray[np.int64]) -> Features:
        keys = numbers << 32 | _ids(hashes, bits)
        if most is None or not len(keys) or int(np.bincount(numbers).max()) <= most:
            kept, counts = np.unique(keys, return_counts=True)
        else:
            kept, first, counts = np.unique(keys, return_index=True, return_counts=True)
            order = np.lexsort((first, kept >> 32))
            place = np.empty(len(kept), np.int64)
            place[order] = places_in(kept[order] >> 32)
            kept, counts = kept[place < most], counts[place < most]
        return Features(kept >> 32, kept & 0xFFFFFFFF, counts)

    return _joined([_Words(piece).ngrams() for piece in _pieces(texts)], texts, counted)


def places_in(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the place of each feature in its text, from 0; `numbers` are those of the texts, in order."""
    counts = np.bincount(numbers)
    places: NDArray[np.int64] = np.arange(len(numbers)) - np.repeat(np.cumsum(counts) - counts, counts)
    return places


def _joined(pieces: Iterable[tuple[_Numbers, NDArray[np.int64]]], texts: Sequence[str], count: Any) -> Features:
    """Count the features of all pieces, and number their texts through."""
    found, begin = [], 0
    for (hashes, numbers), piece in zip(pieces, _pieces(texts), strict=True):
        counted: Features = count(hashes, numbers)
        found.append(counted._replace(texts=counted.texts + begin))
        begin += len(piece)
    empty = np.zeros(0, np.int64)
    return Features(*(np.concatenate(columns) for columns in zip(*found, strict=True))) if found else Features(empty, empty, empty)


def _pieces(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yield texts in pieces of about `_PIECE` characters."""
    piece: list[str] = []
    size = 0
    for text in texts:
        piece.append(text)
        size += min(len(text), MAX_CHARACTERS) + 1
        if size >= _PIECE:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


class _Words:
    """The words of a piece: for each its hash, the number of its text, its first character and its length in characters."""

    def __init__(self, texts: Sequence[str]) -> None:
        joined = "\0".join(map(normalized, texts)) + "\0"
        self.characters = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
        known, places = np.unique(self.characters, return_inverse=True)
        self.kinds = np.array([_known_kind(int(character)) for character in known], np.uint8)[places]
        before = np.concatenate(([BLANK], self.kinds[:-1]))
        is_first = (self.kinds != BLANK) & ((self.kinds != LETTER) | (before != LETTER))
        self.starts = np.flatnonzero(is_first)
        self.kind = self.kinds[self.starts]
        ends = self.characters == 0
        self.texts = (np.cumsum(ends) - ends)[self.starts].astype(np.int64)
        inside = np.arange(len(self.characters)) - self.starts[np.maximum(np.cumsum(is_first) - 1, 0)] if len(self.starts) else 0
        powers = _POWERS[np.clip(inside, 0, _PLACES - 1)]
        values = np.where(self.kinds != BLANK, (self.characters + np.uint64(1)) * powers, np.uint64(0))
        self.hashes = _mixed(np.add.reduceat(values, self.starts)) if len(self.starts) else np.zeros(0, np.uint64)

    def words(self) -> tuple[_Numbers, NDArray[np.int64]]:
        """Return the hash of each word, and the number of its text."""
        return self.hashes, self.texts

    def ngrams(self) -> tuple[_Numbers, NDArray[np.int64]]:
        """Return the hash of each n-gram, and the number of its text: words, pairs, three words, then characters."""
        bordered = self._bordered()
        found = [self.words(), *(_runs(*bordered, length) for length in range(2, _WORDS + 1)), *self._characters()]
        return np.concatenate([hashes for hashes, _ in found]), np.concatenate([texts for _, texts in found])

    def _bordered(self) -> tuple[_Numbers, NDArray[np.int64]]:
        """Return the words of texts, each with a word before its first and one after its last."""
        firsts = np.flatnonzero(np.diff(self.texts, prepend=-1))
        places, texts = np.append(firsts, len(self.texts))[1:], self.texts[firsts]
        # Where one text ends and another begins, the end is put in first.
        both = np.concatenate((places, firsts))
        borders = np.repeat(np.array([_END, _BEGIN]), len(firsts))
        return np.insert(self.hashes, both, borders), np.insert(self.texts, both, np.concatenate((texts, texts)))

    def _characters(self) -> Iterator[tuple[_Numbers, NDArray[np.int64]]]:
        """Yield runs of characters within words of several, with their borders, by length."""
        if not len(self.starts):
            return
        lengths = np.add.reduceat((self.kinds == LETTER).astype(np.int64), self.starts)
        is_long = (self.kind == LETTER) & (lengths > 1)
        starts, sizes = self.starts[is_long], lengths[is_long] + 2
        begins = np.cumsum(sizes) - sizes
        # The words one after the other, each with a character before and after it.
        places = np.repeat(starts - 1 - begins, sizes) + np.arange(int(sizes.sum()))
        bordered = self.characters[np.clip(places, 0, len(self.characters) - 1)]
        bordered[begins], bordered[begins + sizes - 1] = _BEGIN, _END
        word, texts = np.repeat(np.arange(len(starts)), sizes), np.repeat(self.texts[is_long], sizes)
        hashes = np.zeros(len(bordered), np.uint64)
        for length in range(1, min(_LONGEST, len(bordered)) + 1):
            count = len(bordered) - length + 1
            hashes = hashes[:count] * _BASE + bordered[length - 1 :] + np.uint64(1)
            if length >= _SHORTEST:
                is_run = word[length - 1 :] == word[:count]
                yield _mixed(hashes[is_run] ^ np.uint64(length << 40)), texts[:count][is_run]


def _runs(hashes: _Numbers, texts: NDArray[np.int64], length: int) -> tuple[_Numbers, NDArray[np.int64]]:
    """Return runs of so many words of the same text."""
    count = max(len(hashes) - length + 1, 0)
    run = np.zeros(count, np.uint64)
    for place in range(length):
        run = run * _ORDER + hashes[place : place + count]
    is_run = texts[:count] == texts[len(texts) - count :]
    return _mixed(run[is_run] + np.uint64(length)), texts[:count][is_run]


def _ids(hashes: _Numbers, bits: int) -> NDArray[np.int64]:
    return (hashes >> np.uint64(64 - bits)).astype(np.int64) + 1


def _mixed(numbers: _Numbers) -> _Numbers:
    """Spread numbers over all bits."""
    for _ in range(2):
        numbers = (numbers ^ (numbers >> _HALF)) * _MIX
    return numbers ^ (numbers >> _HALF)


def kind_of(character: int) -> int:
    """Return whether a character is `BLANK`, a `SIGN` or a `MARK`, each of which is a word, or a `LETTER`."""
    letter = chr(character)
    category = unicodedata.category(letter)
    if letter.isspace() or category[0] == "C":
        return BLANK
    if category[0] not in "LNM" and letter != "_":
        return MARK
    return SIGN if any(first <= character <= last for first, last in _UNSPACED) else LETTER


_known_kind = functools.cache(kind_of)
