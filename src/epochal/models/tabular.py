"""From the features of a table to numbers that linear layers can use."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from epochal.data.inputs.table.rule import TableRule
from epochal.data.spec import DataSpec

# The most numbers by which a category is represented.
_WIDTH = 8

# How far the embeddings of categories are apart at the start.
_SPREAD = 0.3


class Embed(nn.Module):
    """What `ScaleTable` gives as numbers that linear layers can use: [n, features] as [n, width].

    Scores stay, beside the share of each of their intervals that lies below them (a piecewise-linear encoding: Gorishniy et al. 2022);
    codes become learned vectors.
    """

    below: Tensor
    scale: Tensor
    places: Tensor
    starts: Tensor

    def __init__(self, rule: TableRule) -> None:
        super().__init__()
        self.scores, self.plain = rule.numbers, rule.numbers + rule.flags
        edges = [column.edges for column in rule.columns if column.is_number]
        pairs = [(place, low, high) for place, row in enumerate(edges) for low, high in itertools.pairwise(row)]
        self.register_buffer("places", torch.tensor([place for place, _, _ in pairs], dtype=torch.long))
        self.register_buffer("below", torch.tensor([low for _, low, _ in pairs]))
        self.register_buffer("scale", torch.tensor([1 / (high - low) for _, low, high in pairs]))
        levels = torch.tensor(rule.levels, dtype=torch.long)
        self.register_buffer("starts", levels.cumsum(0) - levels)
        self.words = nn.Embedding(max(1, sum(rule.levels)), _WIDTH)
        nn.init.normal_(self.words.weight, 0, _SPREAD)
        self.width = self.plain + len(pairs) + _WIDTH * len(rule.levels)

    def forward(self, features: Tensor) -> Tensor:
        """Return plain numbers, shares and vectors side by side."""
        shares = ((features[:, self.places] - self.below) * self.scale).clamp(0, 1)
        vectors = self.words(features[:, self.plain :].long() + self.starts)
        return torch.cat([features[:, : self.plain], shares, vectors.flatten(1)], 1)


def dense(spec: DataSpec) -> tuple[list[nn.Module], int]:
    """Return the layers that turn an input into a row of numbers for linear layers, and the length of that row."""
    if isinstance(spec.input, TableRule):
        embed = Embed(spec.input)
        return [embed], embed.width
    return [nn.Flatten()], math.prod(spec.features)
