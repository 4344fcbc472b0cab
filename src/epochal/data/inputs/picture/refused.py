"""Why a file cannot become an input, worded to follow its name, and how to fix it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from epochal.data.inputs.picture.quiet import quiet
from epochal.errors import DataError
from epochal.io.safe_read import TooLargeError

# With more pixels, a small file may fill the memory when decompressed. Pillow's default limit is about the same.
MAX_PIXELS = 178_000_000


class UnfitError(ValueError):
    """An intact picture cannot become an input; the message follows its name."""


@contextmanager
def picture_errors(name: str, content: bytes | None = None) -> Iterator[None]:
    """Turn any error of reading a picture into a `DataError` that begins with its name: the path of a file, unless there is `content`."""
    try:
        with quiet:
            yield
    except Exception as error:  # For damaged files, Pillow raises nearly any exception.
        reason, fix = _reason(error, name, content)
        raise DataError(f"{name} {reason}.", fix) from error


def _reason(error: Exception, name: str, content: bytes | None) -> tuple[str, str]:
    match error:
        case UnfitError():
            return error.args
        case TooLargeError():
            return str(error), "Save it smaller."
        case FileNotFoundError(filename=str() | Path() as file) if Path(file).is_symlink():
            return "is a link to nothing", "Fix the link, or remove it."
        case FileNotFoundError():
            return "does not exist", "Check the path."
        case IsADirectoryError():
            return "is a folder, not a picture", "Give the path of one picture."
        case PermissionError():
            return "may not be read", "Change its permissions."
        case UnidentifiedImageError():
            return _unidentified(_head(name) if content is None else content[:_HEAD])
        case Image.DecompressionBombError():
            return f"has more than {MAX_PIXELS:,} pixels", "Save it smaller."
        case MemoryError():
            return "does not fit in memory", "Save it smaller."
        case EOFError() | OSError() if isinstance(error, EOFError) or "truncated" in str(error).lower():
            return "is truncated", "Copy it again, or remove it."
    return f"is damaged ({error})", "Copy it again, or remove it."


# What files with the name of a picture often are, by how they begin.
_NO_PICTURES = (
    (b"version https://git-lfs", "is the address of a file in Git LFS, not the file", "Fetch it: git lfs pull"),
    (b"<!doctype html", "is a web page", "Download the picture itself, or remove it."),
    (b"<html", "is a web page", "Download the picture itself, or remove it."),
    (b"<svg", "is a drawing in SVG", "Save it as PNG, or remove it."),
    (b"%pdf", "is a document in PDF", "Save its pages as PNG, or remove it."),
    (b"pk\x03\x04", "is a zip archive", "Unpack it, or remove it."),
    (b"8bps", "is a picture in Photoshop's own format", "Save it as PNG, or remove it."),
)


_HEAD = 512


def _head(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(_HEAD)
    except OSError:
        return b"?"


def _unidentified(head: bytes) -> tuple[str, str]:
    """Return what a file with this beginning is, which is not a picture, and how to fix it."""
    if not head.strip(b"\0"):
        return "contains only zeros" if head else "is empty", "Copy it again, or remove it."
    for begin, what, fix in _NO_PICTURES:
        if head.lstrip().lower().startswith(begin):
            return what, fix
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis"):
        return "is a picture in HEIC or AVIF", "Save it as JPEG or PNG, or remove it."
    return "is not a picture in PNG, JPEG, WebP, BMP, TIFF or GIF", "Save it as one of these, or remove it."
