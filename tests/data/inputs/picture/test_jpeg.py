import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from epochal.data.inputs.picture.jpeg import JpegFile
from epochal.data.inputs.picture.read import open_picture
from epochal.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)


def made(mode: str = "RGB", **options: Any) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(PIXELS).convert(mode).save(file, "JPEG", **options)
        return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    "options",
    [{}, {"quality": 1}, {"quality": 100, "subsampling": 0}, {"optimize": True}, {"progressive": True}, {"restart_marker_rows": 1}],
)
def test_whole_files_are_read_as_pillow_does(tmp_path: Path, mode: str, options: Any) -> None:
    path = tmp_path / "a.jpg"
    whole = made(mode, **options)
    # As cameras leave them: with a few bytes behind the last pixel, and others behind the end.
    for content in (whole, whole[:-2] + b"\x5a\0\0\0\0\xff\xff\xd9", whole + b"and a preview \xff\xd9", whole[:2] + b"\xff" + whole[2:]):
        path.write_bytes(content)
        with Image.open(path) as picture:
            expected = np.asarray(picture.convert("L" if mode == "L" else "RGB"))
        assert (np.asarray(open_picture(path)) == expected).all()


def test_a_file_with_a_second_picture(tmp_path: Path) -> None:
    first, second = Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    with Image.open(tmp_path / "a.jpg") as picture:
        assert (np.asarray(open_picture(tmp_path / "a.jpg")) == np.asarray(picture)).all()


def damaged(begin: int, new: bytes, **options: Any) -> bytes:
    content = made(**options)
    return content[:begin] + new + content[begin + len(new) :]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (damaged(2000, bytes(512)), r"is damaged \(it has more data than pixels\)"),
        (damaged(2000, bytes(16), quality=95), r"is damaged \(it has more data than pixels\)"),
        (damaged(2000, b"hello world " * 30), r"is damaged \(it has more data than pixels\)"),
        (damaged(2000, b"\xff\x11"), r"is damaged \(byte 2,001 is invalid\)"),
        (damaged(2000, b"\xff\xd9"), r"is damaged \(some of its pixels are missing\)"),
        (damaged(2000, b"\xff\xd3"), r"is damaged \(the parts of its pixels are not in order\)"),
        (damaged(2000, b"\xff\xd7", restart_marker_rows=1), r"is damaged \(the parts of its pixels are not in order\)"),
        (made()[:2000], "is truncated"),
        (made()[:2000] + b"\xff\xd9", r"is damaged \(some of its pixels are missing\)"),
    ],
)
def test_damage_in_the_middle_is_reported(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.jpg {reason}\.\nCopy it"):
        open_picture(path)


@pytest.mark.parametrize("length", [*range(2, 60), 200, 620, 640])
def test_where_there_are_no_pixels_the_decoder_decides(length: int) -> None:
    file = JpegFile(made()[:length])
    file.begin()
    assert file.pieces is None
    assert file.read() == file.content
