"""Each operation of the policy does what its name says, and every pair of them is drawn."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from epochal.data.draws import Draws
from epochal.data.inputs.picture.policy import Operation, operations, rand_augment

NAMES = ("identity", "rotate", "shear x", "shear y", "translate x", "translate y", "brightness", "contrast", "solarize", "posterize")


class Chosen(Draws):
    """Draws that choose operations by name and sign."""

    def __init__(self, first: str, second: str, signs: tuple[int, int]) -> None:
        super().__init__(0, 0, torch.zeros(1, dtype=torch.int64))
        places = [(*NAMES, "saturation").index(name) for name in (first, second)]
        self.numbers = {f"policy operation {turn + 1}": places[turn] for turn in range(2)}
        self.numbers |= {f"policy sign {turn + 1}": (1 - signs[turn]) // 2 for turn in range(2)}

    def whole(self, name: str, values: int) -> Tensor:
        assert self.numbers[name] < values
        return torch.tensor([self.numbers[name]])


def _picture(channels: int = 3, white: float = 255.0, side: int = 8) -> Tensor:
    whole = torch.randint(0, 256, (1, channels, side, side), generator=torch.Generator().manual_seed(0))
    return whole.float() * white / 255


def _changed(
    picture: Tensor, magnitude: float, first: str, second: str = "identity", *, signs: tuple[int, int] = (1, 1), white: float = 255.0
) -> Tensor:
    return rand_augment(picture, Chosen(first, second, signs), magnitude, white)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("white", [255.0, 1.0])
def test_magnitude_nought_changes_nothing(channels: int, white: float) -> None:
    picture = _picture(channels, white)
    for name in (*NAMES, "saturation") if channels == 3 else NAMES:
        for sign in (1, -1):
            torch.testing.assert_close(
                _changed(picture, 0, name, name, signs=(sign, sign), white=white), picture, rtol=0, atol=1e-5 * white
            )


@pytest.mark.parametrize("white", [255.0, 1.0])
def test_values(white: float) -> None:
    picture = _picture(3, white)

    def close(name: str, magnitude: float, expected: Tensor, sign: int = 1) -> None:
        changed = _changed(picture, magnitude, name, signs=(sign, 1), white=white)
        torch.testing.assert_close(changed, expected, rtol=0, atol=1e-4 * white)

    grey = 0.2989 * picture[:, :1] + 0.587 * picture[:, 1:2] + 0.114 * picture[:, 2:]
    close("brightness", 10, (picture * 1.9).clamp(max=white))
    close("brightness", 10, picture * 0.1, -1)
    close("contrast", 5, picture * 0.55 + grey.mean() * 0.45, -1)
    close("saturation", 10, picture * 0.1 + grey * 0.9, -1)
    close("solarize", 10, white - picture)


@pytest.mark.parametrize("white", [255.0, 1.0])
def test_no_level_is_lost_to_rounding(white: float) -> None:
    levels = torch.arange(256).view(1, 1, 16, 16)

    def changed(name: str, magnitude: float) -> Tensor:
        return (_changed(levels * (white / 255), magnitude, name, white=white) * (255 / white)).round()

    assert torch.equal(changed("solarize", 5), torch.where(levels >= 128, 255 - levels, levels).float())
    for magnitude, bits in ((10, 4), (5, 6), (2.5, 7), (1, 8)):
        assert torch.equal(changed("posterize", magnitude), (levels & (256 - 2 ** (8 - bits))).float())


def test_movements() -> None:
    picture = torch.zeros(1, 1, 331, 331)
    picture[..., 165, 165] = 200.0
    # 150 of 331 pixels at the most, either way.
    for name, axis in (("translate x", 3), ("translate y", 2)):
        for sign in (1, -1):
            moved = _changed(picture, 10, name, signs=(sign, 1))
            assert int(moved.amax(5 - axis).argmax()) == 165 - sign * 150
    noise = _picture(side=33)
    there_and_back = _changed(noise, 2, "rotate", "rotate", signs=(1, -1))
    torch.testing.assert_close(there_and_back, noise, rtol=0, atol=1e-2)
    # Two turns are one of both: only once are pixels blended.
    twice = _changed(noise, 2, "rotate", "rotate")
    torch.testing.assert_close(twice, _changed(noise, 4, "rotate"), rtol=0, atol=1e-2)
    sheared = _changed(picture, 10, "shear x", "translate y")
    # 150 pixels up from the middle, a slant of 0.3 has moved what is there by 45, whatever comes later.
    assert (sheared[0, 0] > 10).nonzero().float().mean(0).tolist() == pytest.approx([15, 165], abs=1)
    sheared = _changed(picture, 10, "translate y", "shear x")
    assert (sheared[0, 0] > 10).nonzero().float().mean(0).tolist() == pytest.approx([15, 165 + 45], abs=1)


def test_a_batch_is_its_pictures_one_by_one() -> None:
    pictures = torch.rand(300, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    places = torch.arange(300)
    changed = rand_augment(pictures, Draws(1, 2, places), 7, 1.0)
    for place in range(0, 300, 7):
        alone = rand_augment(pictures[place : place + 1], Draws(1, 2, places[place : place + 1]), 7, 1.0)
        assert torch.equal(alone[0], changed[place])
    same = (changed - pictures).abs().flatten(1).amax(1) < 1e-5
    # One in 121 stays as it is, and a few more whose operations change nothing.
    assert 1 <= int(same.sum()) < 15


def test_the_list() -> None:
    colour, grey = list(operations(10, 1, True)), list(operations(10, 1, False))
    assert colour[:-1] == grey
    assert len(grey) == len(NAMES)
    assert colour[0] == Operation()
    assert len(set(colour)) == len(colour)
    half = list(operations(5, -1, True))
    assert half[1].matrix[1] == pytest.approx(math.sin(math.radians(-15)))
    assert half[-1].factor == pytest.approx(0.55)
