"""Training in a notebook: one display, which changes at most twice a second, and ends with all that was said."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from epochal.notebook import in_notebook
from epochal.progress import progress
from epochal.training.records import Rewound
from epochal.watch.console import Console
from epochal.watch.notebook import Notebook, screen


class Page:
    """What a browser would have: the HTML of each display, and how often it changed."""

    def __init__(self) -> None:
        self.displays: list[list[str]] = []

    def display(self, html: str, display_id: bool) -> Any:
        assert display_id
        self.displays.append([html])
        return SimpleNamespace(update=self.displays[-1].append)

    @property
    def last(self) -> str:
        return self.displays[-1][-1]


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [100.0]
    monkeypatch.setattr("epochal.notebook.time.monotonic", lambda: clock[0])
    return clock


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch, now: list[float]) -> Page:
    made = Page()
    ipython, display = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=None)  # type: ignore[attr-defined]
    display.HTML, display.display = str, made.display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return made


def test_a_script_and_a_prompt_have_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()
    assert isinstance(screen(), Console)
    prompt = ModuleType("IPython")
    prompt.get_ipython = lambda: object()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", prompt)
    assert not in_notebook()


def test_it_ends_with_all_that_was_said_in_one_display(page: Page, records: Any, log: Any) -> None:
    shown = screen()
    assert isinstance(shown, Notebook)
    with shown:
        shown.say("made of <b>bold</b> things")
        log(shown, records.training())
        shown.say("afterwards")
    assert page.displays == [[page.last]]
    said = ("made of &lt;b&gt;bold&lt;/b&gt; things", "1,234 parameters", "1/3", "3/3", "Trained 3 epochs", "afterwards")
    place = [page.last.index(words) for words in said]
    assert place == sorted(place)
    assert page.last.count("best") == 2
    assert page.last.count("<polyline") == 2


def test_it_changes_twice_a_second(page: Page, records: Any, now: list[float]) -> None:
    with Notebook() as shown:
        shown(records.started())
        for _ in range(100):
            now[0] += 0.05
            shown(records.progress())
        (html,) = page.displays
        assert 9 <= len(html) <= 11
        assert "left" in page.last
    assert "left" not in page.last


def test_only_the_last_epochs_are_rows_and_void_ones_are_gone(page: Page, records: Any) -> None:
    with Notebook() as shown:
        shown(records.started())
        for number in range(1, 21):
            shown(records.epoch(number, 0.5))
        shown(Rewound(1200, 20, 0.5, "The loss has a value that is not finite."))
    assert "19/" in page.last
    assert "20/" not in page.last
    assert "11/" not in page.last
    assert "times 0.5" in page.last


def test_long_waits_have_a_bar_that_vanishes(page: Page, now: list[float]) -> None:
    with progress("Reading", 4) as advance:
        advance()
        assert page.displays == []
        now[0] += 1
        advance()
        assert "50%" in page.last
    assert page.last == ""
    with progress("Reading", None) as advance:
        now[0] += 1
        advance(3)
        assert page.last.endswith("Reading 3")
