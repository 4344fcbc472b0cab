import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from epochal.data.inputs.picture import png
from epochal.data.inputs.picture.read import measure_picture, open_picture
from epochal.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)


def made(**options: Any) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(PIXELS).save(file, "PNG", **options)
        return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")


def with_text(*texts: tuple[str, str], zipped: bool = True) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    for kind, text in texts:
        getattr(info, f"add_{kind}")("XML:com.adobe.xmp" if kind == "itxt" else "notes", text, zip=zipped)
    return info


@pytest.mark.parametrize(
    "options",
    [
        lambda: {"icc_profile": bytes(3_000_000)},
        lambda: {"pnginfo": with_text(("text", "x" * 2_000_000))},
        lambda: {"pnginfo": with_text(("text", "x" * 2_000_000), zipped=False)},
        lambda: {"pnginfo": with_text(("itxt", "y" * 2_000_000))},
        lambda: {"pnginfo": with_text(("itxt", "y" * 2_000_000), zipped=False)},
        lambda: {"pnginfo": with_text(*[("text", "z" * 900_000)] * 80)},
    ],
    ids=["profile", "text", "plain text", "international text", "plain international text", "80 texts"],
)
def test_what_stands_beside_pixels_does_not_matter(tmp_path: Path, options: Callable[[], dict[str, Any]]) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(made(**options()))
    assert measure_picture(str(path)) == (30, 20, False, False)
    assert (np.asarray(open_picture(path)) == PIXELS).all()


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"tEXt", b"a\0b")[:-1] + b"?",
        chunk(b"iCCP", b"no profile"),
        chunk(b"gAMA", b""),
        chunk(b"zTXt", b"a\0\0no stream"),
        chunk(b"eXIf", b"MM\0*")[:-1] + b"?",
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0no stream"),
    ],
)
def test_nor_does_it_where_it_is_damaged(tmp_path: Path, extra: bytes) -> None:
    whole = made()
    path = tmp_path / "a.png"
    path.write_bytes(whole[:33] + extra + whole[33:])
    assert measure_picture(str(path)) == (30, 20, False, False)
    assert (np.asarray(open_picture(path)) == PIXELS).all()


def test_rotation_is_kept(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    xmp = '<x:xmpmeta><rdf:RDF tiff:Orientation="6"/></x:xmpmeta>'
    texts = [{"pnginfo": with_text(("itxt", xmp), zipped=zipped)} for zipped in (True, False)]
    ways: list[dict[str, Any]] = [{"exif": exif}, *texts]
    for number, options in enumerate(ways):
        path = tmp_path / f"{number}.png"
        path.write_bytes(made(**options, icc_profile=bytes(3_000_000)))
        assert open_picture(path).size == (30, 20)
        assert measure_picture(str(path))[:2] == (20, 30)


def test_a_plain_file_is_left_as_it_is() -> None:
    content = made()
    assert png.without_extras(content) == content
    assert png.without_extras(content + b"more") == content + b"more"


@pytest.mark.parametrize("name", [b"IHDR", b"IDAT", b"IEND"])
def test_a_changed_byte_is_reported(tmp_path: Path, name: bytes) -> None:
    path, content = tmp_path / "a.png", bytearray(made())
    content[content.index(name) + (12 if name != b"IEND" else 5)] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.png is damaged \(its part {name.decode()} has a wrong checksum\)\.\nCopy it"):
        open_picture(path)


def test_a_file_cut_off_anywhere_is_truncated(tmp_path: Path) -> None:
    path, content = tmp_path / "a.png", made(pnginfo=with_text(("text", "a note")))
    for length in (8, 20, 60, len(content) - 300, len(content) - 8, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"a\.png is truncated"):
            open_picture(path)
