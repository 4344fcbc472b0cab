"""Standard output that accepts any text, and whose failure does not end the command.

The command calls `tolerate_output_errors` once, at its start. A Python program's own streams are left as they are: `readable` is
for what is printed there.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

# Replacements for characters that the encoding of a terminal lacks.
_PLAIN = {"×": "x", "²": "2", "±": "+-", "–": "-", "—": "-", "…": "...", "✓": "+", "✗": "x"}

_ERRORS = "epochal"


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks: by a plain one where there is one, else by their number (the é of café: \\xe9)."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(_PLAIN.get(letter) or letter.encode("ascii", "backslashreplace").decode() for letter in letters), error.end


# File names may contain control characters, which a terminal would obey.
_CONTROL = {number: rf"\x{number:02x}" for number in (*range(9), *range(11, 32), *range(127, 160))}


codecs.register_error(_ERRORS, _replaced)


class _Raw(io.FileIO):
    """A file that drops what cannot be written (a full disk, a pipe without a reader), and remembers why."""

    failed: OSError | None = None

    def write(self, content: Any, /) -> int:
        try:
            return super().write(content)
        except OSError as error:
            self.failed = error
            return memoryview(content).nbytes


def tolerate_output_errors() -> None:
    """Let standard output and standard error accept any text, and drop what cannot be written; see `failure`."""
    # If a stream is closed, the next file that is opened would get its number.
    sys.stdout = _tolerant(sys.stdout) if sys.stdout else open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    sys.stderr = _tolerant(sys.stderr) if sys.stderr else open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115


def _tolerant(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    raw = _raw(stream)
    if not isinstance(raw, io.FileIO):
        # The console of Windows, or a test's.
        stream.reconfigure(errors=_ERRORS)
        return stream
    stream.flush()
    buffer = io.BufferedWriter(_Raw(raw.fileno(), "w", closefd=False))
    return io.TextIOWrapper(buffer, encoding=stream.encoding, errors=_ERRORS, line_buffering=True)


def _raw(stream: TextIO) -> Any:
    """Return the file below a stream; an unbuffered standard output has no buffer in between."""
    buffer = getattr(stream, "buffer", None)
    return getattr(buffer, "raw", buffer)


def failure() -> str:
    """Return why standard output could not be written; "" if it could, or if its reader has gone away."""
    sys.stdout.flush()
    raw = _raw(sys.stdout)
    failed = raw.failed if isinstance(raw, _Raw) else None
    return "" if failed is None or failed.errno == errno.EPIPE else failed.strerror or str(failed)


def command(*words: str | Path) -> str:
    """Return a command line as it can be typed, quoted where necessary."""
    if sys.platform == "win32":
        from subprocess import list2cmdline

        return list2cmdline(map(str, words))
    from shlex import join

    return join(map(str, words))


def options(given: Mapping[str, Any]) -> list[str]:
    """Return the options of a command that give these settings, so far as they are set: a list with commas.

    A table is an option in the singular for each of its values, as NAME=VALUE.
    """
    words: list[str] = []
    for name, value in given.items():
        option = "--" + name.replace("_", "-")
        if isinstance(value, Mapping):
            words += [word for key, inner in value.items() for word in (option.removesuffix("s"), f"{key}={inner}")]
        elif value:
            words += [option, str(value) if isinstance(value, str | Path) else ",".join(value)]
    return words


def harmless(text: str) -> str:
    """Return text in which control characters, except line breaks and tabs, are written as their numbers."""
    return text.translate(_CONTROL)


def readable(text: str, encoding: str | None) -> str:
    """Return `text` with the characters that `encoding` lacks replaced (UTF-8 if it is unknown)."""
    encoding = encoding or "utf-8"
    return text.encode(encoding, _ERRORS).decode(encoding)
