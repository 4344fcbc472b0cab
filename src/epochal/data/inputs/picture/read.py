"""Reading pictures: opened in one way, measured, and fitted to one size.

    open_picture(anything) → a Pillow picture, upright, "L" or "RGB"
        to_tensor(picture, rule) → uint8 [channels, height, width]

Training files and pictures to predict take the same path, so that the same picture always becomes the same input.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from contextlib import nullcontext
from io import BytesIO
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from epochal.data.inputs.picture import jpeg, png
from epochal.data.inputs.picture.jpeg import JpegFile
from epochal.data.inputs.picture.quiet import capture_libtiff_messages
from epochal.data.inputs.picture.refused import MAX_PIXELS, UnfitError, picture_errors
from epochal.data.inputs.values import OneByOne
from epochal.data.storage.cache import content_hash, signature
from epochal.io.safe_read import open_file, read_whole

if TYPE_CHECKING:
    from epochal.data.inputs.picture.rule import PictureRule

# Pillow supports some forty more formats; each is code that untrusted files could attack.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif")

# The metadata of a JPEG file that may say that it is rotated.
_NOTES = frozenset(("exif", "xmp", "XML:com.adobe.xmp"))

# Pictures with this many pixels take seconds to read.
GIANT = 40_000_000

# The most bytes of a file: somewhat more than `MAX_PIXELS` take uncompressed, 3 bytes each.
MAX_BYTES = 600_000_000

# The side of the tiles, in pixels, in which transparent pictures are put on white.
TILE = 1024

# Pixels count as one colour if this share of them is within this many levels of it.
_MOST, _CLOSE = 0.75, 16

_DEEP_GREY = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_GREY = ("1", "L", "LA", *_DEEP_GREY)


class Measured(NamedTuple):
    """What the header of a picture file says: upright height and width in pixels, whether it is grey, and whether it has 16 bits."""

    height: int
    width: int
    grey: bool
    deep: bool = False


class PictureFile(NamedTuple):
    """A picture file as it was read: its signature, the hash of its content, its header, and uint8 [channels, height, width]."""

    signature: tuple[int, int, int, int]
    hash: bytes
    measured: Measured
    pixels: NDArray[np.uint8]


class Kind(NamedTuple):
    """The kind of file a picture came from: Pillow's names of its format and mode, and its EXIF orientation (1: upright)."""

    format: str
    mode: str
    orientation: int
    is_animated: bool
    is_transparent: bool


class StreamedPictures(OneByOne):
    """Picture files that are decoded one by one, each time they are needed, because they fit neither in memory nor in the cache."""

    def __init__(self, paths: Sequence[str], rule: PictureRule) -> None:
        self.paths = paths
        self.rule = rule

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, place: int) -> Tensor:
        """Decode one picture."""
        return to_tensor(open_picture(self.paths[place]), self.rule)


def open_picture(
    source: str | os.PathLike[str] | bytes | Image.Image | NDArray[Any], name: str = "The picture", limit: int | None = None
) -> Image.Image:
    """Return a fully decoded picture, rotated upright by its EXIF, in mode "L" if it can only be grey and "RGB" otherwise.

    `source` is the path of a PNG, JPEG, WebP, BMP, TIFF or GIF file (of which the first frame counts), the content of such a file, a
    Pillow picture, or an array: uint8 [height, width], [height, width, 1, 3 or 4], or uint16 [height, width]. Transparent parts
    become white, 16-bit grey keeps its high byte. Raises `DataError` naming the file, what is wrong with it, and what to do; content
    and a Pillow picture are called `name`, and have at most `limit` pixels, if that is given.
    """
    if isinstance(source, np.ndarray):
        with picture_errors(f"The array of shape {source.shape}"):
            return _from_array(source)
    if isinstance(source, Image.Image):
        with picture_errors(name):
            return _plain(_upright(source, limit))
    if isinstance(source, bytes):
        with picture_errors(name, source), _decoder(source) as picture:
            return _plain(_upright(picture, limit))
    with picture_errors(os.fspath(source)), _decoder(read_whole(source, MAX_BYTES)[1]) as picture:
        return _plain(_upright(picture))


def to_tensor(picture: Image.Image, rule: PictureRule) -> Tensor:
    """Return an opened picture converted by `rule`: uint8 [channels, height, width]. If it has that size, every bit is kept."""
    return torch.from_numpy(np.array(_pixels(picture, rule), order="C"))


def read_picture(path: str, rule: PictureRule) -> PictureFile:
    """Read a picture file once, for its content hash, header and pixels. Raises `DataError` as `open_picture` does."""
    with picture_errors(path):
        status, content = read_whole(path, MAX_BYTES)
        with _decoder(content) as picture:
            return _read(status, content, picture, rule)


