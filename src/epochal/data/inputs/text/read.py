"""Reading files of text: UTF-8, or UTF-16 where a file says so; what is anything else is refused, with its line."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

from epochal.data.walk import TEXTS
from epochal.errors import DataError
from epochal.io.safe_read import open_file

# The most bytes of a file that is one text.
MAX_BYTES = 20_000_000

# The most characters of a path.
_MAX_PATH = 4096


class Text(str):
    """A text that is never taken for the name of a file; `name` is its own name, if it has one."""

    name: str

    def __new__(cls, text: str, name: str = "") -> Text:
        """Return `text` with a name."""
        made = super().__new__(cls, text)
        made.name = name
        return made


def read_text(path: Path) -> str:
    """Return the text in a file. Raises `DataError` if it cannot be read, or is no text in UTF-8."""
    try:
        with open_file(path) as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}.", "Check the path.") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"{path} cannot be read: {reason}.", "Check the file.") from error
    if len(content) > MAX_BYTES:
        raise DataError(f"{path} is larger than {MAX_BYTES / 1e6:.0f} MB: that is not one text.", "Split it, or remove it.")
    return decoded(content, str(path))


def decoded(content: bytes, name: str) -> str:
    """Return the text of bytes; errors begin with `name` and say the line."""
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{content[error.start]:02X}" if error.start < len(content) else "its end"
        raise DataError(
            f"{name}, line {line:,}: {found} is not {'UTF-16' if is_wide else 'UTF-8'}.",
            "Save the file as UTF-8, in an editor or with iconv: iconv -f GB18030 -t UTF-8 (Chinese), -f CP1252 (western languages).",
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{name}, line {line:,}: there is a zero byte, so it is not text.", "Save it as text in UTF-8, or remove it.")
    return text


def is_file(text: str, *, folder: bool = False) -> bool:
    """Whether a text is the path of a file, or of a folder; one that has no blank and ends in .txt is meant as a file."""
    if isinstance(text, Text) or not text or len(text) > _MAX_PATH or "\n" in text or "\0" in text:
        return False
    if folder:
        return os.path.isdir(text)  # noqa: PTH112  it may be any text
    return os.path.isfile(text) or (TEXTS.matches(text) and not any(map(str.isspace, text)))  # noqa: PTH113
