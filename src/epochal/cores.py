"""Sharing the machine's cores with other programs.

OpenMP, which shares PyTorch's operations among threads, lets a thread that has nothing to do ask again and again, for some
milliseconds, whether there is work: it "spins" and keeps its core. Where another program wants that core, the thread that all
the others wait for may be the one without a core, and a step takes 20 to 90 times as long instead of twice as long.

`sharing_cores` therefore looks a few times a second how long the threads of this program had to wait for a core, and while they
do, lets OpenMP's threads sleep at once instead of spinning. That changes when threads work, never what they compute.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

# Seconds between two looks, and from the last look that found the cores crowded to the end of yielding.
_LOOK_SECONDS = 0.2
_HOLD_SECONDS = 2.0
# The cores are crowded when threads wait for one for so many seconds in a second, all together, while other programs use so much of them.
# Threads also wait for each other, where the system has put two of them on one core: then nobody else is there.
_CROWDED = 0.15
_OTHERS = 0.25

_TASKS = Path("/proc/self/task")
_USAGE = Path("/proc/stat")


class CoreWatch(threading.Thread):
    """Looks whether this program's threads have to wait for a core; while they do, OpenMP's threads yield theirs.

    Linux counts how long each thread was ready to run and had no core (`schedstat`), and how long the cores were in use; and PyTorch for
    Linux brings GNU's OpenMP. Elsewhere cores are never found crowded.
    """

    def __init__(self) -> None:
        super().__init__(name="epochal-cores", daemon=True)
        self._ended = threading.Event()
        self._crowded_since: float | None = None
        self._yielding: _Yielding | None = None

    def crowded_seconds(self) -> float:
        """Return for how many seconds the cores have been crowded without a break; 0.0 where they are not."""
        since = self._crowded_since
        return 0.0 if since is None else time.perf_counter() - since

    def run(self) -> None:
        """Look until `end` is called."""
        waits, others, looked = _waits(), _used_by_others(), time.perf_counter()
        crowded = -float("inf")
        while not self._ended.wait(_LOOK_SECONDS):
            latest, latest_others, now = _waits(), _used_by_others(), time.perf_counter()
            waited = sum(seconds - waits[task] for task, seconds in latest.items() if task in waits) / (now - looked)
            used = (latest_others - others) / (now - looked)
            waits, others, looked = latest, latest_others, now
            if waited >= _CROWDED and used >= _OTHERS:
                crowded = now
                self._crowded_since = self._crowded_since or now
                self._yielding = self._yielding or _Yielding()
            else:
                self._crowded_since = None
                if self._yielding and now - crowded > _HOLD_SECONDS:
                    self._yielding.end()
                    self._yielding = None
        if self._yielding:
            self._yielding.end()

    def end(self) -> None:
        """End looking, and yielding."""
        self._ended.set()
        self.join()


_watch: CoreWatch | None = None


@contextmanager
def sharing_cores() -> Iterator[CoreWatch]:
    """Share the cores with other programs for the block; blocks within one another, on any threads, have one watch."""
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


def _waits() -> dict[str, float]:
    """Return for each thread of this program how many seconds it has waited for a core, by its number."""
    found = {}
    try:
        for task in _TASKS.iterdir():
            # A thread may end before its file is read.
            try:
                found[task.name] = int((task / "schedstat").read_text().split()[1]) / 1e9
            except (OSError, IndexError):
                continue
    except OSError:
        pass
    return found


def _used_by_others() -> float:
    """Return how many seconds all other programs have used the cores; what they are counted from does not matter."""
    try:
        user, nice, system, _idle, _iowait, irq, softirq, *_ = map(int, _USAGE.read_text().split("\n", 1)[0].split()[1:])
    except (OSError, ValueError):
        return 0.0
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK") - time.process_time()


class _Yielding:
    """While it exists, OpenMP's threads go to sleep as soon as they have nothing to do.

    GNU's OpenMP spins 300,000 times before a thread sleeps, but 100 times where it has made more threads than there are cores. Its own
    settings are read once, when PyTorch is loaded; so one thread of ours makes a team of idle threads, one more than there are cores.
    """

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._hold, name="epochal-yielding", daemon=True)
        self._thread.start()

    def _hold(self) -> None:
        library = _openmp()
        if library is not None:
            # The team lives as long as the thread that made it. What its threads run is a question whose answer nobody hears.
            nothing = ctypes.cast(library.omp_get_thread_num, ctypes.c_void_p)
            library.GOMP_parallel(nothing, None, ctypes.c_uint((os.cpu_count() or 1) + 1), ctypes.c_uint(0))
        self._ended.wait()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()


def _openmp() -> ctypes.CDLL | None:
    """Return GNU's OpenMP as PyTorch loaded it, `None` where it brings another, or none."""
    for path in (Path(torch.__file__).parent / "lib").glob("libgomp*"):
        return ctypes.CDLL(str(path))
    return None
