"""The layer that turns rows of a table into what networks take: no gaps, numbers on one scale, codes counted from 0."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from epochal.data.inputs.table.columns import Column


class ScaleTable(nn.Module):
    """Rows [n, columns] (float32, NaN where missing) as [n, scores, flags, codes], float32.

    Numbers become scores by their ranks among the training examples, about normally distributed; a flag says whether a number is
    missing, for columns where some were; codes are those of categories, and of numbers with few distinct values, with 0 for what
    training did not have, or hardly.
    """

    numbers: Tensor
    knots: Tensor
    scores: Tensor
    middle: Tensor
    flags: Tensor
    categories: Tensor
    starts: Tensor
    sizes: Tensor
    codes: Tensor
    repeated: Tensor
    values: Tensor

    # Finds places in ascending numbers; see `exportable`.
    search: Callable[[Tensor, Tensor], Tensor] = staticmethod(torch.searchsorted)

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__()
        numbers = [place for place, column in enumerate(columns) if column.is_number]
        categories = [place for place, column in enumerate(columns) if not column.is_number]
        among = [columns[place] for place in numbers]
        self.register_buffer("numbers", torch.tensor(numbers, dtype=torch.long))
        self.register_buffer("knots", _padded([column.knots or (0.0,) for column in among], 2))
        self.register_buffer("scores", _padded([column.scores or (0.0,) for column in among], 2))
        middles = [column.knots[len(column.knots) // 2] if column.knots else 0.0 for column in among]
        self.register_buffer("middle", torch.tensor(middles))
        self.register_buffer("flags", torch.tensor([place for place in numbers if columns[place].missing], dtype=torch.long))
        repeated = [place for place, column in enumerate(among) if column.common]
        self.register_buffer("repeated", torch.tensor(repeated, dtype=torch.long))
        self.register_buffer("values", _padded([among[place].common for place in repeated], 1))
        tables = [_codes(columns[place]) for place in categories]
        sizes = torch.tensor([len(table) for table in tables], dtype=torch.long)
        self.register_buffer("categories", torch.tensor(categories, dtype=torch.long))
        self.register_buffer("sizes", sizes)
        self.register_buffer("starts", sizes.cumsum(0) - sizes)
        self.register_buffer("codes", torch.cat([torch.zeros(0), *tables]))

    def forward(self, rows: Tensor) -> Tensor:
        """Scale rows."""
        found = rows[:, self.numbers]
        filled = torch.where(found.isnan(), self.middle, found).T.contiguous()
        parts = [self._scaled(filled).T, rows[:, self.flags].isnan().float()]
        words = rows[:, self.categories]
        # Missing words have a code of their own, the last of each column.
        places = torch.where(words.isnan(), self.sizes - 1.0, words).long().clamp(min=0).minimum(self.sizes - 1)
        parts.append(self.codes[self.starts + places])
        if len(self.repeated):
            given = filled[self.repeated]
            near = self.search(self.values, given).clamp(max=self.values.shape[1] - 1)
            parts.append(torch.where(self.values.gather(1, near) == given, near + 1, 0).T.float())
        return torch.cat(parts, 1)

    def exportable(self) -> ScaleTable:
        """Return the same layer without binary search, which exported files cannot have: with comparisons to all numbers instead."""
        layer = copy.copy(self)
        layer.search = _count_below
        return layer

    def _scaled(self, numbers: Tensor) -> Tensor:
        """Return the scores of numbers [columns, n], by straight lines between knots, and constant beyond them."""
        above = self.search(self.knots, numbers).clamp(1, self.knots.shape[1] - 1)
        low, high = self.knots.gather(1, above - 1), self.knots.gather(1, above)
        share = ((numbers - low) / torch.where(high > low, high - low, 1.0)).clamp(0, 1)
        return torch.lerp(self.scores.gather(1, above - 1), self.scores.gather(1, above), share)


def _count_below(ascending: Tensor, values: Tensor) -> Tensor:
    """Return the same as `torch.searchsorted`, for [columns, k] and [columns, n]."""
    return (ascending[:, None] < values[..., None]).sum(-1)


def levels(column: Column) -> int:
    """Return the number of codes that the layer gives a column; 0 if it gives none."""
    if column.is_number:
        return len(column.common) + 1 if column.common else 0
    return len(column.common) + 1 + (column.missing > 0)


def _codes(column: Column) -> Tensor:
    """Return the code of each word: float32 [1 + words + 1], the last for missing ones; rare ones get that of unseen ones."""
    codes = torch.zeros(len(column.words) + 2)
    for code, word in enumerate(column.common, start=1):
        codes[int(word)] = code
    if column.missing:
        codes[-1] = len(column.common) + 1
    return codes


def _padded(rows: Sequence[Sequence[float]], least: int) -> Tensor:
    """Return rows of numbers as one tensor; shorter ones repeat their last number."""
    width = max([least, *map(len, rows)])
    return torch.tensor([[*row, *[row[-1]] * (width - len(row))] for row in rows], dtype=torch.float32).reshape(len(rows), width)
