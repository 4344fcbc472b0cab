"""Standard output that takes any text, and whose failure ends nothing.

The command calls `forgive` once, at its start. A Python program's own streams are left as they are: `readable` is for what is
printed there.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from pathlib import Path
from typing import Any, TextIO

# What a terminal shows instead of the signs of ours that its encoding lacks.
_PLAIN = {"×": "x", "²": "2", "±": "+-", "–": "-", "—": "-", "…": "...", "✓": "+", "✗": "x"}

_ERRORS = "epochal"


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """What stands for letters that an encoding lacks: a plain sign where there is one, else its number (the é of café: \\xe9)."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(_PLAIN.get(letter) or letter.encode("ascii", "backslashreplace").decode() for letter in letters), error.end


# Names of files may hold what a terminal would take for orders.
_ORDERS = {number: rf"\x{number:02x}" for number in (*range(9), *range(11, 32), *range(127, 160))}


codecs.register_error(_ERRORS, _replaced)


class _Raw(io.FileIO):
    """A file that drops what cannot be written (a full disk, a pipe that nobody reads any more), and remembers why."""

    failed: OSError | None = None

    def write(self, content: Any, /) -> int:
        try:
            return super().write(content)
        except OSError as error:
            self.failed = error
            return memoryview(content).nbytes


def forgive() -> None:
    """Let standard output and standard error take any text, and go on where they cannot be written; see `failure`."""
    # Where a stream is closed, its number would go to the next file that is opened.
    sys.stdout = _forgiving(sys.stdout) if sys.stdout else open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    sys.stderr = _forgiving(sys.stderr) if sys.stderr else open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115


def _forgiving(stream: TextIO) -> TextIO:
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
    """The file below a stream; Python's own standard output has none between where it is told not to buffer."""
    buffer = getattr(stream, "buffer", None)
    return getattr(buffer, "raw", buffer)


def failure() -> str:
    """Return why standard output could not be written since `forgive`; "" where it could, or where its reader has gone."""
    sys.stdout.flush()
    raw = _raw(sys.stdout)
    failed = raw.failed if isinstance(raw, _Raw) else None
    return "" if failed is None or failed.errno == errno.EPIPE else failed.strerror or str(failed)


def command(*words: str | Path) -> str:
    """Return a command that can be typed, with quotation marks where a word needs them."""
    if sys.platform == "win32":
        from subprocess import list2cmdline

        return list2cmdline(map(str, words))
    from shlex import join

    return join(map(str, words))


def harmless(text: str) -> str:
    """Return text in which control signs, but line breaks and tabs, are written as their numbers."""
    return text.translate(_ORDERS)


def readable(text: str, encoding: str | None) -> str:
    """Return `text` with other signs for what an encoding lacks (UTF-8 where it is not known)."""
    encoding = encoding or "utf-8"
    return text.encode(encoding, _ERRORS).decode(encoding)
