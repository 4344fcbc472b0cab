"""Finding the place of an error in the user's code, which may raise anything, and shortening the tracebacks of our own."""

from __future__ import annotations

import functools
import os
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from epochal.errors import EpochalError

# Where we, Python and libraries have their source.
_LIBRARIES = tuple(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_KNOWN = (str(Path(__file__).parent), "<frozen", *_LIBRARIES)


def is_user_code(file: str) -> bool:
    """Return whether a source file is the user's: not ours, and not part of Python or of a library."""
    return not (file.startswith(_KNOWN) or {"site-packages", "dist-packages"} & {*Path(file).parts})


def place_of(error: BaseException) -> str:
    """Return the last line of the user's code that `error` passed through, as " (net.py, line 12)"; "" if there is none."""
    place, trace = "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if is_user_code(file):
            place = f" ({Path(file).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return place


def in_words(error: BaseException) -> str:
    """Return in one line what the user's code raised, and where: "ZeroDivisionError: division by zero (net.py, line 12)"."""
    # The first line of PyTorch's own errors is sufficient.
    reason = str(error).split("\n")[0].partition(" Hint: ")[0].rstrip(".")
    kind = "" if isinstance(error, RuntimeError | ValueError) and reason else f"{type(error).__name__}{': ' * bool(reason)}"
    return f"{kind}{reason}{place_of(error)}"


P = ParamSpec("P")
T = TypeVar("T")


def concise(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function of the public interface raise an `EpochalError` without the traceback through our code.

    The message says what is wrong, where, and how to fix it. If the user's code failed, that error remains the cause, with the
    traceback through the user's code.
    """

    @functools.wraps(function)
    def public(*args: P.args, **named: P.kwargs) -> T:
        try:
            return function(*args, **named)
        except EpochalError as error:
            raise error.with_traceback(None) from _within_user_code(error.__cause__)

    return public


def _within_user_code(error: BaseException | None) -> BaseException | None:
    """Return an error with its traceback from the first frame of the user's code on; `None` if there is no such frame."""
    trace = None if error is None else error.__traceback__
    while trace is not None and not is_user_code(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return None if error is None or trace is None else error.with_traceback(trace)
