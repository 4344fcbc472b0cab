from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

SavePicture = Callable[..., Path]


@pytest.fixture
def save_picture(tmp_path: Path) -> SavePicture:
    """Write a picture of noise: `save_picture("cat/1.png", (width, height), "RGB")` below `tmp_path`."""

    def save(name: str, size: tuple[int, int] = (8, 8), mode: str = "RGB", seed: int = 0, **options: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        channels: tuple[int, ...] = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
        noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8)
        Image.fromarray(noise).save(path, **options)
        return path

    return save
