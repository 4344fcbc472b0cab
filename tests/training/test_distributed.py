"""What processes that train together have to tell each other: all of tests/distributed is about that, but for these."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from epochal.data.load import load
from epochal.models.build import assemble, build_net
from epochal.recipe import Recipe
from epochal.training.distributed import equal_buffers


class Counted(nn.Module):
    """A layer that changes a buffer of its own in each step."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.norm = nn.BatchNorm1d(3)


@pytest.mark.parametrize("is_whole", [False, True])
def test_only_what_steps_may_change_is_sent_in_each(is_whole: bool) -> None:
    data = load((["a good film", "a bad one"] * 9, [1, 0] * 9)).split(0.2, 0.2, 0)
    ours = assemble(build_net("bag", data.spec, {}), data.spec, Recipe().data, rescale=False)
    model = nn.ModuleDict({"ours": ours, "own": Counted()})
    names = {name for name, _ in model.named_buffers()}
    sent = names - {*equal_buffers(model, batch_norm=is_whole)}
    of_norm = {"own.norm.running_mean", "own.norm.running_var", "own.norm.num_batches_tracked"}
    assert "ours.preprocess.rows" in names
    assert sent == {"own.count"} | (set() if is_whole else of_norm)
    assert equal_buffers(Counted().norm, batch_norm=True) == ["running_mean", "running_var", "num_batches_tracked"]
