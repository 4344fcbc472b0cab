"""What tests need not wait for: figures being drawn, which takes longer than a small run, and a disk that is to outlive a power cut."""

from __future__ import annotations

import os
from typing import IO, Any

from matplotlib.figure import Figure

really_save = Figure.savefig


def sketch(figure: Figure, file: IO[bytes], **options: Any) -> None:
    """Write what a figure shows, instead of drawing it: titles, texts, curves, bars, points, pictures; the same gives the same bytes."""
    shown: list[Any] = [options]
    for axes in figure.axes:
        shown += [axes.get_title(), axes.get_xlabel(), axes.get_ylabel(), [text.get_text() for text in axes.texts]]
        shown += [line.get_xydata().tolist() for line in axes.lines]  # type: ignore[union-attr]
        shown += [patch.get_path().vertices.tolist() for patch in axes.patches]  # type: ignore[union-attr]
        shown += [points.get_offsets().tolist() for points in axes.collections]  # type: ignore[union-attr]
        arrays = (artist.get_array() for artist in (*axes.collections, *axes.images))
        shown += [None if array is None else array.tolist() for array in arrays]
    file.write(repr(shown).encode("utf-8", "backslashreplace"))


def draw_nothing() -> None:
    """Let this process write down what figures show."""
    Figure.savefig = sketch  # type: ignore[assignment, method-assign]


def sync_nothing(fd: object) -> None:
    """Stand in for `os.fsync`."""


def flush_nothing() -> None:
    """Let this process leave it to the system when a file reaches the disk."""
    os.fsync = sync_nothing
