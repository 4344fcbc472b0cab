"""Who is named for what, by the clock of a watchdog that is set by hand."""

from __future__ import annotations

import pytest
import torch.distributed as dist

from epochal.distributed.watchdog import LOST_SECONDS, Watchdog


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
