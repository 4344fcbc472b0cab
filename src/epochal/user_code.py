"""Where an error came from in the user's own code, which may raise anything: in a network, a loss, an optimizer or a Dataset."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

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
