"""Findings in pictures in memory: blank ones, and nearly equal ones."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from epochal.checks.copies import Loaded, about_single
from epochal.checks.findings import Case, Finding
from epochal.checks.survey import SIDE
from epochal.shown import counted


def picture_findings(data: Loaded) -> Iterator[Finding]:
    """Yield findings in pictures."""
    if not data.rule.is_bytes:
        return
    flat = torch.cat([values.flatten(1) for values in data.inputs])
    blank = (flat == flat[:, :1]).all(1).nonzero().flatten().tolist()
    if blank:
        words = f"{counted(len(blank), 'blank picture')}: one colour everywhere"
        fix = "Remove them, unless that is a class of yours."
        yield Finding("warning", "blank", words, fix, tuple(Case((data.among.name(place),)) for place in blank))
    if min(data.rule.side) >= SIDE:
        small = [_small(values) for values in data.inputs]
        yield from about_single(
            torch.cat([thumb for thumb, _ in small]), torch.cat([colour for _, colour in small]), data.groups, data.among
        )


def _small(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Return grey thumbnails (uint8 [n, side, side]) and mean colours (float32 [n, 3]) of pictures (uint8 [n, channels, height, width])."""
    thumbs, colours = [], []
    for some in pictures.split(2048):
        levels = torch.nn.functional.adaptive_avg_pool2d(some.float(), SIDE)
        thumbs.append(levels.mean(1).round().to(torch.uint8))
        means = levels.mean((2, 3))
        colours.append(means if means.shape[1] == 3 else means.mean(1, keepdim=True).expand(-1, 3))
    return torch.cat(thumbs), torch.cat(colours)
