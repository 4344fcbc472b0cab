"""Pictures to measure with, where the user has given none."""

from __future__ import annotations

from pathlib import Path

CLASSES = 10


def make_pictures(folder: Path, number: int, side: int) -> None:
    """Write `number` JPEG files, all different, of side × side pixels as FOLDER/CLASS/NUMBER.jpg: blurred random colours."""
    import numpy
    from PIL import Image

    generator = numpy.random.default_rng(0)
    places = [folder / f"class-{index}" for index in range(CLASSES)]
    for place in places:
        place.mkdir(parents=True)
    for index in range(number):
        coarse = generator.integers(0, 256, (8, 8, 3), dtype=numpy.uint8)
        picture = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        picture.save(places[index % CLASSES] / f"{index:06}.jpg", quality=90)
