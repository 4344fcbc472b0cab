"""How small pictures of lines are drawn is measured, so that drawings can be made like them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from epochal.data.inputs.picture.ink import Ink, measure_ink
from epochal.data.load import load


def _bars(tops: list[int], ink: int = 255, paper: int = 0, pen: int = 3) -> Tensor:
    """Pictures of an upright bar, 18 pixels high and `pen` wide, which begins so many pixels from the top."""
    pictures = torch.full((len(tops), 28, 24), paper, dtype=torch.uint8)
    for picture, top in zip(pictures, tops, strict=True):
        picture[top : top + 18, 10 : 10 + pen] = ink
    return pictures


@pytest.mark.parametrize(("ink", "paper"), [(255, 0), (0, 255), (40, 200)])
def test_size_pen_and_middle(ink: int, paper: int) -> None:
    found = measure_ink(_bars([5] * 4, ink, paper), paper)
    assert found is not None
    assert found.size == 18
    assert found.pen == pytest.approx(3, abs=0.6)
    assert found.centre == (14, 11.5)


def test_the_middle_is_the_one_that_varies_least() -> None:
    by_box = _bars([5] * 6)
    by_box[::2, 5:9, 10:13] = 128  # Lighter at the top: the mass moves down, the box stays.
    assert measure_ink(by_box, 0).centred == "box"  # type: ignore[union-attr]
    by_mass = torch.zeros(6, 28, 24, dtype=torch.uint8)
    for index, picture in enumerate(by_mass):
        picture[10:14, 10:14] = 255
        # A faint tail on one side or the other widens the box more than it moves the mass.
        picture[13, slice(14, 20) if index % 2 else slice(4, 10)] = 40
    assert measure_ink(by_mass, 0).centred == "mass"  # type: ignore[union-attr]


def test_blank_pictures_have_none() -> None:
    assert measure_ink(torch.zeros(4, 8, 8, dtype=torch.uint8), 0) is None
    one = measure_ink(torch.cat((torch.zeros(4, 28, 24, dtype=torch.uint8), _bars([5]))), 0)
    assert one is not None
    assert one.size == 18


def test_it_is_part_of_the_rule_of_small_grey_pictures_alone() -> None:
    digits = load("digits").split(seed=0).spec.input.ink  # type: ignore[attr-defined]
    assert isinstance(digits, Ink)
    assert (digits.size, digits.centred) == (8, "box")
    assert digits.centre == pytest.approx((4, 4), abs=0.3)
    for shape in ((20, 3, 8, 8), (20, 1, 80, 8)):
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8)
        assert load((pixels, torch.arange(20) % 2)).split(seed=0).spec.input.ink is None  # type: ignore[attr-defined]
