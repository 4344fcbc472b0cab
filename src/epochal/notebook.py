"""What Jupyter shows while something runs: one display that changes in place, at most twice a second."""

from __future__ import annotations

import sys
import time
from importlib import import_module
from typing import Any

# Seconds between two changes of a display, each of which is a message to the browser.
_EVERY = 0.5


def in_notebook() -> bool:
    """Whether this program is the kernel of a notebook, rather than a script or a prompt."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return hasattr(shell, "kernel")


class Display:
    """A place below the cell that runs, whose HTML is replaced; a notebook that is saved has the last of it alone."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._shown = time.monotonic()

    def is_due(self) -> bool:
        """Whether what is there may be replaced: not more than twice a second."""
        return time.monotonic() >= self._shown + _EVERY

    def show(self, html: str) -> None:
        """Show HTML in place of what is there."""
        # Not imported by name: it has no types, and is there only in notebooks.
        ipython: Any = import_module("IPython.display")
        self._shown = time.monotonic()
        if self._handle is None:
            self._handle = ipython.display(ipython.HTML(html), display_id=True)
        else:
            self._handle.update(ipython.HTML(html))

    def clear(self) -> None:
        """Show nothing, if anything is there."""
        if self._handle is not None:
            self.show("")
