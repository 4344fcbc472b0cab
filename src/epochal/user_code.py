"""Where an error came from in the user's own code, which may raise anything, and how errors leave ours."""

from __future__ import annotations

import functools
import os
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from epochal.errors import EpochalError

# Where Python and libraries have their source.
_LIBRARIES = tuple(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def is_user_code(file: str) -> bool:
    """Whether a source file is the user's own: not ours, and not part of Python or of a library."""
    return not (
        file.startswith((str(Path(__file__).parent), "<frozen", *_LIBRARIES)) or {"site-packages", "dist-packages"} & {*Path(file).parts}
    )


def place_of(error: BaseException) -> str:
    """Return the last line of the user's own code that `error` came through, as " (net.py, line 12)"; nothing where there is none."""
    place, trace = "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if is_user_code(file):
            place = f" ({Path(file).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return place


def in_words(error: BaseException) -> str:
    """Return what the user's own code raised, in one line, and where: "ZeroDivisionError: division by zero (net.py, line 12)"."""
    # PyTorch's own errors say all in their first line.
    reason = str(error).split("\n")[0].partition(" Hint: ")[0].rstrip(".")
    kind = "" if isinstance(error, RuntimeError | ValueError) and reason else f"{type(error).__name__}{': ' * bool(reason)}"
    return f"{kind}{reason}{place_of(error)}"


P = ParamSpec("P")
T = TypeVar("T")


def concise(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function of the public interface raise an `EpochalError` as its own: without the way to it through our code.

    What is wrong, where, and what to do stands in its message. Where the user's own code failed, that error stays its cause, with the
    way through that code.
    """

    @functools.wraps(function)
    def public(*args: P.args, **named: P.kwargs) -> T:
        try:
            return function(*args, **named)
        except EpochalError as error:
            raise error.with_traceback(None) from _within_user_code(error.__cause__)

    return public


def _within_user_code(error: BaseException | None) -> BaseException | None:
    """Return an error with its way from where it first came through the user's code; `None` where it never did."""
    trace = None if error is None else error.__traceback__
    while trace is not None and not is_user_code(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return None if error is None or trace is None else error.with_traceback(trace)
