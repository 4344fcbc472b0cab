"""A run is shown while it trains: what the page says of each state, who may ask, and a whole run in a browser."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

import epochal
from epochal.errors import BundleError
from epochal.io.lock import exclusive_lock
from epochal.run.watch import Seen, serving, watch
from epochal.serve.server import listen
from epochal.training.records import EpochDone, Record
from tests.serve.browser import Page, check_with_axe
from tests.serve.conftest import PATIENCE, running

FAST: dict[str, Any] = {"quiet": True, "device": "cpu", "threads": 1}

get = partial(httpx.get, timeout=PATIENCE)

PROGRESS = {
    "epoch": 3, "epochs": 9, "step": 45, "steps": 180, "examples": 10, "epoch_examples": 50, "loss": 0.25, "examples_per_second": 1234.5,
    "waiting": 0.0, "remaining": 75.2,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("watch") / "run"
    epochal.train("digits", model="linear", epochs=2, out=folder, **FAST)
    return folder


@pytest.fixture
def unfinished(run: Path, tmp_path: Path) -> Path:
    folder = shutil.copytree(run, tmp_path / "run")
    (folder / "result.json").unlink()
    return folder


@contextmanager
def shown(folder: Path) -> Iterator[str]:
    """Show a run for the block; yields the address. Browsers that still listen do not keep the server from ending."""
    ready = threading.Event()
    with listen("127.0.0.1", 0) as listener, running(serving(folder, ready.set), listener, ready) as address:
        yield address


def _text(folder: Path) -> str:
    with shown(folder) as url:
        answer = get(url)
        assert answer.status_code == 200
        return answer.text.replace("\xa0", " ")


def test_a_run_that_does_not_exist_yet_is_waited_for(tmp_path: Path) -> None:
    assert "Waiting for &#x27;later&#x27;" in _text(tmp_path / "later")


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a run"):
        watch(tmp_path)


def test_a_run_that_trains(unfinished: Path) -> None:
    (unfinished / "progress.json").write_text(json.dumps(PROGRESS))
    with exclusive_lock(unfinished):
        page = _text(unfinished)
    for words in (
        "Epoch 3 of 9",
        "About 1 min 15 s left.",
        "1,234",
        "of 180 steps",
        "best epoch so far",
        'value="0.2500"',
        "in training</figcaption>",
    ):
        assert words in page
    assert "script-src 'self'" in page


def test_before_the_first_step_and_after_the_last(unfinished: Path) -> None:
    with exclusive_lock(unfinished):
        assert "Training has ended: the model is being evaluated" in _text(unfinished)
        (unfinished / "metrics.jsonl").unlink()
        assert "Training is about to begin" in _text(unfinished)


def test_a_killed_run_says_how_to_go_on(unfinished: Path) -> None:
    (unfinished / "progress.json").write_text(json.dumps(PROGRESS))
    page = _text(unfinished)
    assert "This run was stopped after 2 whole epochs" in page
    assert f"<code>epochal resume {unfinished}</code>" in page
    shutil.rmtree(unfinished / "checkpoints")
    assert "no checkpoint to continue from" in _text(unfinished)


def test_files_that_are_being_written_or_removed_change_nothing(unfinished: Path) -> None:
    seen = Seen(unfinished)
    with exclusive_lock(unfinished):
        before = seen.look()
        with (unfinished / "metrics.jsonl").open("a") as file:
            file.write('{"epoch": 3, "st')
        assert seen.look() == before
    shutil.rmtree(unfinished)
    assert seen.look().task is None


def test_a_finished_run_has_its_report(run: Path) -> None:
    with shown(run) as url:
        page = get(url).text
        assert re.search(r"<main>.*</main>", page, re.DOTALL)[0] in (run / "report.html").read_text("utf-8")  # type: ignore[index]
        assert get(f"{url}/events").text == "event: finished\ndata: {}\n\n"


def test_a_report_is_loaded_again_once_more_is_in_the_result(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    with shown(tmp_path / "run") as url, httpx.Client(timeout=PATIENCE) as client:
        found = re.search(r'<script src="again\.js(\?[\d-]+)" defer>', client.get(url).text)
        assert found is not None
        assert "EventSource" in client.get(f"{url}/again.js").text
        with client.stream("GET", f"{url}/again{found[1]}") as stream:
            (tmp_path / "run" / "result.json").touch()
            assert "".join(stream.iter_text()) == "event: changed\ndata: {}\n\n"
        assert found[1] not in client.get(url).text


def test_only_this_machine_may_ask(run: Path) -> None:
    with shown(run) as url:
        assert get(url, headers={"Host": "evil.example"}).status_code == 421
        assert get(url, headers={"Origin": "https://evil.example"}).status_code == 403
        policy = get(url).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "connect-src 'self'" in policy


def test_several_who_listen_get_what_changes_alone(unfinished: Path) -> None:
    (unfinished / "progress.json").write_text(json.dumps(PROGRESS))
    with exclusive_lock(unfinished), shown(unfinished) as url, ExitStack() as stack:
        client = stack.enter_context(httpx.Client(timeout=PATIENCE))
        lines = [stack.enter_context(client.stream("GET", f"{url}/events")).iter_lines() for _ in range(2)]
        firsts = [_next_event(stream) for stream in lines]
        assert firsts[0] == firsts[1]
        assert sorted(firsts[0]["pieces"]) == ["now", "so-far"]
        (unfinished / "progress.json").write_text(json.dumps({**PROGRESS, "step": 46}))
        for stream in lines:
            assert sorted(_next_event(stream)["pieces"]) == ["now"]


def _next_event(lines: Iterator[str]) -> dict[str, Any]:
    return next(json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: "))


def test_a_run_in_a_browser_from_before_its_beginning_to_its_report(driver: Any, axe: str, tmp_path: Path) -> None:
    goes_on = threading.Event()

    def wait(record: Record) -> None:
        """Take time for some epochs, and do not end before the browser has seen them."""
        if isinstance(record, EpochDone):
            goes_on.wait(0.6 if record.epoch < 4 else 2 * PATIENCE)

    train: Callable[[], object] = lambda: epochal.train("digits", epochs=20, watchers=[wait], out=tmp_path / "run", **FAST)  # noqa: E731
    training = threading.Thread(target=train)
    try:
        with shown(tmp_path / "run") as url:
            page = Page(driver, url)
            driver.get(url)
            page.until(lambda: "Waiting for" in page.text("now"))
            training.start()
            page.until(lambda: " of 20" in page.text("now") and "is the best so far" in page.text("so-far"))
            page.script(axe)
            assert check_with_axe(driver) == []
            goes_on.set()
            page.until(lambda: "test examples are right" in driver.title)
            assert page.all("#confusion")
            assert {address.removeprefix(url).split("?")[0] for address in page.asked() if not address.startswith("data:")} <= {
                "/",
                "/live.js",
                "/events",
                "/again.js",
                "/again",
            }
            assert page.logged() == []
    finally:
        goes_on.set()
        if training.ident is not None:
            training.join(60)
