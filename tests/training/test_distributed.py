"""What processes that train together have to tell each other: all of tests/distributed is about that, but for these."""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import epochal
from epochal.data.load import Data, load
from epochal.models.build import MODELS, assemble, build_net
from epochal.recipe import Recipe
from epochal.training.distributed import equal_buffers
from tests.training.traced.test_kinds import CASES


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


def _pictures(shape: tuple[int, ...]) -> Data:
    random = np.random.default_rng(0)
    return load((random.integers(256, size=(60, *shape), dtype=np.uint8), np.arange(60) % 10))


def _numbers(dtype: str) -> Data:
    inputs = np.random.default_rng(0).integers(10**6, 10**6 + 9, size=(60, 3)).astype(dtype)
    return load((inputs, inputs.sum(1) / 7.0))


# What each network is trained on; and numbers of all kinds, with quantities as targets.
_PICTURES = [name for name, entry in MODELS.items() if entry.kind in ("picture", None) and entry.weights is None]
LEARNED: list[tuple[str, Callable[[], Data]]] = [
    *((name, partial(_pictures, (3, 32, 32) if name == "tutorial-cifar" else (1, 28, 28))) for name in _PICTURES),
    *CASES.items(),
    *(("mlp", partial(_numbers, dtype)) for dtype in ("int64", "float32", "float64")),
]
# These are made of another layer, to be exported.
NEVER_TRAINED = {"_Convolved"}


def _layers_with_buffers() -> set[str]:
    """The names of our own layers that register buffers."""
    package, found = Path(epochal.__file__).parent, set[str]()
    for file in package.rglob("*.py"):
        if package / "ejected" not in file.parents:
            for kind in (node for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.ClassDef)):
                called = (node.func.attr for node in ast.walk(kind) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
                found |= {kind.name} if "register_buffer" in called else set()
    return found


def test_what_is_not_sent_is_never_changed() -> None:
    """Neither steps nor validation change a bit of the buffers of our own layers: each of them is tried."""
    seen = set[str]()
    for name, data_of in LEARNED:
        data = data_of().split(0.2, 0.2, 0)
        model = assemble(build_net(name, data.spec, {}), data.spec, Recipe().data, rescale=True)
        buffers = dict(model.named_buffers())
        before = {buffer: buffers[buffer].clone() for buffer in equal_buffers(model, batch_norm=False)}
        weights = [parameter.detach().clone() for parameter in model.parameters()]
        epochal.fit(model, data, {"max_steps": 3, "batch_size": 16, "device": "cpu", "threads": 1, "step": "plain"})
        after = dict(model.named_buffers())
        assert [buffer for buffer, values in before.items() if not torch.equal(values, after[buffer])] == [], name
        assert not all(map(torch.equal, weights, model.parameters())), name
        seen |= {type(layer).__name__ for layer in model.modules() if [*layer.buffers(recurse=False)]}
    assert _layers_with_buffers() - NEVER_TRAINED <= seen
