"""A FILE is a picture of any size: PNG, JPEG, WebP, BMP, TIFF or GIF (its first frame). Not all damage to files is noticed."""

import numpy as np
from PIL import Image, ImageOps


def read(path: str, rule: dict):
    """Yield the name of a picture and its pixels, uint8 [channels, height, width]: upright, on white, of the model's size."""
    with Image.open(path, formats=("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")) as file:
        picture = ImageOps.exif_transpose(file)
    mode = "L" if picture.mode[0] in "1LI" and picture.mode != "LAB" else "RGB"
    if picture.mode[0] in "IF":
        deep = np.asarray(picture)
        if deep.dtype.kind == "f" or deep.min() < 0 or deep.max() > 0xFFFF:
            raise ValueError("its pixels do not have 8 or 16 bits")
        picture = Image.fromarray((deep >> 8).astype(np.uint8))
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    yield path, fitted(picture.convert(mode).convert("L" if rule["shape"][0] == 1 else "RGB"), *rule["shape"][:0:-1], rule["fit"])


def fitted(picture: Image.Image, width: int, height: int, fit: str):
    """Return the pixels [channels, height, width] of a picture in another size."""
    scales = width / picture.width, height / picture.height
    if fit == "crop":
        wide, high = (min(side, max(1, round(new / max(scales)))) for side, new in zip(picture.size, (width, height), strict=True))
        left, top = (picture.width - wide) // 2, (picture.height - high) // 2
        picture = picture.crop((left, top, left + wide, top + high))
    wide, high = (max(1, round(side * min(scales))) for side in picture.size) if fit == "pad" else (width, height)
    pixels = np.asarray(picture.resize((wide, high), Image.Resampling.BILINEAR, reducing_gap=3.0)).reshape(high, wide, -1)
    # Around it is the colour that most of its edges have, or black.
    edges = (pixels[[0, -1]] if high < height else pixels[:, [0, -1]]).reshape(-1, pixels.shape[2])
    colour = np.median(edges, axis=0)
    is_common = (np.abs(edges - colour) <= 16).all(1).mean() >= 0.75
    made = np.full((height, width, pixels.shape[2]), colour if is_common else 0).astype(np.uint8)
    made[(height - high) // 2 :, (width - wide) // 2 :][:high, :wide] = pixels
    return made.transpose(2, 0, 1)
