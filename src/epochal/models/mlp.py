"""Networks of fully connected layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from epochal.data.spec import DataSpec
from epochal.models.tabular import first_layers

_MOST_LAYERS = 1000


def linear(spec: DataSpec) -> nn.Module:
    """Return one linear layer on the flattened input: softmax regression, or linear regression."""
    return nn.Sequential(*first_layers(spec, len(spec.outputs)))


def mlp(spec: DataSpec, widths: Sequence[int] = (128, 64), dropout: float = 0.0) -> nn.Module:
    """Return linear layers of these widths with ReLU between them, optionally with dropout after each."""
    check_widths(widths)
    first, *others = (*widths, len(spec.outputs))
    layers = first_layers(spec, first)
    for width, wider in zip(widths, others, strict=True):
        layers.append(nn.ReLU())
        if dropout:
            layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear(width, wider))
    return nn.Sequential(*layers)


def tabular(spec: DataSpec, widths: Sequence[int] = (128, 128), dropout: float = 0.2) -> nn.Module:
    """Return `mlp` with the widths and dropout that suit tables."""
    return mlp(spec, widths, dropout)


def check_widths(widths: Sequence[int]) -> None:
    """Raise `ValueError` for invalid widths, and for too many: even a narrow layer takes memory."""
    if len(widths) > _MOST_LAYERS or any(width < 1 for width in widths):
        raise ValueError(f"widths should be 1 or more, and at most {_MOST_LAYERS:,} of them")
