"""Threads that wait for a core are noticed, and OpenMP's threads then sleep instead of spinning."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from epochal import cores
from epochal.cores import sharing_cores

LINUX = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this system does not say how long threads wait for a core")


def _until(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    ends = time.monotonic() + seconds
    while not condition() and time.monotonic() < ends:
        time.sleep(0.01)
    return condition()


@contextmanager
def _waiting(monkeypatch: pytest.MonkeyPatch, share: list[float], others: float = 1.0) -> Iterator[None]:
    """Let the system say that threads wait for `share[0]` of the time, and that other programs use so many cores.

    All that is looked at together is of one moment: a program that stands still in between would measure anything.
    """
    waited, moment = 0.0, time.perf_counter()

    def waits() -> dict[str, float]:
        nonlocal waited, moment
        now = time.perf_counter()
        waited, moment = waited + share[0] * (now - moment), now
        return {"1": waited}

    monkeypatch.setattr(cores, "seconds_waited", waits)
    monkeypatch.setattr(cores, "seconds_used_by_others", lambda: others * moment)
    monkeypatch.setattr(cores, "time", SimpleNamespace(perf_counter=lambda: moment))
    monkeypatch.setattr(cores, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(cores, "HOLD_SECONDS", 0.1)
    yield


def _yielding() -> bool:
    return any(thread.name == "epochal-yielding" for thread in threading.enumerate())


def test_crowded_cores_are_noticed_and_yielded_until_they_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    share = [0.0]
    with _waiting(monkeypatch, share), sharing_cores() as watch:
        time.sleep(0.1)
        assert watch.crowded_seconds() == 0.0
        assert not _yielding()
        share[0] = 0.5
        assert _until(lambda: watch.crowded_seconds() > 0.05)
        assert _until(_yielding)
        share[0] = 0.01
        assert _until(lambda: watch.crowded_seconds() == 0.0)
        assert _until(lambda: not _yielding())
        share[0] = 0.5
        assert _until(_yielding)
    assert not _yielding()


def test_a_crowd_that_has_gone_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    share = [0.0]
    with _waiting(monkeypatch, share), sharing_cores() as watch:
        began = time.perf_counter()
        time.sleep(0.05)
        assert not watch.was_crowded(began)
        share[0] = 0.5
        assert _until(lambda: watch.was_crowded(began))
        share[0] = 0.0
        assert _until(lambda: watch.crowded_seconds() == 0.0)
        assert watch.was_crowded(began)
        assert not watch.was_crowded(time.perf_counter())


def test_threads_that_wait_for_each_other_are_no_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    with _waiting(monkeypatch, [0.9], others=0.05), sharing_cores() as watch:
        time.sleep(0.2)
        assert watch.crowded_seconds() == 0.0
        assert not _yielding()


@LINUX
def test_what_others_use_is_counted_without_ourselves() -> None:
    before, began = cores.seconds_used_by_others(), time.process_time()
    while time.process_time() - began < 0.5:
        pass
    own = cores.seconds_used_by_others() - before
    busy = subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.5: pass"], check=True)
    assert busy.returncode == 0
    assert cores.seconds_used_by_others() - before - own > 0.4


def test_blocks_within_one_another_share_a_watch() -> None:
    before = threading.active_count()
    with sharing_cores() as outer, sharing_cores() as inner:
        assert outer is inner
        assert threading.active_count() > before
    assert not _yielding()
    assert not any(thread.name == "epochal-cores" for thread in threading.enumerate())
    with pytest.raises(KeyError), sharing_cores():
        raise KeyError
    assert not any(thread.name == "epochal-cores" for thread in threading.enumerate())


@LINUX
def test_a_thread_that_shares_its_core_waits() -> None:
    """Two busy loops on one core: each waits about half of the time."""
    code = (
        "import os, threading, time\n"
        "from epochal import cores\n"
        "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "if os.fork() == 0:\n"
        "    ends = time.monotonic() + 60\n"
        "    while os.getppid() != 1 and time.monotonic() < ends: pass\n"
        "    os._exit(0)\n"
        "with cores.sharing_cores() as watch:\n"
        "    ends = time.monotonic() + 50\n"
        "    while not watch.crowded_seconds() and time.monotonic() < ends: pass\n"
        "    print(watch.crowded_seconds() > 0, flush=True)\n"
        "os._exit(0)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100).stdout == "True\n"


@LINUX
def test_yielding_makes_a_team_of_more_threads_than_cores_and_ends_it() -> None:
    if cores.gnu_openmp() is None:
        pytest.skip("this PyTorch does not bring GNU's OpenMP")
    torch.ones(1)
    # Threads of earlier tests may end meanwhile.
    before = _tasks()
    yielding = cores.Yielding()
    # The thread itself, and its team of one more than there are cores.
    assert _until(lambda: len(_tasks() - before) >= 1 + (os.cpu_count() or 1))
    team = _tasks() - before
    yielding.end()
    assert _until(lambda: not team & _tasks())


def _tasks() -> set[str]:
    return {task.name for task in Path("/proc/self/task").iterdir()}


def test_nothing_happens_where_the_system_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cores, "TASKS", tmp_path / "absent")
    monkeypatch.setattr(cores, "USAGE", tmp_path / "absent")
    monkeypatch.setattr(cores, "LOOK_SECONDS", 0.001)
    with sharing_cores() as watch:
        time.sleep(0.05)
        assert watch.crowded_seconds() == 0.0
    monkeypatch.setattr(torch, "__file__", str(tmp_path / "__init__.py"))
    with ExitStack() as stack:
        yielding = cores.Yielding()
        stack.callback(yielding.end)
        assert _yielding()
    assert not _yielding()
