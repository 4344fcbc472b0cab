"""Muon: what becomes of matrices, and of all else."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from epochal.training.muon import Muon, orthogonal


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000), st.sampled_from([1e-3, 1.0, 1e4]))
def test_singular_values_come_near_one(rows: int, columns: int, seed: int, size: float) -> None:
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * size
    made = orthogonal(matrix, rounds=12)
    assert made.shape == matrix.shape
    left, _, right = torch.linalg.svd(made, full_matrices=False)
    values = torch.linalg.svdvals(made) / max(1.0, rows / columns) ** 0.5
    # The quintic does not come to rest, but stays between.
    assert bool(((values > 0.6) & (values < 1.3)).all())
    first, _, second = torch.linalg.svd(matrix, full_matrices=False)
    assert torch.allclose(left @ right, first @ second, atol=1e-2)


def test_no_gradient_is_no_step() -> None:
    assert not orthogonal(torch.zeros(3, 5)).any()
    layers = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    before = [parameter.detach().clone() for parameter in layers.parameters()]
    Muon(layers.parameters()).step()
    assert all(torch.equal(old, new) for old, new in zip(before, layers.parameters(), strict=True))


def test_all_but_hidden_matrices_takes_the_steps_of_nesterov() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    theirs = [nn.Parameter(parameter.detach().clone()) for parameter in network.parameters()]
    ours = list(network.parameters())
    muon = Muon(ours, lr=0.5, momentum=0.8, plain_lr=0.1, head=[ours[4]])
    nesterov = torch.optim.SGD(theirs, lr=0.1, momentum=0.8, nesterov=True)
    for _ in range(3):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape)
            other.grad = mine.grad.clone()
        muon.step()
        nesterov.step()
    same = [torch.allclose(mine, other, atol=1e-6) for mine, other in zip(ours, theirs, strict=True)]
    assert same == [False, True, True, True, True, True]


def test_a_step_of_a_kernel_has_the_length_of_the_rate_in_all_directions() -> None:
    kernel, last = nn.Parameter(torch.zeros(4, 3, 2, 2)), nn.Parameter(torch.zeros(2, 4))
    kernel.grad = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    Muon([kernel, last], lr=0.1, head=[last]).step()
    values = torch.linalg.svdvals(kernel.detach().flatten(1))
    assert bool(((values > 0.06) & (values < 0.13)).all())
    assert not last.any()


def test_weight_decay_shrinks_hidden_matrices_at_the_rate() -> None:
    hidden, bias, last = (nn.Parameter(torch.ones(size)) for size in ((3, 3), (3,), (2, 3)))
    for parameter in (hidden, bias, last):
        parameter.grad = torch.zeros_like(parameter)
    Muon([hidden, bias, last], lr=0.5, weight_decay=0.2, head=[last]).step()
    assert [parameter.mean().item() for parameter in (hidden, bias, last)] == pytest.approx([0.9, 1.0, 1.0])
