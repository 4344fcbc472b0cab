"""Suppression of decoders' output: Pillow's warnings, and messages of libraries on standard error."""

from __future__ import annotations

import logging
import os
import re
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Whatever Pillow logs is also an exception; without a handler, Python would print it.
logging.getLogger("PIL").addHandler(logging.NullHandler())

# Lines of libtiff (which calls each file from Pillow tempfile.tif), and those of them that report damaged pixels.
_LIBTIFF = re.compile(rb"(?:tempfile\.tif|\w*TIFF\w*|\w+Decode\w*|\w+Setup\w*|LZW\w*|JPEGLib|Fax\w+|ZSTD\w*|PixarLog\w*)(?:, \w+)?: .*")
_OF_PIXELS = re.compile(rb"(?:\w+Decode\w*|JPEGLib|Fax\w+): .*")


# The most bytes of captured output that are examined.
_MOST = 1 << 20


class _Quiet:
    """A block in which Pillow's warnings are ignored, on any thread; `warnings.catch_warnings` alone is not thread-safe."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.block = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                self.block = warnings.catch_warnings()
                self.block.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self.inside += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.block.__exit__(None, None, None)


quiet = _Quiet()
_stream = threading.Lock()


def _after_fork() -> None:
    """Replace the locks in a new process: the threads that hold them do not exist there."""
    global _stream
    quiet.lock, _stream = threading.Lock(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def capture_libtiff_messages() -> Iterator[None]:
    """Keep libtiff's messages off standard error. Raises `ValueError` if they report damaged pixels, which it decodes anyway."""
    with capture_messages(_LIBTIFF) as lines:
        yield
    for line in lines:
        if _OF_PIXELS.match(line):
            raise ValueError(line.decode("utf-8", "replace").strip().rstrip("."))


@contextmanager
def capture_messages(theirs: re.Pattern[bytes]) -> Iterator[list[bytes]]:
    """Keep lines that match `theirs` off standard error: at the end of the block they are in the list.

    Other output to standard error in the meantime is written at the end of the block.
    """
    found: list[bytes] = []
    with _stream, _memory_file() as captured:
        try:
            stderr = os.dup(2)
        except OSError:  # There is no such stream.
            yield found
            return
        os.dup2(captured, 2)
        try:
            yield found
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            os.lseek(captured, 0, os.SEEK_SET)
            for line in os.read(captured, _MOST).splitlines(keepends=True):
                if theirs.match(line):
                    found.append(line)
                else:
                    os.write(2, line)


@contextmanager
def _memory_file() -> Iterator[int]:
    """Yield a new file to write to, in memory if the system supports that."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("stderr")
        try:
            yield file
        finally:
            os.close(file)
    else:
        with tempfile.TemporaryFile() as made:
            yield made.fileno()