def survey_picture(path: str, rule: PictureRule) -> tuple[PictureFile, Kind]:
    """Read a picture file as `read_picture` does, and return its kind too."""
    with picture_errors(path):
        status, content = read_whole(path, MAX_BYTES)
        with _decoder(content) as picture:
            kind = _kind(picture)
            return _read(status, content, picture, rule), kind


def hash_picture(path: str) -> bytes:
    """Return the hash of a picture file's content. Raises `DataError` if it cannot be read."""
    with picture_errors(path):
        return content_hash(read_whole(path, MAX_BYTES)[1])


def measure_picture(path: str) -> Measured:
    """Return size and colour of a picture file from its header only. Raises `DataError` if it is not a picture."""
    with picture_errors(path), open_file(path) as file:
        try:
            with Image.open(file, formats=FORMATS) as picture:
                return _measured(picture)
        except (ValueError, UnidentifiedImageError):
            # Only the metadata of a PNG may be damaged.
            with _decoder(read_whole(path, MAX_BYTES)[1]) as picture:
                return _measured(picture)


def measure_content(content: bytes, name: str) -> Measured:
    """Return size and colour of the content of a picture file, by its header only. Raises `DataError` if it is not a picture."""
    with picture_errors(name, content), _decoder(content) as picture:
        return _measured(picture)


def _decoder(content: bytes) -> Image.Image:
    if content.startswith(png.SIGNATURE):
        return Image.open(BytesIO(png.without_extras(content)), formats=("PNG",))
    picture = Image.open(JpegFile(content) if content.startswith(jpeg.START) else BytesIO(content), formats=FORMATS)
    # Pillow reads only the first frame, so it does not notice a truncated file.
    if picture.format == "GIF" and not content.rstrip(b"\0\r\n ").endswith(b";"):
        raise EOFError
    return picture


def _read(status: os.stat_result, content: bytes, picture: Image.Image, rule: PictureRule) -> PictureFile:
    measured = _measured(picture)
    return PictureFile(signature(status), content_hash(content), measured, _pixels(_plain(_upright(picture)), rule))


def _kind(picture: Image.Image) -> Kind:
    # A JPEG file with a preview or a second view (MPO) is not animated.
    name = "JPEG" if picture.format == "MPO" else str(picture.format)
    try:
        is_animated = name != "JPEG" and bool(getattr(picture, "is_animated", False))
    except (EOFError, OSError, SyntaxError, ValueError):
        is_animated = True  # There are more frames, though damaged; only the first is read.
    return Kind(name, picture.mode, _orientation(picture), is_animated, picture.has_transparency_data)


def _measured(picture: Image.Image) -> Measured:
    _check_size(picture)
    width, height = picture.size
    # Pillow already applies the rotation to the size of TIFF files.
    if picture.format != "TIFF" and _orientation(picture) >= 5:
        width, height = height, width
    return Measured(height, width, picture.mode in _GREY, picture.mode in _DEEP_GREY)


def _from_array(array: NDArray[Any]) -> Image.Image:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4) or not array.size:
        raise UnfitError("is not a picture", "Pass [height, width], or [height, width, channels] with 1, 3 or 4 channels.")
    if array.dtype.kind == "u" and array.dtype.itemsize == 2 and array.ndim == 2:
        array = _high_byte(array)
    if array.dtype != np.uint8:
        raise UnfitError(f"contains {array.dtype}, not pixels", "Pass uint8 with values from 0 to 255, or uint16 [height, width].")
    picture = Image.fromarray(array if channels > 1 else array.reshape(array.shape[:2]))
    _check_size(picture)
    return _plain(picture)


def _upright(picture: Image.Image, limit: int | None = None) -> Image.Image:
    """Decode completely, which shows whether the file is intact, and rotate."""
    _check_size(picture, limit)
    file = getattr(picture, "fp", None)
    if isinstance(file, JpegFile):
        file.begin()
    with capture_libtiff_messages() if any(tile[0] == "libtiff" for tile in getattr(picture, "tile", ())) else nullcontext():
        picture.load()
    if isinstance(file, JpegFile):
        file.check()
    return ImageOps.exif_transpose(picture) if _orientation(picture) > 1 else picture


def _orientation(picture: Image.Image) -> int:
    if picture.format == "JPEG" and _NOTES.isdisjoint(picture.info):
        return 1  # Pillow would find the same, but take a tenth of the time of a small picture.
    try:
        value = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, ValueError, LookupError, TypeError, OSError, struct.error):
        # Metadata may be damaged while the picture is fine: like every viewer, take it as it is stored.
        return 1
    return value if value in range(1, 9) else 1


