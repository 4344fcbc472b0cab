"""Texts: numbers of their n-grams with counts, or of their words or pieces of words in order; padded with 0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from epochal.data.inputs.base import InputRule, Items, type_name
from epochal.data.inputs.table.files import is_table
from epochal.data.inputs.table.values import names_of, rows_of
from epochal.data.inputs.text.augment import WordDropout
from epochal.data.inputs.text.features import Features, hashed_ngrams, hashed_words, normalized, places_in
from epochal.data.inputs.text.layer import Marked, Ngrams, Words
from epochal.data.inputs.text.pieces import KINDS, MOST, Pieces, installed_vocabulary, packed, read_pieces, unpacked
from epochal.data.inputs.text.read import Text, decoded, is_file, read_text
from epochal.data.inputs.values import Inputs
from epochal.data.walk import TEXTS, files_below
from epochal.errors import DataError, RecipeError, suggest
from epochal.language import translated
from epochal.recipe import AugmentSettings

Tokens = Literal["ngrams", "words", "wordpiece", "bpe"]

# The most n-grams, words or pieces of words of one text, whatever the texts.
MAX_LENGTH = {"ngrams": 4096, "words": 256, **{name: kind.longest for name, kind in KINDS.items()}}

# The length is that of this share of the training texts, or of the longest if that is not much longer.
_WHOLE, _LONGER = 0.99, 1.25

# Of pieces, it is at least this, and a power of two: those of a few texts would cut others off, and the features of the same texts would be
# other ones for each choice of training texts.
_LEAST_PIECES = 64

# Weights are kept in steps of a twelfth, as bytes: the weight of an n-gram in one text of a thousand million is 21.
_STEP = 12

# An n-gram or word that only one training text has says nothing of others.
_LEAST_TEXTS = 2

# The length is chosen for texts of so many characters, taken evenly from all.
_MEASURED = 1 << 24

# Texts are encoded and measured so many at a time, or fewer if their inputs have more numbers than this.
_AT_ONCE, _NUMBERS = 20_000, 1 << 23

_SHOWN = 60


class Measured(NamedTuple):
    """A rule, what it makes of the texts it was chosen for, if it was chosen for all, and the share of their features that it cuts off."""

    rule: TextRule
    features: Features | None
    cut: float


class TextRule(InputRule):
    """How any text becomes an input: the same for training, evaluation and prediction.

    With `tokens` "ngrams", inputs are int32 [2, length]: the numbers of a text's n-grams (see `features`), and how often each occurs. With
    "words", they are [length]: the numbers of its words in order. Numbers are hashes from 1 to 2 ** `bits`; 0 is padding. With "wordpiece"
    or "bpe", they are those of pieces of words in a `vocabulary` (see `pieces`), which is packed.

    `known` says which numbers the training texts have, and what they weigh (their inverse document frequency): a byte for each in
    steps of a twelfth, 0 for unknown ones, compressed, as base64. It is empty until it is measured; then all count alike.

    `columns` and `target` are those that the texts and targets were read from, if they were in a table.
    """

    noun: ClassVar[str] = "text"
    preset: ClassVar[str] = "text"
    is_distinct: ClassVar[bool] = True
    has_quantities: ClassVar[bool] = False
    can_augment: ClassVar[bool] = True
    measured: ClassVar[tuple[str, ...]] = ("known",)

    kind: Literal["text"] = "text"
    dtype: Literal["int32"] = "int32"
    shape: tuple[PositiveInt, ...]
    tokens: Tokens
    bits: int = Field(20, ge=4, le=22)
    columns: tuple[str, ...] = ()
    target: str = ""
    known: str = Field("", repr=False)
    vocabulary: str = Field("", repr=False)

    @model_validator(mode="after")
    def _check_known(self) -> Self:
        if len(self.shape) != (2 if self.tokens == "ngrams" else 1) or (self.tokens == "ngrams" and self.shape[0] != 2):
            raise ValueError(f"{self.tokens} do not have the shape {self.shape}")
        if self.length > MAX_LENGTH[self.tokens]:
            raise ValueError(f"a text of {self.length:,} {self.tokens} is longer than the limit of {MAX_LENGTH[self.tokens]:,}")
        if (self.tokens in KINDS) != bool(self.vocabulary):
            raise ValueError(f"{self.tokens} have {'a' if self.tokens in KINDS else 'no'} vocabulary")
        _ = self._weights, self.pieces  # They may be damaged.
        return self

    @classmethod
    def choose(cls, sample: Tensor, split: str, notes: list[str]) -> Self:  # noqa: ARG003
        """Refuse numbers: texts are strings."""
        raise DataError(
            f"Inputs of {split} are {type_name(sample.dtype)}, not texts.", 'Pass a list of strings, or leave input="text" out.'
        )

    @classmethod
    def measure(cls, texts: Sequence[str], tokens: Tokens, vocabulary: str = "") -> Measured:
        """Return the rule for training texts, whose length is chosen so that hardly anything of them is cut off.

        `vocabulary` is that of the pieces, packed; without one, it is that of the package that has pieces of this kind.
        """
        some = texts[:: max(1, -(-sum(map(len, texts)) // _MEASURED))]
        if tokens in KINDS and not vocabulary:
            vocabulary = installed_vocabulary(tokens)
        rule = cls(shape=(2, 1) if tokens == "ngrams" else (1,), tokens=tokens, vocabulary=vocabulary)
        found = rule._features(some)
        counts = np.bincount(found.texts, minlength=len(some))
        longest, usual = int(counts.max()), int(np.quantile(counts, _WHOLE, method="higher"))
        needed = longest if longest <= _LONGER * usual else usual
        if rule.pieces is not None:
            needed = max(_LEAST_PIECES, 1 << max(needed - 1, 0).bit_length())
        length = max(1, min(needed, MAX_LENGTH[tokens]))
        cut = float(np.maximum(counts - length, 0).sum() / max(counts.sum(), 1))
        rule = rule.model_copy(update={"shape": (*rule.shape[:-1], length)})
        return Measured(rule, found if len(some) == len(texts) else None, cut)

    @property
    def length(self) -> int:
        """The most n-grams or words of a text that are used."""
        return self.shape[-1]

    @property
    def at_once(self) -> int:
        """How many texts to handle together."""
        return max(1, min(_AT_ONCE, _NUMBERS // self.size))

    @property
    def weights(self) -> NDArray[np.uint8]:
        """What each number weighs, in steps of a twelfth; 0: unknown."""
        return np.frombuffer(self._weights, np.uint8)

    @cached_property
    def _weights(self) -> bytes:
        count = 1 << self.bits
        if not self.known:
            return bytes([_STEP]) * count
        try:
            weights = unpacked(self.known, count)
        except ValueError as error:
            raise ValueError(f"known is damaged: {error}") from error
        if len(weights) != count:
            raise ValueError(f"known is not a byte for each of {count:,} numbers")
        return weights

    @cached_property
    def pieces(self) -> Pieces | None:
        """The pieces of the vocabulary, if there is one."""
        return read_pieces(self.tokens, self.vocabulary) if self.vocabulary else None

    @property
    def most(self) -> int:
        """The largest number in inputs."""
        return 1 << self.bits if self.pieces is None else len(self.pieces.ids) - 1

    @property
    def features(self) -> tuple[int, ...]:
        """With the marks around a text, if its pieces have any."""
        return self.shape if self.pieces is None or self.pieces.marks is None else (self.length + 2,)

    @property
    def rows(self) -> int:
        """How many numbers networks tell apart: 0 is padding; of hashes, 1 is everything unknown."""
        return len(self.pieces.ids) if self.pieces is not None else 2 + int(np.count_nonzero(self.weights))

    @property
    def sample(self) -> tuple[str, ...]:
        """A text."""
        return "--text", translated("a new text")

    @property
    def script(self) -> tuple[str, ...]:
        """Files of text, and how they are split."""
        return "text", self.tokens if self.vocabulary else "hashed"

    @property
    def script_files(self) -> Mapping[str, bytes]:
        """The pieces of the vocabulary, one a line."""
        return {"vocabulary.txt": unpacked(self.vocabulary, MOST)} if self.vocabulary else {}

    @property
    def default_model(self) -> str:
        """The network that is for such tokens."""
        return {"ngrams": "bag", "words": "gru", "wordpiece": "minilm", "bpe": "wordllama"}[self.tokens]

    @property
    def key(self) -> bytes:
        """A key that differs between rules that make other inputs of the same texts."""
        return f"{self.tokens} {self.length} {self.bits} {self.vocabulary}".encode()

    def content(self, text: str) -> bytes:
        """Return what the input of a text is made of: texts in which it is equal are the same example."""
        # Pieces may differ with case.
        return (normalized(text) if self.pieces is None else text).encode("utf-8", "surrogatepass")

    def _features(self, texts: Sequence[str], most: int | None = None) -> Features:
        if self.pieces is not None:
            return self.pieces.features(texts, most)
        return hashed_ngrams(texts, self.bits, most) if self.tokens == "ngrams" else hashed_words(texts, self.bits)

    def encode(self, texts: Sequence[str], features: Features | None = None) -> Tensor:
        """Return inputs [n, *shape] for texts; `features` are theirs, if they are known and none has to be cut off."""
        if features is None or not len(features.texts) or int(np.bincount(features.texts).max()) > self.length:
            features = self._features(texts, self.length)
        inputs = np.zeros((len(texts), *self.shape), np.int32)
        places = places_in(features.texts)
        if self.tokens == "ngrams":
            inputs[features.texts, 0, places], inputs[features.texts, 1, places] = features.ids, features.counts
        else:
            is_in = places < self.length
            inputs[features.texts[is_in], places[is_in]] = features.ids[is_in]
        return torch.from_numpy(inputs)

    def learn(self, inputs: Inputs) -> Self:
        """Return the rule with the numbers that more than one training text has, and their weights; a vocabulary stays as it is."""
        if self.pieces is not None:
            return self
        texts = np.zeros(2**self.bits + 1, np.int64)
        for index in torch.arange(len(inputs)).split(self.at_once):
            ids = inputs[index].numpy().astype(np.int64)
            # A text has each n-gram once, but may have a word more often.
            ids = ids[:, 0] if self.tokens == "ngrams" else np.unique(np.arange(len(ids))[:, None] << 32 | ids) & 0xFFFFFFFF
            texts += np.bincount(ids.ravel(), minlength=len(texts))
        weights = np.round(_STEP * (np.log((1 + len(inputs)) / (1 + texts[1:])) + 1))
        weights[texts[1:] < min(_LEAST_TEXTS, len(inputs))] = 0
        known = packed(np.clip(weights, 0, 255).astype(np.uint8).tobytes())
        # Not model_copy, which would take the cached weights along.
        return type(self).model_validate({**self.model_dump(), "known": known})

    def lengths(self, inputs: Inputs) -> Tensor:
        """Return how many n-grams, words or pieces each input has."""
        pieces = torch.arange(len(inputs)).split(self.at_once)
        return torch.cat([(inputs[index].reshape(len(index), -1, self.length)[:, 0] > 0).sum(1) for index in pieces])

    def cast(self, inputs: Tensor, given: str, asked: str) -> Tensor:
        """Return numbers as int32, if they are what this rule makes of texts."""
        low, high = (int(inputs.min()), int(inputs[:, 0].max() if self.tokens == "ngrams" else inputs.max())) if len(inputs) else (0, 0)
        if inputs.is_floating_point() or low < 0 or high > self.most:
            raise DataError(f"{given} no numbers of {self.tokens}; {asked} up to {self.most:,}.", "Pass texts.")
        return inputs.int()

    def blank(self, inputs: Inputs) -> tuple[str, str]:
        """Return what is wrong if no training text has a word. The search ends at the first that has one."""
        if any(bool(inputs[index].any()) for index in torch.arange(len(inputs)).split(self.at_once)):
            return "", ""
        return "all training texts are empty", "check the files, or the column"

    def preprocess(self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> nn.Module:
        """Return the layer from hashes to the rows of an embedding; with n-grams, their weights too (see `layer`)."""
        if mean is not None or std is not None:
            raise RecipeError("The settings data.mean and data.std are not for texts.", "Leave them out.")
        if self.pieces is not None:
            return nn.Identity() if self.pieces.marks is None else Marked(*self.pieces.marks)
        rows = np.zeros(2**self.bits + 1, np.int32)
        is_known = self.weights > 0
        rows[1:] = np.where(is_known, np.cumsum(is_known) + 1, 1)
        if self.tokens == "words":
            return Words(torch.from_numpy(rows))
        weights = np.concatenate(([0, 0], self.weights[is_known] / _STEP)).astype(np.float32)
        return Ngrams(torch.from_numpy(rows), torch.from_numpy(weights))

    def augment(self, settings: AugmentSettings, seed: int) -> WordDropout | None:
        """Return the function that leaves words out."""
        super().augment(settings, seed)
        return WordDropout(settings.word_dropout, seed) if settings.word_dropout else None

    def accept(self, item: Any) -> Tensor:
        """Return the input of a text, or of the file that it names."""
        if isinstance(item, Path) or (isinstance(item, str) and is_file(item)):
            item = read_text(Path(item))
        return self.encode([item]) if isinstance(item, str) else super().accept(item)

    def read_content(self, content: bytes, name: str) -> Tensor:
        """Return the input [1, *shape] of the text in the content of a file."""
        return self.encode([decoded(content, name)])

    def items(self, item: Any) -> Items:
        """Return the texts in a folder, or the item itself."""
        if isinstance(item, Path) and self.columns and is_table(item) and item.is_file():
            return Items(list(self._rows(item)))
        if isinstance(item, str | Path) and is_file(str(item) if isinstance(item, Path) else item, folder=True):
            inside, skipped = files_below(TEXTS, Path(item))
            return Items([Path(file) for file in inside], skipped)
        return Items([item])

    def _rows(self, path: Path) -> Iterator[Text]:
        """Yield the texts of a table, named by their lines."""
        # Where columns are numbers, the files of training had no header.
        header = not all(map(str.isdigit, self.columns))
        names = names_of(path, header)
        lacking = next((name for name in self.columns if name not in names), None)
        if lacking is not None:
            raise DataError(f"{path} has no column '{lacking}', which the model reads.", suggest(lacking, names))
        rows, lines = rows_of(path, self.columns, header=header)
        for row, line in zip(rows, lines or range(len(rows)), strict=True):
            yield Text(" ".join(row), f"{path}:{line}")

    def title(self, item: Any) -> str | None:
        """Return the file, or the beginning of the text."""
        if not isinstance(item, str):
            return super().title(item)
        if isinstance(item, Text) and item.name:
            return item.name
        words = " ".join(item.split())
        return words if len(words) <= _SHOWN else words[: _SHOWN - 1] + "…"
