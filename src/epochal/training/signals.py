"""Signals during training: the first SIGINT or SIGTERM requests a checkpoint and the end, SIGUSR1 a checkpoint."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from epochal.distributed.ranks import Ranks


class Signals:
    """What signals have requested: a `checkpoint`, and the `end`, as the number of the signal.

    If no checkpoint would be written, signals are not `handled`, and keep their usual effect.
    """

    def __init__(self, *, handled: bool) -> None:
        self.handled = handled
        self.checkpoint = False
        self.end: int | None = None
        self.save_at_once: Callable[[], object] | None = None

    def exit_if_requested(self) -> None:
        """End the program if a signal requested it, as that signal normally does."""
        if self.end is not None:
            _end(self.end)


@contextmanager
def handle_signals(signals: Signals) -> Iterator[None]:
    """In the block, the first SIGINT or SIGTERM requests a checkpoint after the step, and the end; a second one ends the program
    immediately.

    Within `checkpoint_on_signal` there is no step to wait for. SIGUSR1, if the system has it, requests a checkpoint after the step, and
    training continues. Only Python's main thread receives signals; on another this does nothing. Ignored signals, such as SIGINT in
    background jobs of a script, stay ignored.
    """
    if not signals.handled or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, _: FrameType | None) -> None:
        if signals.end is not None:
            _end(number)
        signals.end = number
        if signals.save_at_once is not None:
            signals.save_at_once()

    def request(*_: object) -> None:
        signals.checkpoint = True

    handlers: dict[int, Callable[[int, FrameType | None], None]] = {
        number: ask for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN
    }
    if hasattr(signal, "SIGUSR1"):
        handlers[signal.SIGUSR1] = request
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
        signals.exit_if_requested()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def checkpoint_on_signal(signals: Signals, save: Callable[[], object], ranks: Ranks) -> Iterator[None]:
    """A block without steps: a signal that requests the end gets its checkpoint immediately, however long the block would take.

    Of several processes, none leaves a block that they share: the checkpoint comes after it.
    """
    if ranks.size > 1:
        yield
        return
    signals.save_at_once = save
    try:
        if signals.end is not None:
            save()
        yield
    finally:
        signals.save_at_once = None


def _end(number: int) -> NoReturn:
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