def _plain(picture: Image.Image) -> Image.Image:
    """Convert any mode to "L" or "RGB" without transparency."""
    if picture.mode in _DEEP_GREY:
        return Image.fromarray(_high_byte(np.asarray(picture)))
    if picture.mode == "F":
        raise UnfitError("contains fractional numbers", "Save it with 8 or 16 bits per pixel.")
    mode = "L" if picture.mode in _GREY else "RGB"
    if picture.has_transparency_data:
        picture = _on_white(picture if picture.mode == "RGBA" else picture.convert("RGBA"))
    return picture if picture.mode == mode else picture.convert(mode)


def _on_white(layer: Image.Image) -> Image.Image:
    """Put a picture with transparent parts on white: in tiles, so that a large one is not in memory four times."""
    made = Image.new("RGB", layer.size)
    for top, left in product(range(0, layer.height, TILE), range(0, layer.width, TILE)):
        tile = layer.crop((left, top, min(left + TILE, layer.width), min(top + TILE, layer.height)))
        ground = Image.new("RGBA", tile.size, "white")
        ground.alpha_composite(tile)
        made.paste(ground.convert("RGB"), (left, top))
    return made


def _high_byte(grey: NDArray[Any]) -> NDArray[np.uint8]:
    if grey.min() < 0 or grey.max() > 0xFFFF:
        raise UnfitError("contains numbers beyond 16 bits", "Save it with 8 or 16 bits per pixel.")
    return (grey >> 8).astype(np.uint8)


def _check_size(picture: Image.Image, limit: int | None = None) -> None:
    # The WebP decoder, made for animations, keeps each pixel in memory four times.
    limit = (limit or MAX_PIXELS) // (2 if picture.format == "WEBP" else 1)
    if picture.width * picture.height > limit:
        raise UnfitError(f"has {picture.width * picture.height:,} pixels, more than {limit:,}", "Save it smaller.")


def _pixels(picture: Image.Image, rule: PictureRule) -> NDArray[np.uint8]:
    """Return an opened picture converted by `rule`: a read-only view [channels, height, width]."""
    if picture.mode != rule.mode:
        picture = picture.convert(rule.mode)
    return np.frombuffer(_fitted(picture, rule).tobytes(), np.uint8).reshape(*rule.side, -1).transpose(2, 0, 1)


def _fitted(picture: Image.Image, rule: PictureRule) -> Image.Image:
    height, width = rule.side
    if picture.size == (width, height):
        return picture
    scales = width / picture.width, height / picture.height
    if rule.fit == "pad":
        inner = tuple(max(1, round(side * min(scales))) for side in picture.size)
        small = _resized(picture, (inner[0], inner[1]))
        ground = Image.new(picture.mode, (width, height), _edge_colour(small, rule))
        ground.paste(small, ((width - inner[0]) // 2, (height - inner[1]) // 2))
        return ground
    if rule.fit == "crop":
        # Cropping first, at whole pixels: no pixel is computed for nothing, and none changes if cropping is enough.
        cut = min(picture.width, max(1, round(width / max(scales)))), min(picture.height, max(1, round(height / max(scales))))
        left, top = (picture.width - cut[0]) // 2, (picture.height - cut[1]) // 2
        picture = picture.crop((left, top, left + cut[0], top + cut[1]))
    return _resized(picture, (width, height))


def _edge_colour(picture: Image.Image, rule: PictureRule) -> int | tuple[int, ...]:
    """Return the colour of the edges at which a picture is padded, or black if they have no common one."""
    pixels = np.asarray(picture).reshape(picture.height, picture.width, -1)
    edges = [pixels[[0, -1]]] * (picture.height < rule.side[0]) + [pixels[:, [0, -1]]] * (picture.width < rule.side[1])
    colour = colour_of(np.concatenate([edge.reshape(-1, pixels.shape[2]) for edge in edges])) if edges else (0,)
    return colour if len(colour) > 1 else colour[0]


def colour_of(pixels: NDArray[np.uint8]) -> tuple[int, ...]:
    """Return the colour that most of the pixels [n, channels] are close to, or black if there is none."""
    middle = np.median(pixels, axis=0)
    is_close = (np.abs(pixels - middle) <= _CLOSE).all(1)
    return tuple(int(level) for level in middle) if is_close.mean() >= _MOST else (0,) * pixels.shape[1]


def _resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resample so that every pixel counts when shrinking.

    Bilinear weights are never negative, so edges get no halos as with Lanczos. Large pictures are first averaged over whole
    blocks down to three times the size, which is four times faster and hardly differs.
    """
    return picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)
