"""Why a sound file cannot become an input, worded to follow its name, and how to fix it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from epochal.errors import DataError

_AGAIN = "Copy it again, or remove it."


class UnfitError(ValueError):
    """A sound cannot become an input: why, in words that follow its name, and a fix."""

    def __init__(self, why: str, fix: str = _AGAIN) -> None:
        super().__init__(why, fix)
        self.why = why
        self.fix = fix


@contextmanager
def sound_errors(name: str) -> Iterator[None]:
    """Turn any error of reading a sound into a `DataError` that begins with its name."""
    try:
        yield
    except Exception as error:  # libsndfile's errors are of several classes
        why, fix = _reason(error)
        raise DataError(f"{name} {why}.", fix) from error


def _reason(error: Exception) -> tuple[str, str]:
    match error:
        case UnfitError():
            return error.why, error.fix
        case FileNotFoundError():
            return "does not exist", "Check the path."
        case IsADirectoryError():
            return "is a folder, not a sound", "Give the path of one sound."
        case PermissionError():
            return "may not be read", "Change its permissions."
        case MemoryError():
            return "does not fit in memory", "Save a part of it."
    return f"is damaged ({str(error).rstrip('.')})", _AGAIN
