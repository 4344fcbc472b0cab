"""The layers before networks for texts: from numbers of words and n-grams to rows of an embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Words(nn.Module):
    """From hashed words int32 [n, length] to rows int64 [n, length]: 0 is padding, 1 an unknown word, 2 and more are known ones."""

    rows: Tensor

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows)

    def forward(self, words: Tensor) -> Tensor:
        """Look the rows up."""
        return self.rows[words.long()].long()


class Marked(nn.Module):
    """From pieces of words int32 [n, length], padded with 0, to int64 [n, length + 2]: with one before them, and one after."""

    def __init__(self, begin: int, end: int) -> None:
        super().__init__()
        self.begin, self.end = begin, end

    def forward(self, pieces: Tensor) -> Tensor:
        """Put the marks around each text."""
        after = (pieces > 0).sum(1, keepdim=True) + 1
        marked = functional.pad(functional.pad(pieces.long(), (1, 0), value=self.begin), (0, 1))
        return marked.scatter(1, after, self.end)


class Ngrams(nn.Module):
    """From hashed n-grams and their counts, int32 [n, 2, length], to rows and weights, float32 [n, 2, length].

    A row is a whole number: 0 is padding, 1 an unknown n-gram, which has no weight. The weight of an n-gram is its inverse document
    frequency, times 1 + the logarithm of its count; the weights of a text have norm 1.
    """

    rows: Tensor
    weights: Tensor

    def __init__(self, rows: Tensor, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows)
        self.register_buffer("weights", weights)

    def forward(self, inputs: Tensor) -> Tensor:
        """Look the rows up, and weigh them."""
        rows = self.rows[inputs[:, 0].long()].long()
        weights = self.weights[rows] * (1 + inputs[:, 1].clamp(min=1).float().log())
        norm = weights.square().sum(1, keepdim=True).sqrt().clamp(min=1e-6)
        return torch.stack((rows.float(), weights / norm), 1)
