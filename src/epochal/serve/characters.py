"""How texts are read, for programs in other languages: what each character is by this Python's version of Unicode, and the vocabulary."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Callable
from typing import Any

from epochal.data.inputs.text.features import BLANK, LETTER, MAX_CHARACTERS, kind_of
from epochal.data.inputs.text.pieces import plain
from epochal.data.inputs.text.rule import TextRule

# Nothing between words, a part of a word, a word by itself, as if it were not there, and what this version of Unicode has not.
_BLANK, _PART, _WORD, _ABSENT, _NEW = range(5)

# Added to these.
_CASED, _OVERLOOKED = 8, 16


def reading(rule: TextRule) -> dict[str, Any]:
    """Return what `standalone/hashed.js` and `pieces.js` need to read texts as `rule` does."""
    told = {"tokens": rule.tokens, "bits": rule.bits, "most": MAX_CHARACTERS, "vocabulary": list(rule.pieces.ids) if rule.pieces else []}
    # Pairs of bytes are merged whatever they mean.
    kind = {"wordpiece": _of_pieces, "bpe": None}.get(rule.tokens, _of_hashed)
    return {**told, "characters": _runs(kind) if kind else []}


def _of_hashed(code: int) -> int:
    return {BLANK: _BLANK, LETTER: _PART}.get(kind_of(code), _WORD) | _case(chr(code))


def _case(letter: str) -> int:
    """Return what a character is for the lower case of a sigma beside it: a letter with case, overlooked, or neither."""
    if f"AΣ{letter}".lower()[1] == "σ":
        return _CASED
    return _OVERLOOKED if f"AΣ{letter}A".lower()[1] == "σ" else 0


def _of_pieces(code: int) -> int:
    read = plain(chr(code))
    return {" ": _BLANK, "": _ABSENT}.get(read, _WORD if read[0:1] == " " else _PART)


def _runs(kind: Callable[[int], int]) -> list[int]:
    """Return the first of those characters that follow each other with the same kind, and that kind, one after the other."""
    kinds = (_NEW if unicodedata.category(chr(code)) == "Cn" else kind(code) for code in range(0x110000))
    first, runs = 0, list[int]()
    for value, run in itertools.groupby(kinds):
        runs += first, value
        first += len(list(run))
    return runs
