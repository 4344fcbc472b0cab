"""Several processes that train one model: `ranks` (who they are, how they agree), `watchdog` (who hangs), `launch` (starting them).

What is here is known from the environment alone, without PyTorch.
"""

from __future__ import annotations

import os


def is_launched() -> bool:
    """Whether this is one of several processes that a launcher such as torchrun has started."""
    return "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") not in ("", "1")


def leads() -> bool:
    """Whether this process is the one that prints and writes."""
    return not is_launched() or os.environ["RANK"] == "0"


def launch_name() -> str | None:
    """Return what names the launch that this process belongs to, also after its processes have been started again; `None` without one.

    Of an elastic launch only one process may be left.
    """
    if "RANK" not in os.environ:
        return None
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    # torchrun calls all launches "none" unless it is told otherwise: then its own process names it.
    return f"parent {os.getppid()}" if name == "none" else name


def was_restarted() -> bool:
    """Whether the launcher has started its processes again because some were lost."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
