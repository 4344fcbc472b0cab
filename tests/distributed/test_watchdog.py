"""Who is named for what, by the clock of a watchdog that is set by hand."""

from __future__ import annotations

import atexit
import json
import threading
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from epochal.distributed.ranks import _reason, ranks
from epochal.distributed.watchdog import LOST_SECONDS, Watchdog
from tests.forks import Server
from tests.processes import Processes, write


@pytest.mark.parametrize(
    ("waited", "silent", "computed", "why"),
    [
        (LOST_SECONDS + 0.5, 1.0, 7, "Process 1 of 2 (there) is alive, but all others have waited 20 seconds for its step."),
        (LOST_SECONDS + 0.5, LOST_SECONDS + 1, 7, "Process 1 of 2 (there) has not answered for 20 seconds: it hangs, or is cut off."),
        # It stopped when it had just said that it was alive: a second more, and it is silent.
        (LOST_SECONDS + 0.5, LOST_SECONDS - 0.5, 7, ""),
        (LOST_SECONDS - 0.5, 1.0, 7, ""),
        (LOST_SECONDS + 0.5, 1.0, 8, ""),
        # It computes its first step, which may be compiled.
        (LOST_SECONDS + 0.5, 1.0, 0, ""),
    ],
)
def test_what_is_said(waited: float, silent: float, computed: int, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(Watchdog, "end", lambda _, why: said.append(why))
    watchdog = Watchdog(dist.HashStore(), 0, 2, "here")  # type: ignore[attr-defined]
    watchdog.computed, watchdog._now, watchdog._heard = 8, 100.0, 100.0
    other = watchdog._others[1]
    other.name, other.computed, other.is_watched, other.since = "there", computed, True, 100.0 - silent
    watchdog._judge(waited)
    assert said == [why] * bool(why)


def test_no_answer_of_the_store_is_nobodys_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(Watchdog, "end", lambda _, why: said.append(why))
    watchdog = Watchdog(dist.HashStore(), 0, 2, "here")  # type: ignore[attr-defined]
    watchdog._now, watchdog._heard, watchdog._others[1].since = 100.0, 100.0 - LOST_SECONDS - 1, 70.0
    watchdog._judge(0.0)
    assert said[0] == "The launcher of the processes has not answered for 20 seconds: it hangs, or is cut off."


class Gone(dist.HashStore):  # type: ignore[name-defined,misc]
    """A store whose process has ended."""

    def multi_get(self, _: list[str]) -> list[bytes]:
        """Fail."""
        raise dist.DistNetworkError("connection reset")


@pytest.mark.parametrize("is_at_work", [False, True])
def test_a_store_that_is_gone_matters_at_work_only(is_at_work: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def end(watchdog: Watchdog, why: str) -> None:
        said.append(why)
        watchdog._stopped.set()

    monkeypatch.setattr(Watchdog, "end", end)
    monkeypatch.setattr("epochal.distributed.watchdog.BEAT_SECONDS", 0.001)
    watchdog = Watchdog(Gone(), 0, 2, "here")
    with watchdog.watching() if is_at_work else nullcontext(), suppress(UnboundLocalError):
        watchdog._listen()
    assert said == ["The launcher of the processes cannot be reached any longer (connection reset)."] * is_at_work


def end(rank: int) -> None:
    """Join the others, end as Python does before it takes itself apart, and write which threads there were, and are."""
    ranks()
    before = sorted(thread.name for thread in threading.enumerate())
    atexit._run_exitfuncs()
    write([before, [thread.name for thread in threading.enumerate()]], f"threads-{rank}.json")


def fork(folder: Path) -> list[dict[str, Any]]:
    """Join and end, in two processes."""
    return Processes(folder, 2, end).wait()


def test_no_thread_outlives_python(forking: Server, tmp_path: Path) -> None:
    # One that came back from the store later would abort the process, and torchrun would start all of them again.
    forking.by(__name__).ask(folder=str(tmp_path))
    assert [one["code"] for one in forking.answer()] == [0, 0], (tmp_path / "said-0.txt").read_text()
    for rank in range(2):
        before, after = json.loads((tmp_path / f"threads-{rank}.json").read_text())
        assert before == ["MainThread", "epochal-listening", "epochal-watchdog"]
        assert after == ["MainThread"]


def test_an_error_of_gloo_is_told_in_its_first_sentence() -> None:
    error = RuntimeError(
        "[/pytorch/gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:46755: Connection reset by peer. This is typically caused by a "
        "remote worker hanging or bugs in the application.\nMore."
    )
    assert _reason(error) == "Read error [127.0.0.1]:46755: Connection reset by peer"
