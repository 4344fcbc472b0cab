"""Mixtures are of an example and the next, in shares that are those of the pixels; targets say how much of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from epochal.data.inputs.picture.rule import PictureRule
from epochal.data.mixing import Mixing, beta_quantiles
from epochal.data.spec import DataSpec
from epochal.recipe import AugmentSettings
from epochal.tasks import TASKS

CPU = torch.device("cpu")
KINDS: list[dict[str, Any]] = [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 1.0, "cutmix": 1.0}]


def _pictures(count: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    return torch.randint(0, 256, (count, 3, 6, 8), generator=torch.Generator().manual_seed(0)).to(dtype)


def _mixing(task: str = "single-label", **settings: Any) -> Mixing:
    spec = DataSpec(
        name="made", task=TASKS[task](name=task, outputs=("a", "b", "c")),
        input=PictureRule(shape=(3, 6, 8), mean=(0.5,) * 3, std=(0.2,) * 3), counts={"train": 400}, fingerprint="0",
    )  # fmt: skip
    return Mixing(AugmentSettings(**settings), spec, 3)


@pytest.mark.parametrize("settings", KINDS, ids=str)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_targets_are_the_shares_of_the_pixels(settings: dict[str, Any], dtype: torch.dtype) -> None:
    # Black and white in turn: the brightness of a mixture reveals its shares.
    white = 255.0 if dtype == torch.uint8 else 1.0
    places = torch.arange(201)
    pictures = (places % 2 * white).to(dtype)[:, None, None, None].expand(-1, 3, 6, 8)
    mixed, targets = _mixing(**settings)(pictures, places % 2, places, 1)
    assert (mixed.dtype, mixed.shape) == (dtype, (200, 3, 6, 8))
    assert (targets.dtype, targets.shape) == (torch.float32, (200, 3))
    torch.testing.assert_close(targets.sum(1), torch.ones(200))
    assert not targets[:, 2].any()
    torch.testing.assert_close(mixed.float().mean((1, 2, 3)) / white, targets[:, 1], rtol=0, atol=0.51 / 255)
    # Shares are of the example itself and of the next, not always of the same class.
    own = targets.gather(1, (places[:-1] % 2)[:, None])
    assert 0.4 < float(own.mean()) < 0.8


def test_mixup_blends() -> None:
    pictures, places = _pictures(21, torch.float32), torch.arange(21)
    mixed, targets = _mixing(mixup=1.0)(pictures, torch.zeros(21, dtype=torch.int64), places, 1)
    assert torch.equal(targets, torch.tensor([1.0, 0.0, 0.0]).expand(20, -1))
    _, targets = _mixing(mixup=1.0)(pictures, places % 2, places, 1)
    share = targets.gather(1, (places[:-1] % 2)[:, None])[:, :, None, None]
    torch.testing.assert_close(mixed, pictures[:-1] * share + pictures[1:] * (1 - share))
    whole, _ = _mixing(mixup=1.0)(pictures.byte(), places % 2, places, 1)
    assert torch.equal(whole, mixed.round().byte())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_cutmix_pastes_a_rectangle(dtype: torch.dtype) -> None:
    pictures, places = _pictures(301, dtype), torch.arange(301)
    mixed, targets = _mixing(cutmix=1.0)(pictures, places % 2, places, 1)
    share = targets.gather(1, (places[:-1] % 2)[:, None])[:, 0]
    pasted = (mixed != pictures[:-1]).any(1)
    assert torch.equal(torch.where(pasted[:, None], pictures[1:], pictures[:-1]), mixed)
    # Now and then a pasted pixel is by chance like the one under it; three channels make that rare.
    area = pasted.any(2).sum(1) * pasted.any(1).sum(1)
    torch.testing.assert_close(area / 48, 1 - share)
    assert int((pasted.flatten(1).sum(1) == area).sum()) > 295
    # Middles lie anywhere, so that rectangles are cut at every side.
    assert all(bool(edge.any()) for edge in (pasted[:, 0], pasted[:, -1], pasted[:, :, 0], pasted[:, :, -1]))


def test_a_coin_chooses_between_the_two() -> None:
    pictures, places = _pictures(401, torch.float32), torch.arange(401)
    targets = places % 2
    both, probabilities = _mixing(mixup=0.5, cutmix=2.0)(pictures, targets, places, 1)
    kinds = [_mixing(mixup=0.5)(pictures, targets, places, 1), _mixing(cutmix=2.0)(pictures, targets, places, 1)]
    chosen = [(both == mixed).flatten(1).all(1) & (probabilities == wanted).all(1) for mixed, wanted in kinds]
    assert bool((chosen[0] | chosen[1]).all())
    assert 160 < int(chosen[0].sum()) < 240


@pytest.mark.parametrize("task", ["multi-label", "regression"])
def test_tables_of_targets_mix_too(task: str) -> None:
    pictures, places = _pictures(31, torch.float32), torch.arange(31)
    _, shares = _mixing(mixup=1.0)(pictures, places % 2, places, 1)
    share = shares.gather(1, (places[:-1] % 2)[:, None])
    targets = torch.randn(31, 3, generator=torch.Generator().manual_seed(1))
    _, mixed = _mixing(task, mixup=1.0)(pictures, targets, places, 1)
    torch.testing.assert_close(mixed, targets[:-1] * share + targets[1:] * (1 - share))


@pytest.mark.parametrize("settings", KINDS, ids=str)
@given(cuts=st.lists(st.integers(1, 11), max_size=4))
def test_batches_do_not_matter(settings: dict[str, Any], cuts: list[int]) -> None:
    pictures, places, mixing = _pictures(13), torch.arange(13), _mixing(**settings)
    whole = mixing(pictures, places % 3, places, 2)
    edges = sorted({0, 12, *cuts})
    for begin, end in pairwise(edges):
        part = slice(begin, end + 1)
        mixed = mixing(pictures[part], places[part] % 3, places[part], 2)
        assert torch.equal(mixed[0], whole[0][begin:end])
        assert torch.equal(mixed[1], whole[1][begin:end])


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_epochs_differ(settings: dict[str, Any]) -> None:
    pictures, places, mixing = _pictures(13), torch.arange(13), _mixing(**settings)
    first, again, other = (mixing(pictures, places % 3, places, epoch) for epoch in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[1], other[1])


def _levels() -> Tensor:
    return (torch.arange(4096, dtype=torch.float64) + 0.5) / 4096


@pytest.mark.parametrize(
    ("alpha", "distribution"),
    [
        (0.5, lambda x: 2 / math.pi * x.sqrt().asin()),
        (1.0, lambda x: x),
        (2.0, lambda x: 3 * x**2 - 2 * x**3),
        (3.0, lambda x: 10 * x**3 - 15 * x**4 + 6 * x**5),
    ],
)
def test_quantiles_by_closed_forms(alpha: float, distribution: Callable[[Tensor], Tensor]) -> None:
    torch.testing.assert_close(distribution(beta_quantiles(alpha, CPU).double()), _levels(), rtol=0, atol=5e-5)


@pytest.mark.parametrize("alpha", [1e-3, 0.1, 0.2, 0.4, 5.0, 32.0, 100.0])
def test_quantiles_are_symmetric_and_have_the_right_spread(alpha: float) -> None:
    quantiles = beta_quantiles(alpha, CPU).double()
    assert bool((quantiles.diff() >= 0).all())
    torch.testing.assert_close(quantiles + quantiles.flip(0), torch.ones(4096, dtype=torch.float64), rtol=0, atol=1e-6)
    assert float(quantiles.var(correction=0)) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=2e-3)


def test_quantiles_are_scipys() -> None:
    special = pytest.importorskip("scipy.special")
    for alpha in (0.05, 0.2, 0.7, 8.0):
        theirs = torch.tensor(special.betaincinv(alpha, alpha, _levels().numpy()))
        torch.testing.assert_close(beta_quantiles(alpha, CPU).double(), theirs, rtol=0, atol=1e-5)
