"""Random changes of pixel values: brightness, contrast, saturation and hue.

The definitions are torchvision's (`ColorJitter` and `torchvision.transforms.functional`). Pictures here are float32 from 0 to
`white`: 255, or 1. They are only rounded after all changes, where torchvision rounds down after each, and the changes
are always made in the same order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from epochal.data.draws import Draws
from epochal.recipe import AugmentSettings


def white_of(dtype: torch.dtype) -> float:
    """Return the value of white: 255 for uint8, 1 for fractions."""
    return 255.0 if dtype == torch.uint8 else 1.0


def rounded(pictures: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert float32 pictures back to `dtype`: rounded to the nearest integer for uint8."""
    return pictures.round().to(dtype) if dtype == torch.uint8 else pictures


def grey(pictures: Tensor) -> Tensor:
    """Return the luma [batch, 1, height, width] of ITU-R BT.601; grey pictures are their own."""
    if pictures.shape[1] == 1:
        return pictures
    red, green, blue = pictures.split(1, dim=1)
    luma: Tensor = 0.2989 * red + 0.587 * green + 0.114 * blue
    return luma


def mean(pictures: Tensor, white: float) -> Tensor:
    """Return the mean [batch, 1, 1, 1] of pictures of one channel, in steps of `white` / 2¹⁶: integers give the same sum in any order."""
    steps = 65536 / white
    whole = (pictures * steps).round().int().sum((1, 2, 3), keepdim=True)
    return whole / (pictures[0].numel() * steps)


def blend(pictures: Tensor, other: Tensor | float, factor: Tensor, white: float) -> Tensor:
    """Return `factor` [batch, 1, 1, 1] of the pictures and 1 - `factor` of the `other`, clamped to black and white."""
    return (pictures * factor + other * (1 - factor)).clamp_(0, white)


def turn_hue(pictures: Tensor, turns: Tensor) -> Tensor:
    """Rotate the hue of RGB pictures by `turns` [batch, 1, 1] of the colour circle; value and chroma (max - min) are preserved.

    This is the conversion to HSV and back of A. R. Smith, "Color gamut transform pairs", SIGGRAPH 1978.
    """
    red, green, blue = pictures.unbind(1)
    value = pictures.amax(1)
    chroma = value - pictures.amin(1)
    # Grey has neither hue nor chroma.
    divisor = torch.where(chroma > 0, chroma, 1.0)
    sixths = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    sixths = sixths + 6 * turns
    channels = []
    for begin in (5, 3, 1):
        place = (sixths + begin) / 6
        place = (place - place.floor()) * 6
        channels.append(value - chroma * torch.minimum(place, 4 - place).clamp_(0, 1))
    return torch.stack(channels, 1)


def jitter(pictures: Tensor, draws: Draws, settings: AugmentSettings, white: float) -> Tensor:
    """Change brightness, contrast, saturation and hue, in this order, by up to the amounts in `settings`.

    Factors are drawn evenly from 1 - b to 1 + b. Brightness blends with black, contrast with the picture's mean grey,
    saturation with its own grey; hue is rotated by up to a fraction of the circle, either way.
    """
    if settings.brightness:
        pictures = blend(pictures, 0.0, _factor(draws, "brightness", settings.brightness), white)
    if settings.contrast:
        pictures = blend(pictures, mean(grey(pictures), white), _factor(draws, "contrast", settings.contrast), white)
    if settings.saturation:
        pictures = blend(pictures, grey(pictures), _factor(draws, "saturation", settings.saturation), white)
    if settings.hue:
        pictures = turn_hue(pictures, draws.between("hue", -settings.hue, settings.hue)[:, None, None])
    return pictures


def _factor(draws: Draws, name: str, most: float) -> Tensor:
    return draws.between(name, 1 - most, 1 + most)[:, None, None, None]
