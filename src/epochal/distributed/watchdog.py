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


class Watchdog:
    """Watches the other processes on two threads of its own: the store may not answer, and who judges must not wait for it.

    `steps` counts the steps of training that have begun here, `computed` is the last of them whose gradients are computed: this process
    then waits for those of the others.
    """

    def __init__(self, store: Store, rank: int, size: int, name: str) -> None:
        self.store = store
        self.rank = rank
        self.size = size
        self.label = name
        self.steps = 0
        self.computed = 0
        self._watching = 0
        self._beat = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, name="epochal-watchdog", daemon=True),
            threading.Thread(target=self._listen, name="epochal-listening", daemon=True),
        ]
        self._others = {other: _Seen() for other in range(size) if other != rank}
        # In seconds of watching: what passes while all programs of the machine are stopped is nobody's silence.
        self._now = self._heard = 0.0
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

    def start(self) -> None:
        """Watch from now on."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop watching, at the end of the program: a thread that comes back from the store when Python is gone would abort it."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(BEAT_SECONDS)

    def _watch(self) -> None:
        computed, waiting_since = 0, 0.0
        while not self._stopped.wait(BEAT_SECONDS):
            self._now += BEAT_SECONDS
            if self.computed != computed:
                computed, waiting_since = self.computed, self._now
            if self._watching:
                self._judge(self._now - waiting_since if computed > 1 else 0.0)

    def _listen(self) -> None:
        """Say each second that this process is alive, and hear the others."""
        while not self._stopped.wait(BEAT_SECONDS):
            try:
                self._say()
                with self._lock:
                    found = self.store.multi_get([f"alive/{rank}" for rank in self._others])
            except (RuntimeError, ValueError) as error:
                if not self._watching:
                    # Where no launcher keeps the store, it ends with process 0, whose work may be done.
                    return
                self.end(f"The launcher of the processes cannot be reached any longer ({str(error).splitlines()[0]}).")
            self._heard = self._now
            for seen, message in zip(self._others.values(), found, strict=True):
                seen.name, beat, seen.computed, seen.is_watched = json.loads(message)
                if beat != seen.beat:
                    seen.beat, seen.since = beat, self._heard

    def _judge(self, waited: float) -> None:
        if self._now - self._heard > LOST_SECONDS:
            self.end(f"The launcher of the processes has not answered for {LOST_SECONDS:.0f} seconds: it hangs, or is cut off.")
        silent = [rank for rank, seen in self._others.items() if seen.is_watched and self._heard - seen.since > LOST_SECONDS]
        if silent:
            self.end(f"{self._names(silent)} has not answered for {LOST_SECONDS:.0f} seconds: it hangs, or is cut off.")
        # The first step may compile for minutes; and who has been silent for a while is about to be named for that.
        late = [
            rank for rank, seen in self._others.items() if 0 < seen.computed < self.computed and self._heard - seen.since < LOST_SECONDS / 2
        ]
        if waited > LOST_SECONDS and late:
            self.end(f"{self._names(late)} is alive, but all others have waited {LOST_SECONDS:.0f} seconds for its step.")

    def _names(self, those: Sequence[int]) -> str:
        return " and ".join(f"Process {rank} of {self.size} ({self._others[rank].name})" for rank in those)

    def _say(self) -> None:
        with self._lock:
            self._beat += 1
            self.store.set(f"alive/{self.rank}", json.dumps((self.label, self._beat, self.computed, self._watching > 0)))

    def end(self, why: str) -> None:
        """End this program at once: its main thread may wait for another process inside of PyTorch, where nothing can wake it."""
        sys.stderr.write(f"Process {self.rank}: {why}\nTraining ends here; it can continue from the last checkpoint.\n")
        sys.stderr.flush()
        os._exit(LOST_CODE)
