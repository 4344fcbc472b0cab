"""Sharing the machine's cores with other programs.

OpenMP, which divides PyTorch's operations among threads, makes an idle thread poll for work for some milliseconds: it "spins" and
keeps its core. If another program needs that core, the thread that all the others wait for may be the one without a core, and a
step takes 20 to 90 times as long instead of twice as long.

`sharing_cores` therefore checks a few times a second how long the threads of this program had to wait for a core, and while they
do, makes OpenMP's threads sleep immediately instead of spinning. That changes when threads work, never what they compute.
"""

from __future__ import annotations

import ctypes
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

# Seconds between two checks, and how long yielding continues after the last check that found the cores crowded.
LOOK_SECONDS = 0.2
HOLD_SECONDS = 2.0
# The cores are crowded when threads wait for one this many seconds per second, all together, while other programs use this much of them.
# Threads also wait for each other if the system has put two of them on one core: then no other program is involved.
_CROWDED = 0.15
_OTHERS = 0.25

TASKS = Path("/proc/self/task")
USAGE = Path("/proc/stat")


class CoreWatch(threading.Thread):
    """Watches whether this program's threads have to wait for a core; while they do, OpenMP's threads yield theirs.

    Linux counts how long each thread was ready to run without a core (`schedstat`), and how long the cores were in use, and PyTorch for
    Linux includes GNU's OpenMP. On other systems cores never count as crowded.
    """

    def __init__(self) -> None:
        super().__init__(name="epochal-cores", daemon=True)
        self._ended = threading.Event()
        self._crowded_since: float | None = None
        # When the last check was that found the cores crowded.
        self._crowded = -math.inf
        self._yielding: Yielding | None = None

    def crowded_seconds(self) -> float:
        """Return for how many seconds the cores have been crowded without a break; 0.0 if they are not."""
        since = self._crowded_since
        return 0.0 if since is None else time.perf_counter() - since

    def was_crowded(self, since: float) -> bool:
        """Return whether the cores have been crowded at any check after `since`, on the clock of `time.perf_counter`, or still are."""
        return self.crowded_seconds() > 0 or self._crowded >= since

    def run(self) -> None:
        """Watch until `end` is called."""
        waits, others, looked = seconds_waited(), seconds_used_by_others(), time.perf_counter()
        while not self._ended.wait(LOOK_SECONDS):
            latest, latest_others, now = seconds_waited(), seconds_used_by_others(), time.perf_counter()
            waited = sum(seconds - waits[task] for task, seconds in latest.items() if task in waits) / (now - looked)
            used = (latest_others - others) / (now - looked)
            waits, others, looked = latest, latest_others, now
            if waited >= _CROWDED and used >= _OTHERS:
                self._crowded = now
                self._crowded_since = self._crowded_since or now
                self._yielding = self._yielding or Yielding()
            else:
                self._crowded_since = None
                if self._yielding and now - self._crowded > HOLD_SECONDS:
                    self._yielding.end()
                    self._yielding = None
        if self._yielding:
            self._yielding.end()

    def end(self) -> None:
        """Stop watching, and yielding."""
        self._ended.set()
        self.join()


_watch: CoreWatch | None = None


@contextmanager
def sharing_cores() -> Iterator[CoreWatch]:
    """Share the cores with other programs for the block; nested blocks, on any threads, share one watch."""
    global _watch
    if _watch is not None:
        yield _watch
        return
    _watch = CoreWatch()
    _watch.start()
    try:
        yield _watch
    finally:
        _watch.end()
        _watch = None


def seconds_waited() -> dict[str, float]:
    """Return how many seconds each thread of this program has waited for a core, by its id."""
    found = {}
    try:
        for task in TASKS.iterdir():
            # A thread may end before its file is read.
            try:
                found[task.name] = int((task / "schedstat").read_text().split()[1]) / 1e9
            except (OSError, IndexError):
                continue
    except OSError:
        pass
    return found


def seconds_wanted() -> float:
    """Return how many seconds this thread has computed, or was ready to and had no core; without those in which it waited for others."""
    try:
        ran, waited, _ = (TASKS / str(threading.get_native_id()) / "schedstat").read_text().split()
    except (OSError, ValueError):
        return time.thread_time()
    return (int(ran) + int(waited)) / 1e9


def seconds_used_by_others() -> float:
    """Return how many seconds all other programs have used the cores, from an arbitrary start."""
    try:
        user, nice, system, _idle, _iowait, irq, softirq, *_ = map(int, USAGE.read_text().split("\n", 1)[0].split()[1:])
    except (OSError, ValueError):
        return 0.0
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK") - time.process_time()


class Yielding:
    """While it exists, OpenMP's threads go to sleep as soon as they are idle.

    GNU's OpenMP spins 300,000 times before a thread sleeps, but only 100 times if it has more threads than there are cores. Its
    settings are read once, when PyTorch is loaded, so a thread of ours creates a team of idle threads, one more than there are cores.
    """

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._hold, name="epochal-yielding", daemon=True)
        self._thread.start()

    def _hold(self) -> None:
        library = gnu_openmp()
        if library is not None:
            # The team lives as long as the thread that made it. Its threads call a function without side effects.
            nothing = ctypes.cast(library.omp_get_thread_num, ctypes.c_void_p)
            library.GOMP_parallel(nothing, None, ctypes.c_uint((os.cpu_count() or 1) + 1), ctypes.c_uint(0))
        self._ended.wait()

    def end(self) -> None:
        """Let OpenMP's threads spin again."""
        self._ended.set()
        self._thread.join()


def gnu_openmp() -> ctypes.CDLL | None:
    """Return GNU's OpenMP as PyTorch loaded it; `None` if PyTorch has another one, or none."""
    for path in (Path(torch.__file__).parent / "lib").glob("libgomp*"):
        return ctypes.CDLL(str(path))
    return None
