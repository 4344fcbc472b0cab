"""A BERT encoder: pieces of words -> the mean of what its layers make of them.

Devlin et al., "BERT" (NAACL 2019). MiniLM (Wang et al., NeurIPS 2020) is a small one that was trained to give what a large one gives, and
Sentence-BERT (Reimers and Gurevych, EMNLP 2019) takes the mean over the pieces.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from epochal.models.transformer import mean_over

_EPSILON = 1e-12


class Layer(nn.Module):
    """Attention between all pieces, and a network of two layers on each; layer normalization after both."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.merge = (nn.Linear(width, width) for _ in range(4))
        self.after_attention = nn.LayerNorm(width, eps=_EPSILON)
        self.widen, self.narrow = nn.Linear(width, inner), nn.Linear(inner, width)
        self.after_network = nn.LayerNorm(width, eps=_EPSILON)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, is_there: Tensor) -> Tensor:
        """Return states [n, length, width]; `is_there` (bool [n, 1, 1, length]) says which are not padding."""
        query, key, value = (part(states).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value))
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=is_there)
        states = self.after_attention(states + self.dropout(self.merge(seen.transpose(1, 2).flatten(2))))
        found: Tensor = self.after_network(states + self.dropout(self.narrow(functional.gelu(self.widen(states)))))
        return found


class Bert(nn.Module):
    """The trunk: pieces int64 [n, length], where 0 is padding -> features [n, width] of length 1."""

    def __init__(self, rows: int, places: int, width: int, layers: int, heads: int, inner: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.pieces, self.positions = nn.Embedding(rows, width), nn.Embedding(places, width)
        # For the two texts of a pair; ours are all the first.
        self.parts = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=_EPSILON)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(Layer(width, heads, inner, dropout) for _ in range(layers))

    def forward(self, pieces: Tensor) -> Tensor:
        """Return the features of texts."""
        is_there = pieces > 0
        states = self.pieces(pieces) + self.parts.weight[0] + self.positions.weight[: pieces.shape[1]]
        states = self.dropout(self.norm(states))
        for layer in self.layers:
            states = layer(states, is_there[:, None, None])
        return functional.normalize(mean_over(states, is_there))
