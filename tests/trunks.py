"""Pre-trained models, made small and with weights at random: what is asked of their surroundings takes a fraction of the time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from epochal.data.inputs.text.rule import TextRule
from epochal.data.spec import DataSpec
from epochal.models.build import MODELS
from epochal.models.pretrained import efficientnet, pictures
from epochal.models.pretrained.bert import Bert
from epochal.models.pretrained.head import with_head
from epochal.models.pretrained.texts import Average
from epochal.models.pretrained.weights import Weights

# Blocks, kernel, stride, expansion and width, of stages that are as many as in the real one.
_STAGES = [(1, 3, 1, 1, 8), (2, 3, 2, 2, 8), (1, 5, 2, 2, 8), (1, 3, 1, 2, 8), (1, 3, 1, 2, 16), (2, 5, 2, 2, 16), (1, 3, 1, 2, 24)]
_LAST = 24


def _minilm(spec: DataSpec) -> nn.Sequential:
    return with_head(Bert(_rows(spec), places=512, width=24, layers=2, heads=2, inner=32), 24, spec)


def _wordllama(spec: DataSpec) -> nn.Sequential:
    return with_head(Average(_rows(spec), 16), 16, spec)


def _rows(spec: DataSpec) -> int:
    assert isinstance(spec.input, TextRule)
    return spec.input.rows


def shrink(patch: pytest.MonkeyPatch) -> None:
    """Make the pre-trained models small until `patch` is undone. What the packages of their weights hold is not read."""
    stage = type(efficientnet._STAGES[0])
    patch.setattr(efficientnet, "_STAGES", tuple(stage(*values) for values in _STAGES))
    patch.setattr(efficientnet, "_FIRST", 8)
    patch.setattr(efficientnet, "_LAST", _LAST)
    patch.setattr(pictures, "FEATURES", _LAST + _STAGES[-2][-1])
    for name, build in (("minilm", _minilm), ("wordllama", _wordllama)):
        patch.setitem(MODELS, name, MODELS[name]._replace(build=build))
    patch.setattr(Weights, "load_into", _load_into)


def _load_into(weights: Weights, trunk: nn.Module) -> dict[str, str]:
    """Stand in for `Weights.load_into`: weights that are the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for module in trunk.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.Embedding):
                module.reset_parameters()
    return {}
