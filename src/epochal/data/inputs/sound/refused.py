"""Why a sound file cannot become an input, worded to follow its name, and how to fix it."""

from __future__ import annotations

from types import TracebackType

from epochal.errors import DataError
from epochal.io.safe_read import TooLargeError

_AGAIN = "Copy it again, or remove it."


class UnfitError(ValueError):
    """A sound cannot become an input: why, in words that follow its name, and a fix."""

    def __init__(self, why: str, fix: str = _AGAIN) -> None:
        super().__init__(why, fix)
        self.why = why
        self.fix = fix


class sound_errors:  # noqa: N801  used like a function
    """Turn any error of reading a sound, in a `with` block, into a `DataError` that begins with its name.

    For millions of files this is a class: a generator would take a tenth of the time of reading a small one.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, Exception):  # libsndfile's errors are of several classes
            why, fix = _reason(error)
            raise DataError(f"{self.name} {why}.", fix) from error


def _reason(error: Exception) -> tuple[str, str]:
    match error:
        case UnfitError():
            return error.why, error.fix
        case TooLargeError():
            return str(error), "Save a part of it."
        case FileNotFoundError():
            return "does not exist", "Check the path."
        case IsADirectoryError():
            return "is a folder, not a sound", "Give the path of one sound."
        case PermissionError():
            return "may not be read", "Change its permissions."
        case MemoryError():
            return "does not fit in memory", "Save a part of it."
    return f"is damaged ({str(error).rstrip('.')})", _AGAIN
