"""Transformers over patches: of pictures (ViT), and of the spectrograms of sounds (AST)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from epochal.data.inputs.sound.mel import FLOOR, levels
from epochal.data.inputs.sound.rule import SoundRule
from epochal.data.spec import DataSpec
from epochal.models.transformer import mean_over, stack

# By default, a side of a picture has at most so many patches.
_MOST = 8

# Positions begin about as large as what a patch shows, so that they count from the first step.
_SPREAD = 0.5

# A column of a spectrogram is there if a band has this much more energy than silence.
_MORE = 1.01


class Patches(nn.Module):
    """Squares of a picture [channels, height, width] as a sequence [places, width], with a learned position for each row and column.

    What is missing in the last row and column of squares is filled up with zeros.
    """

    no_weight_decay = ("rows", "columns")

    def __init__(self, channels: int, height: int, width: int, patch: int, dim: int) -> None:
        super().__init__()
        if patch < 1:
            raise ValueError("patch should be 1 or more")
        rows, columns = -(-height // patch), -(-width // patch)
        self.missing = (0, columns * patch - width, 0, rows * patch - height)
        self.project = nn.Conv2d(channels, dim, patch, patch)
        self.rows = nn.Parameter(torch.randn(rows, dim) * _SPREAD)
        self.columns = nn.Parameter(torch.randn(columns, dim) * _SPREAD)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the sequence, row by row."""
        squares = self.project(functional.pad(pictures, self.missing)).permute(0, 2, 3, 1)
        sequence: Tensor = (squares + self.rows[:, None] + self.columns).flatten(1, 2)
        return sequence


class Vit(nn.Module):
    """Blocks of attention between the patches of a picture, and the mean over them (Dosovitskiy et al., ICLR 2021)."""

    def __init__(self, patches: Patches, outputs: int, dim: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.patches = patches
        self.drop = nn.Dropout(dropout)
        self.blocks = stack(dim, layers, heads, dropout)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, outputs)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return outputs [n, outputs] for pictures [n, channels, height, width]."""
        sequence = self.drop(self.patches(pictures))
        for block in self.blocks:
            sequence = block(sequence)
        outputs: Tensor = self.head(self.norm(sequence).mean(1))
        return outputs


class Ast(Vit):
    """The same for spectrograms (Gong et al., Interspeech 2021), whose silent columns are masked: padding never changes an output."""

    silence: Tensor
    audible: Tensor

    def __init__(self, rule: SoundRule, patches: Patches, outputs: int, dim: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__(patches, outputs, dim, layers, heads, dropout)
        self.register_buffer("silence", levels(FLOOR, rule.mean, rule.std))
        self.register_buffer("audible", levels(_MORE * FLOOR, rule.mean, rule.std) - self.silence)

    def forward(self, spectrograms: Tensor) -> Tensor:
        """Return outputs [n, outputs] for spectrograms [n, 1, bands, columns]."""
        # Silence is 0, as what fills up the last patch.
        above = spectrograms - self.silence
        columns = functional.pad((above > self.audible).any(2).flatten(1), self.patches.missing[:2])
        each = columns.unflatten(1, (len(self.patches.columns), -1)).any(2)
        is_there = each.repeat(1, len(self.patches.rows))
        # A silent sound looks at its first place.
        seen = is_there | (torch.arange(is_there.shape[1], device=is_there.device) == 0)
        sequence = self.drop(self.patches(above))
        for block in self.blocks:
            sequence = block(sequence, seen)
        outputs: Tensor = self.head(mean_over(self.norm(sequence), is_there))
        return outputs


def vit(spec: DataSpec, patch: int | None = None, dim: int = 64, layers: int = 4, heads: int = 4, dropout: float = 0.1) -> nn.Module:
    """Return a small transformer over squares of `patch` pixels; by default the smallest of which a side has at most 8."""
    channels, height, width = spec.features
    if patch is None:
        patch = -(-max(height, width) // _MOST)
    return Vit(Patches(channels, height, width, patch, dim), len(spec.outputs), dim, layers, heads, dropout)


def ast(spec: DataSpec, patch: int = 8, dim: int = 64, layers: int = 3, heads: int = 4, dropout: float = 0.1) -> nn.Module:
    """Return a small transformer over squares of a spectrogram: `patch` bands by `patch` columns, which are 10 ms apart."""
    assert isinstance(spec.input, SoundRule)
    channels, bands, columns = spec.features
    return Ast(spec.input, Patches(channels, bands, columns, patch, dim), len(spec.outputs), dim, layers, heads, dropout)
