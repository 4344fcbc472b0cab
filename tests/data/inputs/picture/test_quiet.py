"""Messages of decoders do not reach the error stream, and those about damaged pixels are errors."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from PIL import Image

from epochal.data.inputs.picture.quiet import capture_libtiff_messages, quiet
from epochal.data.inputs.picture.read import open_picture
from epochal.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def tiff(path: Path, compression: str, mode: str = "RGB") -> bytearray:
    Image.fromarray(PIXELS).convert(mode).save(path, compression=compression)
    return bytearray(path.read_bytes())


@pytest.fixture
def written(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Nothing was written by any library to the error stream."""
    yield
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits", "raw"])
def test_whole_files_are_read(tmp_path: Path, written: None, compression: str) -> None:
    tiff(tmp_path / "a.tif", compression)
    assert open_picture(tmp_path / "a.tif").size == (64, 64)


@pytest.mark.parametrize(
    ("compression", "mode", "reported"),
    [
        ("tiff_adobe_deflate", "RGB", r"is damaged \(.*\)"),
        ("tiff_lzw", "RGB", r"is damaged \(.*\)"),
        ("group4", "1", r"is damaged \(Fax4Decode: Bad code word at line \d+ of strip 0 \(x \d+\)\)"),
    ],
)
def test_damage_is_reported_once(tmp_path: Path, written: None, compression: str, mode: str, reported: str) -> None:
    content = tiff(tmp_path / "a.tif", compression, mode)
    content[200:240] = bytes(range(40, 80))
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.tif {reported}\.\nCopy it"):
        open_picture(tmp_path / "a.tif")


def test_warnings_stay_inside_also_where_they_are_errors(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).convert("P").save(tmp_path / "a.png", transparency=b"\0" * 9)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        open_picture(tmp_path / "a.png")
        warnings.warn("mine", stacklevel=1)
    assert [str(one.message) for one in heard] == ["mine"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_picture(tmp_path / "a.png")


def test_the_filters_of_others_come_back_whatever_threads_do() -> None:
    before, both, one_left = list(warnings.filters), Barrier(2), Barrier(2)

    def first() -> None:
        with quiet:
            both.wait(60)
        one_left.wait(60)

    def second() -> None:
        with quiet:
            both.wait(60)
            one_left.wait(60)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(first), pool.submit(second)]:
            done.result()
    assert list(warnings.filters) == before


def test_what_others_write_meanwhile_comes_out(capfd: pytest.CaptureFixture[str]) -> None:
    with capture_libtiff_messages():
        os.write(2, b"mine\nTIFFReadDirectory: Warning, a tag.\nJob: 3 of 5")
    assert capfd.readouterr().err == "mine\nJob: 3 of 5"
    with pytest.raises(ValueError, match=r"^ZIPDecode: Decoding error at scanline 0$"), capture_libtiff_messages():
        os.write(2, b"ZIPDecode: Decoding error at scanline 0.\n")
