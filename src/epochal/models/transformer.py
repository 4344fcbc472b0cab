"""The blocks of transformers: attention and a small network, each added to its input."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """Attention between all places of a sequence, and a network of two layers on each; layer normalization before both.

    Sequences are float [n, length, width]; `heads` must divide the width.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} cannot be divided among {heads} heads")
        self.heads = heads
        self.before_attention = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.before_network = nn.LayerNorm(width)
        self.network = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, sequence: Tensor, is_there: Tensor | None = None) -> Tensor:
        """Return [n, length, width]; `is_there` (bool [n, length]) says which places others may look at: one at least in each."""
        count, length, width = sequence.shape
        parts = self.project(self.before_attention(sequence)).view(count, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mask = None if is_there is None else is_there[:, None, None, :]
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        sequence = sequence + self.dropout(self.merge(seen.transpose(1, 2).reshape(count, length, width)))
        found: Tensor = sequence + self.dropout(self.network(self.before_network(sequence)))
        return found


def stack(width: int, layers: int, heads: int, dropout: float) -> nn.ModuleList:
    """Return so many blocks, each for what the one before it gives. Raises `ValueError` for numbers that cannot be."""
    if min(width, layers, heads) < 1:
        raise ValueError("dim, layers and heads should be 1 or more")
    return nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))


def mean_over(sequence: Tensor, is_there: Tensor) -> Tensor:
    """Return the mean of [n, length, width] over the places that are there: [n, width]."""
    weights = is_there.to(sequence.dtype)
    return torch.einsum("nlw,nl->nw", sequence, weights) / weights.sum(1, keepdim=True).clamp(min=1)
