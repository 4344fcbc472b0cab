"""Colours change by torchvision's definitions; neutral values change nothing."""

from __future__ import annotations

import colorsys

import pytest
import torch
from torch import Tensor

from epochal.data.draws import Draws
from epochal.data.inputs.picture.colour import blend, grey, jitter, mean, rounded, turn_hue
from epochal.recipe import AugmentSettings


def _pictures(count: int = 3, channels: int = 3, white: float = 255) -> Tensor:
    whole = torch.randint(0, 256, (count, channels, 4, 5), generator=torch.Generator().manual_seed(0))
    return whole.float() * white / 255


def _each(*values: float) -> Tensor:
    return torch.tensor(values)[:, None, None, None]


@pytest.mark.parametrize("white", [255.0, 1.0])
def test_brightness_by_hand(white: float) -> None:
    pictures = _pictures(white=white)
    changed = blend(pictures, 0.0, _each(0.0, 0.5, 1.5), white)
    assert not changed[0].any()
    assert torch.equal(changed[1], pictures[1] / 2)
    assert torch.equal(changed[2], (pictures[2] * 1.5).clamp(max=white))
    assert torch.equal(blend(pictures, 0.0, _each(1.0, 1.0, 1.0), white), pictures)


def test_grey() -> None:
    colours = torch.tensor([[255.0, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255]]).view(1, 3, 2, 2)
    torch.testing.assert_close(grey(colours).flatten(), torch.tensor([76.2195, 149.685, 29.07, 254.9745]))
    one = _pictures(channels=1)
    assert grey(one) is one


@pytest.mark.parametrize("white", [255.0, 1.0])
def test_mean(white: float) -> None:
    pictures = _pictures(channels=1, white=white)
    torch.testing.assert_close(mean(pictures, white), pictures.mean((1, 2, 3), keepdim=True), rtol=1e-6, atol=1e-5 * white)


def test_the_mean_does_not_depend_on_the_layout() -> None:
    # 224 * 224 pixels of a single picture are enough for PyTorch to share a sum of floats among its threads.
    pictures = torch.rand(3, 1, 224, 224, generator=torch.Generator().manual_seed(0))
    whole = mean(pictures, 1.0)
    torch.set_num_threads(2)
    try:
        alone = torch.cat([mean(picture[None], 1.0) for picture in pictures])
        turned = mean(pictures.transpose(2, 3).contiguous(), 1.0)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(alone, whole)
    assert torch.equal(turned, whole)


@pytest.mark.parametrize(
    ("turn", "order"), [(0.0, (0, 1, 2)), (1.0, (0, 1, 2)), (1 / 3, (2, 0, 1)), (-1 / 3, (1, 2, 0)), (2 / 3, (1, 2, 0))]
)
def test_thirds_of_the_circle_exchange_the_channels(turn: float, order: tuple[int, ...]) -> None:
    pictures = _pictures()
    torch.testing.assert_close(turn_hue(pictures, torch.tensor(turn).expand(3, 1, 1)), pictures[:, order], rtol=0, atol=1e-3)


def test_hue_is_that_of_pythons_colorsys() -> None:
    pictures = _pictures(count=4, white=1.0)
    # Grey, black and two equal channels are the corners of the formula.
    pictures[0, :, 0, 0], pictures[0, :, 0, 1], pictures[0, :2, 0, 2] = 0.5, 0.0, 1.0
    turns = torch.tensor([0.1, -0.3, 0.5, -0.5])
    changed = turn_hue(pictures, turns[:, None, None])
    for picture, after, turn in zip(pictures, changed, turns.tolist(), strict=True):
        for before, now in zip(picture.flatten(1).T.tolist(), after.flatten(1).T, strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*before)
            expected = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
            torch.testing.assert_close(now, torch.tensor(expected), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_factors_are_even_about_one(name: str) -> None:
    # The remaining difference between red and green reveals the factor.
    settings = AugmentSettings.model_validate({name: 0.4})
    pictures = torch.tensor([[120.0, 80.0], [100.0, 100.0], [100.0, 100.0]]).view(1, 3, 1, 2).expand(2000, -1, -1, -1)
    changed = jitter(pictures, Draws(0, 1, torch.arange(2000)), settings, 255.0)
    factors = (changed[:, 0, 0, 0] - changed[:, 1, 0, 0]) / 20
    assert 0.6 <= float(factors.min()) + 1e-5 < 0.61
    assert 1.39 < float(factors.max()) <= 1.4 + 1e-5
    assert float(factors.mean()) == pytest.approx(1, abs=0.02)
    fixed: Tensor = {"brightness": torch.zeros(()), "contrast": mean(grey(pictures), 255.0), "saturation": grey(pictures)}[name]
    torch.testing.assert_close(
        changed, pictures * factors[:, None, None, None] + fixed * (1 - factors[:, None, None, None]), rtol=0, atol=1e-2
    )


def test_changes_come_in_order() -> None:
    pictures, draws = _pictures(), Draws(3, 1, torch.arange(3))
    together = jitter(pictures, draws, AugmentSettings(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.2), 255.0)
    for name, most in (("brightness", 0.5), ("contrast", 0.5), ("saturation", 0.5), ("hue", 0.2)):
        pictures = jitter(pictures, draws, AugmentSettings.model_validate({name: most}), 255.0)
    assert torch.equal(together, pictures)


def test_values_stay_between_black_and_white() -> None:
    pictures = _pictures(count=200)
    changed = jitter(pictures, Draws(0, 1, torch.arange(200)), AugmentSettings(brightness=1, contrast=1, saturation=1, hue=0.5), 255.0)
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 255.001


def test_rounded() -> None:
    values = torch.tensor([0.0, 0.4, 0.6, 254.9, 255.0001])
    assert rounded(values, torch.uint8).tolist() == [0, 0, 1, 255, 255]
    assert rounded(values, torch.float32) is values
