"""Pixels go where the matrix says, bilinear and black outside; rectangles have the right size."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from epochal.data.draws import Draws
from epochal.data.inputs.picture.geometry import erase, move, random_matrix, rectangle

NOTHING = torch.eye(2)[None]
QUARTER = torch.tensor([[[0.0, 1.0], [-1.0, 0.0]]])


class Fixed(Draws):
    """Draws of known numbers: 0.5, the middle of every range, unless named."""

    def __init__(self, **numbers: float) -> None:
        super().__init__(0, 0, torch.zeros(1, dtype=torch.int64))
        self.numbers = numbers

    def uniform(self, name: str) -> Tensor:
        return torch.full((len(self.places),), self.numbers.get(name, 0.5))


def _pictures(height: int = 6, width: int = 6) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0)) * 255


@pytest.mark.parametrize(("height", "width"), [(6, 6), (5, 7), (32, 32), (1, 4)])
def test_without_movement_pictures_stay(height: int, width: int) -> None:
    pictures = _pictures(height, width)
    torch.testing.assert_close(move(pictures, NOTHING.expand(2, -1, -1)), pictures, rtol=0, atol=2e-3)


@pytest.mark.parametrize("side", [5, 6, 32])
def test_a_quarter_turn_is_torchs(side: int) -> None:
    pictures = _pictures(side, side)
    turned = move(pictures, QUARTER.expand(2, -1, -1))
    torch.testing.assert_close(turned, pictures.rot90(-1, (2, 3)), rtol=0, atol=2e-3)


def test_offsets_are_pixels_and_what_comes_in_is_black() -> None:
    pictures = _pictures(5, 7)
    moved = move(pictures, NOTHING.expand(2, -1, -1), torch.tensor([[1.0, 0.0], [0.0, -2.0]]))
    torch.testing.assert_close(moved[0, :, :, :-1], pictures[0, :, :, 1:], rtol=0, atol=1e-3)
    assert moved[0, :, :, -1].abs().max() < 1e-3
    torch.testing.assert_close(moved[1, :, 2:], pictures[1, :, :-2], rtol=0, atol=1e-3)
    assert moved[1, :, :2].abs().max() < 1e-3


def test_between_pixels_is_their_mean() -> None:
    pictures = _pictures()
    half = move(pictures, NOTHING.expand(2, -1, -1), torch.tensor([[0.5, 0.0]]).expand(2, -1))
    torch.testing.assert_close(half[..., :-1], (pictures[..., :-1] + pictures[..., 1:]) / 2, rtol=0, atol=1e-3)


def test_a_turn_keeps_the_proportions_of_a_wide_picture() -> None:
    # The row through the middle of a wide picture becomes the column through its middle.
    picture = torch.zeros(1, 1, 5, 9)
    picture[..., 2, :] = 100
    turned = move(picture, QUARTER)
    expected = torch.zeros(1, 1, 5, 9)
    expected[..., 4] = 100
    torch.testing.assert_close(turned, expected, rtol=0, atol=1e-3)


def test_matrices_are_inverses_of_turn_slant_and_size() -> None:
    torch.testing.assert_close(random_matrix(Fixed(), 90, 0.5, 45), NOTHING, rtol=0, atol=1e-6)
    torch.testing.assert_close(random_matrix(Fixed(rotate=1), 90, 0, 0), QUARTER, rtol=0, atol=1e-6)
    torch.testing.assert_close(random_matrix(Fixed(scale=1), 0, 0.25, 0), NOTHING / 1.25)
    torch.testing.assert_close(random_matrix(Fixed(scale=0), 0, 0.25, 0), NOTHING / 0.75)
    torch.testing.assert_close(random_matrix(Fixed(shear=1), 0, 0, 45), torch.tensor([[[1.0, 1.0], [0.0, 1.0]]]))
    # All together: turn @ slant * size, as torchvision has it.
    angle, slant, size = math.radians(30), math.tan(math.radians(10)), 1.1
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    forward = turn @ torch.tensor([[1.0, -slant], [0.0, 1.0]]) * size
    found = random_matrix(Fixed(rotate=1, scale=1, shear=1), 30, 0.1, 10)[0]
    torch.testing.assert_close(found @ forward, torch.eye(2), rtol=0, atol=1e-6)


def test_random_matrices_fill_their_ranges() -> None:
    matrices = random_matrix(Draws(0, 1, torch.arange(2000)), 20, 0.2, 0)
    angles = torch.atan2(matrices[:, 0, 1], matrices[:, 0, 0]).rad2deg()
    sizes = matrices.det().rsqrt()
    for values, low, high in ((angles, -20, 20), (sizes, 0.8, 1.2)):
        assert low - 1e-3 <= float(values.min()) < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < float(values.max()) <= high + 1e-3
        assert float(values.mean()) == pytest.approx((low + high) / 2, abs=0.02 * (high - low))


def test_rectangle() -> None:
    top, bottom, left, right = torch.tensor([[0, 1], [0, 3], [2, 1], [4, 2]])
    inside = rectangle(top, bottom, left, right, 4, 5)
    assert inside.shape == (2, 1, 4, 5)
    assert not inside[0].any()
    assert inside[1, 0].nonzero().tolist() == [[1, 1], [2, 1]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
def test_erased_rectangles(dtype: torch.dtype) -> None:
    pictures = torch.full((2000, 3, 40, 40), 7, dtype=dtype)
    erased = erase(pictures, Draws(0, 1, torch.arange(2000)), 0.25)
    assert erased.dtype == dtype
    black = (erased == 0).all(1)
    assert torch.equal(black, (erased == 0).any(1))
    hit = black.flatten(1).any(1)
    assert 420 < int(hit.sum()) < 580
    black = black[hit]
    tall, wide = black.any(2).sum(1), black.any(1).sum(1)
    area = black.flatten(1).sum(1)
    # Each is a full rectangle: its area is the product of its sides.
    assert torch.equal(area, tall * wide)
    share, ratio = area / 1600, tall / wide
    assert 0.015 < float(share.min()) < 0.04
    assert 0.3 < float(share.max()) < 0.35
    assert float(share.mean()) == pytest.approx(0.175, abs=0.015)
    assert float(ratio.log().mean()) == pytest.approx(0, abs=0.1)
    assert 0.25 < float(ratio.min()) < 0.4
    assert 2.5 < float(ratio.max()) < 4
    # They lie anywhere, at the edges too.
    assert bool(black[:, 0].any())
    assert bool(black[:, :, -1].any())
    assert torch.equal(pictures, torch.full_like(pictures, 7))


def test_a_rectangle_ends_with_the_picture() -> None:
    # 33 % of a flat picture, 3.3 times as high as wide, would be higher than it is.
    erased = erase(torch.ones(1, 1, 4, 40), Fixed(**{"erase area": 1.0, "erase ratio": 1.0, "erase": 0.0}), 0.5)
    black = erased[0, 0] == 0
    assert black.any(1).all()
    assert int(black.any(0).sum()) == round(math.sqrt(0.33 * 160 / 3.3))


def test_chances() -> None:
    pictures = torch.ones(50, 1, 8, 8)
    draws = Draws(0, 1, torch.arange(50))
    assert bool((erase(pictures, draws, 1.0) == 0).flatten(1).any(1).all())
    assert torch.equal(erase(pictures, draws, 0.0), pictures)
