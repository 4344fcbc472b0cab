"""From the features of a table to numbers that linear layers can use."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

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
        starts = [*itertools.accumulate(rule.levels, initial=0)][:-1]
        self.register_buffer("starts", torch.tensor(starts, dtype=torch.long))
        self.words = nn.Embedding(max(1, sum(rule.levels)), _WIDTH)
        nn.init.normal_(self.words.weight, 0, _SPREAD)
        self.learned = _WIDTH * len(rule.levels)
        self.width = self.plain + len(pairs) + self.learned

    def forward(self, features: Tensor) -> Tensor:
        """Return plain numbers, shares and vectors side by side."""
        # Columns are rows here, whose values lie side by side: then repeating them takes a tenth of the time.
        plain = features[:, : self.plain].T.contiguous()
        shares = ((plain.index_select(0, self.places) - self.below[:, None]) * self.scale[:, None]).clamp(0, 1)
        vectors = self.words(features[:, self.plain :].long() + self.starts)
        return torch.cat([plain, shares, vectors.flatten(1).T]).T


class First(nn.Linear):
    """The linear layer after `Embed`. The first of its inputs, `fixed`, come from no parameter: no gradient is computed for them."""

    def __init__(self, embed: Embed, outputs: int) -> None:
        super().__init__(embed.width, outputs)
        self.fixed = embed.width - embed.learned

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  as in PyTorch
        """Return a linear function of the inputs."""
        fixed, learned = input[:, : self.fixed].detach(), input[:, self.fixed :]
        return functional.linear(fixed, self.weight[:, : self.fixed], self.bias) + functional.linear(learned, self.weight[:, self.fixed :])


def first_layers(spec: DataSpec, outputs: int) -> list[nn.Module]:
    """Return the layers that turn an input into the outputs of a first linear layer."""
    if isinstance(spec.input, TableRule):
        embed = Embed(spec.input)
        return [embed, First(embed, outputs)]
    return [nn.Flatten(), nn.Linear(math.prod(spec.features), outputs)]
