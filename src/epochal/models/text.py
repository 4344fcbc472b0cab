"""Networks for texts. Padding is masked inside: it never changes an output."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from epochal.data.inputs.text.rule import TextRule
from epochal.data.spec import DataSpec
from epochal.models.transformer import mean_over, stack

# Rows of an embedding begin this small: those of words that training never has hardly count.
_SMALL = 0.05


class Bag(nn.Module):
    """The weighted sum of what is learned of each n-gram, then linear layers."""

    no_weight_decay = ("table.weight",)

    def __init__(self, rows: int, outputs: int, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError("dropout is not from 0 to below 1")
        self.table = _embedding(rows, dim)
        self.dropout = dropout
        layers = [nn.Linear(dim, hidden), nn.ReLU()] if hidden else []
        self.head = nn.Sequential(*layers, nn.Linear(hidden or dim, outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return outputs [n, outputs] for rows and weights [n, 2, length]."""
        weights = inputs[:, 1]
        if self.training and self.dropout:
            # Half as long as nn.Dropout.
            weights = weights * ((torch.rand_like(weights) >= self.dropout) / (1 - self.dropout))
        # A product with the rows is faster than embedding_bag, whose gradient sorts them.
        total = torch.bmm(weights[:, None], self.table(inputs[:, 0].long()))[:, 0]
        outputs: Tensor = self.head(total)
        return outputs


class Recurrent(nn.Module):
    """A recurrent layer over the words, and in the other direction another over the reversed words; maximum and mean of their outputs."""

    def __init__(self, kind: type[nn.GRU | nn.LSTM], rows: int, outputs: int, dim: int, hidden: int, dropout: float, *, both: bool) -> None:
        super().__init__()
        self.table = _embedding(rows, dim)
        self.drop = nn.Dropout(dropout)
        self.directions = nn.ModuleList(kind(dim, hidden, batch_first=True) for _ in range(2 if both else 1))
        self.head = nn.Linear(2 * hidden * len(self.directions), outputs)

    def forward(self, words: Tensor) -> Tensor:
        """Return outputs [n, outputs] for rows [n, length]."""
        is_there = words > 0
        found = []
        for number, layer in enumerate(self.directions):
            # Padding comes last in both directions, where it cannot change what was before it.
            states, _ = layer(self.drop(self.table(_reversed(words) if number else words)))
            lowest = states.new_full((), -1.0)
            found += [torch.where(is_there[..., None], states, lowest).amax(1), mean_over(states, is_there)]
        outputs: Tensor = self.head(self.drop(torch.cat(found, 1)))
        return outputs


class Transformer(nn.Module):
    """Words with learned positions, blocks of attention, and the mean over the words."""

    no_weight_decay = ("positions",)

    def __init__(self, rows: int, length: int, outputs: int, dim: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.table = _embedding(rows, dim)
        self.positions = nn.Parameter(torch.randn(length, dim) * _SMALL)
        self.drop = nn.Dropout(dropout)
        self.blocks = stack(dim, layers, heads, dropout)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, outputs)

    def forward(self, words: Tensor) -> Tensor:
        """Return outputs [n, outputs] for rows [n, length]."""
        is_there = words > 0
        sequence = self.drop(self.table(words) + self.positions[: words.shape[1]])
        # An empty text looks at its first place.
        seen = is_there | (torch.arange(words.shape[1], device=words.device) == 0)
        for block in self.blocks:
            sequence = block(sequence, seen)
        outputs: Tensor = self.head(mean_over(self.norm(sequence), is_there))
        return outputs


def bag(spec: DataSpec, dim: int | None = None, hidden: int = 0, dropout: float = 0.5) -> nn.Module:
    """Return a weighted bag of n-grams; `dropout` leaves out that share of the n-grams of a text in training.

    `dim` is how many numbers are learned of each; by default 4 for each output, 8 to 64: more do not help, and for two classes overfit.
    """
    outputs = len(spec.outputs)
    return Bag(_rows(spec), outputs, min(max(4 * outputs, 8), 64) if dim is None else dim, hidden, dropout)


def gru(spec: DataSpec, dim: int = 64, hidden: int = 64, bidirectional: bool = True, dropout: float = 0.5) -> nn.Module:
    """Return a gated recurrent network (GRU) over the words."""
    return Recurrent(nn.GRU, _rows(spec), len(spec.outputs), dim, hidden, dropout, both=bidirectional)


def lstm(spec: DataSpec, dim: int = 64, hidden: int = 64, bidirectional: bool = True, dropout: float = 0.5) -> nn.Module:
    """Return a recurrent network with long short-term memory (LSTM) over the words."""
    return Recurrent(nn.LSTM, _rows(spec), len(spec.outputs), dim, hidden, dropout, both=bidirectional)


def transformer(spec: DataSpec, dim: int = 64, layers: int = 2, heads: int = 4, dropout: float = 0.3) -> nn.Module:
    """Return a small transformer encoder over the words."""
    return Transformer(_rows(spec), spec.features[-1], len(spec.outputs), dim, layers, heads, dropout)


def _rows(spec: DataSpec) -> int:
    assert isinstance(spec.input, TextRule)
    return spec.input.rows


def _embedding(rows: int, dim: int) -> nn.Embedding:
    """Return an embedding with zeros for padding, row 0, which stays so."""
    table = nn.Embedding(rows, dim, padding_idx=0)
    nn.init.normal_(table.weight, 0, _SMALL)
    with torch.no_grad():
        table.weight[0] = 0
    return table


def _reversed(words: Tensor) -> Tensor:
    """Return the words of each row in reverse order, with padding still last."""
    places = (words > 0).sum(1, keepdim=True) - 1 - torch.arange(words.shape[1], device=words.device)
    return torch.where(places >= 0, words.gather(1, places.clamp(min=0)), 0)
