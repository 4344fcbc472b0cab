from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

Scene = Callable[..., Image.Image]


@pytest.fixture
def scene() -> Scene:
    """Make a picture that looks like a photograph to statistics: random waves with amplitudes of 1/f, by seed."""

    def make(seed: int, size: tuple[int, int] = (40, 32)) -> Image.Image:
        random = np.random.default_rng(seed)
        width, height = size
        frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64)))
        waves = np.fft.fft2(random.normal(size=(3, 64, 64))) / np.maximum(frequency, 1 / 64)
        shared, own = np.fft.ifft2(waves[:1]).real, np.fft.ifft2(waves).real
        levels = (shared + 0.3 * own)[:, :height, :width]
        levels = 128 + random.uniform(-30, 30) + 45 * (levels - levels.mean()) / levels.std()
        return Image.fromarray(levels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))

    return make
