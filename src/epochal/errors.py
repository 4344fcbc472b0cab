"""What can go wrong, as one tree.

    EpochalError
    ├── RecipeError      a setting is unknown, of the wrong type, out of range, or cannot work
    │   └── TooLargeError         a step would not fit the memory
    ├── DataError        data cannot be found, read or used
    │   ├── UnreadableError  files of examples cannot be read
    │   └── DownloadError    data cannot be fetched, or arrived damaged
    ├── ModelError       a model is unknown, or does not fit the data
    │   └── MissingError     it needs a package that is not installed
    ├── ElsewhereError   another process of the same training has failed, and has said why
    ├── TrainingError    training cannot continue
    │   ├── LostError        another process that trains along has ended, or cannot be reached
    │   └── NotFiniteError   a loss, a gradient or a weight is NaN or infinite
    ├── BundleError      a saved model is missing, damaged, or of another version
    ├── ExportError      a model cannot be exported, or what was exported disagrees with it
    └── OutputError      a result cannot be written
        └── TakenError       its name is already taken

Every message says what is wrong, where, and what to do. The command prints it without a traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class EpochalError(Exception):
    """Base of every error that Epochal raises on purpose.

    `problem` says what is wrong and where; `fix` says what to do about it.
    """

    def __init__(self, problem: str, fix: str = "") -> None:
        super().__init__(f"{problem}\n{fix}" if fix else problem)
        self.problem = problem
        self.fix = fix


class RecipeError(EpochalError):
    """A setting is unknown, of the wrong type, out of range, or cannot work."""


class TooLargeError(RecipeError):
    """A step would not fit the memory."""


class DataError(EpochalError):
    """Data cannot be found, read or used."""


class UnreadableError(DataError):
    """Files of examples cannot be read: those at `places`, for these `reasons`.

    `names`, if they are known, are what the user calls them.
    """

    def __init__(self, problem: str, fix: str, places: Sequence[int], reasons: Sequence[str]) -> None:
        super().__init__(problem, fix)
        self.places = tuple(places)
        self.reasons = tuple(reasons)
        self.names: tuple[str, ...] = ()


class DownloadError(DataError):
    """Data cannot be fetched, or arrived damaged."""


class ModelError(EpochalError):
    """A model is unknown, or does not fit the data."""


class MissingError(ModelError):
    """A model needs a package that is not installed."""


class ElsewhereError(EpochalError):
    """Another process of the same training has failed, and has said why: this one ends without a word."""


class TrainingError(EpochalError):
    """Training cannot continue."""


class LostError(TrainingError):
    """Another process that trains along has ended, or cannot be reached."""


class NotFiniteError(TrainingError):
    """A loss, a gradient or a weight is NaN or infinite."""


class BundleError(EpochalError):
    """A saved model is missing, damaged, or of another version."""


class ExportError(EpochalError):
    """A model cannot be exported, or what was exported disagrees with it."""


class OutputError(EpochalError):
    """A result cannot be written."""


class TakenError(OutputError):
    """The name of a result is already taken."""

    def __init__(self, path: object, fix: str = "Choose another name, or remove it first.") -> None:
        super().__init__(f"{path} exists already.", fix)


def reason_of(error: Exception) -> str:
    """Return why a file could not be used; for an `OSError`, without its number and path."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def suggest(word: str, known: Iterable[str], *, also: Iterable[str] = (), otherwise: str = "") -> str:
    """Return the help for a mistyped `word`: the nearest of `known` and of `also`; or else what to do `otherwise`, or all of `known`."""
    import difflib

    names = sorted(known)
    by_lower = {name.lower(): name for name in (*names, *also)}
    if not by_lower:
        return "There is none to choose from."
    near = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f"Did you mean '{by_lower[near[0]]}'?" if near else otherwise or f"Known: {', '.join(names)}."
