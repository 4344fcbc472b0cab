"""Claims about time, on machines that are busy with something else, or stand still for some seconds."""

from __future__ import annotations

from collections.abc import Callable


def in_one_of(tries: int, measure: Callable[[], object]) -> None:
    """Let `measure` succeed once in so many tries: what takes the cores meanwhile makes programs later, but never sooner."""
    for _ in range(tries - 1):
        try:
            measure()
        except AssertionError as error:
            print(f"once more: {error}")
        else:
            return
    measure()
