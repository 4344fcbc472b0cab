"""Noticing that a process hangs or is cut off, and naming it: otherwise all others would wait for it without end.

Every process tells the launcher's store each second that it is alive, and which step of training it has finished computing. A thread of
each looks at what the others say. A process that says nothing, or that computes one step so long that all others wait, ends training:
nothing is lost beyond the last checkpoint, and torchrun starts all processes again, or a person does with `epochal resume`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store


# Seconds between two signs of life, and without one until a process counts as lost. A fault is named within half a minute.
BEAT_SECONDS = 1.0
LOST_SECONDS = 20.0

# A process that ends because another one is lost ends with this code (EX_TEMPFAIL of sysexits.h: try again).
LOST_CODE = 75


@dataclass
class _Seen:
    """The last sign of life of another process, and when it came."""

    name: str = ""
    beat: int = -1
    computed: int = -1
    is_watched: bool = False
    since: float = 0.0


class Watchdog(threading.Thread):
    """Watches the other processes on a thread of its own.

    `steps` counts the steps of training that have begun here, `computed` is the last of them whose gradients are computed: this process
    then waits for those of the others.
    """

    def __init__(self, store: Store, rank: int, size: int, name: str) -> None:
        super().__init__(name="epochal-watchdog", daemon=True)
        self.store = store
        self.rank = rank
        self.size = size
        self.label = name
        self.steps = 0
        self.computed = 0
        self._watching = 0
        self._beat = 0
        self._lock = threading.Lock()
        self._say()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """In the block, processes wait for each other; outside of such blocks each may end when it wants."""
        self._watching += 1
        self._say()
        yield
        # Not after an error: the others may wait for this process in vain.
        self._watching -= 1
        self._say()

    def run(self) -> None:
        """Watch until the program ends."""
        others = {rank: _Seen() for rank in range(self.size) if rank != self.rank}
        computed, waiting_since = 0, time.monotonic()
        while True:
            time.sleep(BEAT_SECONDS)
            now = time.monotonic()
            if self.computed != computed:
                computed, waiting_since = self.computed, now
            try:
                self._say()
                with self._lock:
                    found = self.store.multi_get([f"alive/{rank}" for rank in others])
            except (RuntimeError, ValueError) as error:
                self.end(f"The launcher of the processes cannot be reached any longer ({str(error).splitlines()[0]}).")
            for seen, message in zip(others.values(), found, strict=True):
                seen.name, beat, seen.computed, seen.is_watched = json.loads(message)
                if beat != seen.beat:
                    seen.beat, seen.since = beat, now
            if not self._watching:
                continue
            self._judge(others, now, now - waiting_since if computed > 1 else 0.0)

    def _judge(self, others: dict[int, _Seen], now: float, waited: float) -> None:
        silent = [rank for rank, seen in others.items() if seen.is_watched and now - seen.since > LOST_SECONDS]
        if silent:
            self.end(f"{self._names(others, silent)} has not answered for {LOST_SECONDS:.0f} seconds: it hangs, or is cut off.")
        # The first step may compile for minutes.
        late = [rank for rank, seen in others.items() if 0 < seen.computed < self.computed]
        if waited > LOST_SECONDS and late:
            self.end(f"{self._names(others, late)} is alive, but all others have waited {LOST_SECONDS:.0f} seconds for its step.")

    def _names(self, others: dict[int, _Seen], those: Sequence[int]) -> str:
        return " and ".join(f"Process {rank} of {self.size} ({others[rank].name})" for rank in those)

    def _say(self) -> None:
        with self._lock:
            self._beat += 1
            self.store.set(f"alive/{self.rank}", json.dumps((self.label, self._beat, self.computed, self._watching > 0)))

    def end(self, why: str) -> None:
        """End this program at once: its main thread may wait for another process inside of PyTorch, where nothing can wake it."""
        sys.stderr.write(f"Process {self.rank}: {why}\nTraining ends here; it can continue from the last checkpoint.\n")
        sys.stderr.flush()
        os._exit(LOST_CODE)
