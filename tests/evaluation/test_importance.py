"""Permutation importance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from epochal.data.examples import Examples
from epochal.data.inputs.base import Cell
from epochal.evaluation.importance import alike_columns, importance
from epochal.recipe import LossSettings
from tests.conftest import SpecMaker


class Line(nn.Module):
    """The target is 2 a + b; c does not matter."""

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs @ torch.tensor([2.0, 1.0, 0.0]))[:, None]


def rows(count: int = 2000) -> Examples:
    inputs = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    return Examples(inputs, Line()(inputs), "test", torch.arange(count))


def test_it_is_what_the_formula_says_and_the_same_for_the_same_seed(make_spec: SpecMaker) -> None:
    spec, examples = make_spec("regression", ("y",), shape=(3,), mean=(0.0,) * 3, std=(1.0,) * 3), rows()
    before = examples.inputs[torch.arange(len(examples))].clone()
    loss = spec.task.loss(LossSettings())
    found = importance(Line(), examples, examples, spec, loss, seed=1)
    assert found is not None
    # Shuffling a column of variance 1 with the weight w adds 2 w^2 to the squared error.
    assert [one.column for one in found.columns] == ["number 0", "number 1", "number 2"]
    assert [one.loss for one in found.columns] == pytest.approx([8.0, 2.0, 0.0], rel=0.1)
    assert all(one.interval[0] <= one.loss <= one.interval[1] for one in found.columns)
    assert found.columns[2].interval == (0.0, 0.0)
    assert torch.equal(before, examples.inputs[torch.arange(len(examples))]), "the data stay as they are"
    assert found == importance(Line(), examples, examples, spec, loss, seed=1, batch_size=77)
    assert found != importance(Line(), examples, examples, spec, loss, seed=2)
    assert "number 0" in repr(found)


def test_where_it_would_take_long_or_there_are_no_columns_there_is_none(make_spec: SpecMaker) -> None:
    wide = make_spec("regression", ("y",), shape=(400,), mean=(0.0,) * 400, std=(1.0,) * 400)
    examples = Examples(torch.zeros(500, 400), torch.zeros(500, 1), "test", torch.arange(500))
    assert importance(Line(), examples, examples, wide, wide.task.loss(LossSettings())) is None
    blocks = make_spec("regression", ("y",), shape=(4, 5), mean=(0.0,), std=(1.0,))
    examples = Examples(torch.zeros(50, 4, 5), torch.zeros(50, 1), "test", torch.arange(50))
    assert importance(Line(), examples, examples, blocks, blocks.task.loss(LossSettings())) is None


def test_columns_that_say_the_same_are_named() -> None:
    generator = np.random.default_rng(0)
    a = generator.normal(size=500).astype(np.float32)
    level = np.digitize(a, [-1, 0, 1]).astype(np.float32) + 1
    other = generator.normal(size=500).astype(np.float32)
    gaps = np.exp(a) + 0.01 * other
    gaps[::7] = np.nan
    inputs = torch.from_numpy(np.stack([a, gaps, level, other, np.ones_like(a)], 1))
    cells = [Cell("a", "", True), Cell("exp a", "", True), Cell("level", "", False), Cell("other", "", True), Cell("constant", "", True)]
    found = alike_columns(Examples(inputs, torch.zeros(500, 1), "train", torch.arange(500)), cells)
    assert {frozenset(pair[:2]) for pair in found} == {frozenset(("a", "exp a")), frozenset(("a", "level")), frozenset(("exp a", "level"))}
    assert all(0.64 <= share <= 1.001 for *_, share in found)
