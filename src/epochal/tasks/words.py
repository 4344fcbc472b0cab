"""Words for many examples, in little memory: each word once, and its number for each example."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Words(Sequence[str]):
    """A word for each example, such as the name of its class. Of a million examples, a list would take twice as much.

    `codes` (int32 [n]) are places in `words`, each of which occurs; a word may be there more than once.
    """

    def __init__(self, words: Sequence[str], codes: NDArray[np.int32]) -> None:
        self.words = tuple(words)
        self.codes = codes

    @classmethod
    def of(cls, words: Sequence[str]) -> Words:
        """Return any sequence of words in this form."""
        if isinstance(words, Words):
            return words
        places: dict[str, int] = {}
        codes = np.fromiter((places.setdefault(word, len(places)) for word in words), np.int32, len(words))
        return cls(tuple(places), codes)

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: Any) -> Any:
        return self.take(index) if isinstance(index, slice) else self.words[self.codes[index]]

    def __iter__(self) -> Iterator[str]:
        return map(self.words.__getitem__, self.codes.tolist())

    def take(self, index: Any) -> Words:
        """Return the words at `index` (integers [n]), in that order; those that none of them has are left out."""
        used, codes = np.unique(self.codes[index], return_inverse=True)
        return Words([self.words[place] for place in used.tolist()], codes.astype(np.int32))

    def first(self, places: Sequence[int]) -> int:
        """Return the index of the first example whose word is at one of these places in `words`; one must be."""
        return int(np.isin(self.codes, places).argmax())
