"""Which examples are shown with what the model says about them: the worst mistakes, and some that it gets right.

Figures and the report show the same ones.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from epochal.shown import counted
from epochal.tasks.base import Judged


class Block(NamedTuple):
    """Examples under a title, by index; `mark` stands before what is said of each, `is_wrong` if they are mistakes."""

    title: str
    places: list[int]
    mark: str = ""
    is_wrong: bool = True


def blocks(judged: Judged, wrong: int, right: int) -> list[Block]:
    """Return up to `wrong` mistakes, the most confident or largest first, and up to `right` right ones, evenly chosen; no empty block."""
    total = len(judged.weight)
    if judged.right is None:
        worst = judged.weight.argsort(descending=True, stable=True)[:wrong].tolist()
        return [Block(f"The largest errors of {counted(total, 'prediction')}", worst)]
    mistakes = (~judged.right).nonzero()[:, 0]
    worst = mistakes[judged.weight[mistakes].argsort(descending=True, stable=True)][:wrong].tolist()
    hits = judged.right.nonzero()[:, 0]
    evenly = hits[torch.linspace(0, len(hits) - 1, min(right, len(hits))).round().long()].tolist()
    found = [
        Block(f"✗ Wrong: {len(mistakes):,} of {total:,}, the most confident first", worst, "✗ "),
        Block(f"✓ Right: {len(hits):,} of {total:,}, evenly chosen", evenly, "✓ ", is_wrong=False),
    ]
    return [block for block in found if block.places]
