"""The number of threads is a function of the step; it follows what other programs leave of the cores, and is kept and repeated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import epochal
from epochal.cores import CoreWatch
from epochal.data.load import Data, load
from epochal.errors import BundleError
from epochal.io.checksums import with_checksum
from epochal.recipe import Recipe
from epochal.training import sharing
from epochal.training.loop import TrainingHistory, fit
from epochal.training.sharing import Sharing, ThreadChange, Threads, is_open
from tests.small import small_recipe

CPU = torch.device("cpu")


@pytest.fixture
def four_threads() -> Iterator[None]:
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(1)


class Machine:
    """Steps that are so fast with so many threads, and cores that are crowded from some moment to another."""

    def __init__(self, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.threads = Threads(threads)
        self.sharing = Sharing(self.threads, CoreWatch())
        self.crowded = 0.0
        self.step = 0
        monkeypatch.setattr(CoreWatch, "crowded_seconds", lambda _: self.crowded)

    def train(self, seconds: float, paces: dict[int, float]) -> list[ThreadChange]:
        """Train for so many seconds with steps as long as `paces` says for each number of threads; return what was told."""
        told, until = [], self.sharing.total + seconds
        while self.sharing.total < until:
            taken = paces[self.threads.at(self.step)]
            self.step += 1
            change = self.sharing.step_done(self.step, taken)
            told += [change] * (change is not None)
        return [change for change in told if change is not None]


QUIET = {1: 0.005, 2: 0.003, 4: 0.002}
BUSY = {1: 0.007, 2: 0.010, 4: 0.060}


def test_the_number_is_a_function_of_the_step() -> None:
    threads = Threads(4, [ThreadChange(10, 2, 4), ThreadChange(20, 1, 2), ThreadChange(30, 2, 1)])
    assert [threads.at(step) for step in (0, 9, 10, 19, 20, 29, 30, 1000)] == [4, 4, 2, 2, 1, 1, 2, 2]
    assert Threads(3).at(5) == 3


def test_on_a_quiet_machine_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(4, monkeypatch)
    assert machine.train(100.0, QUIET) == []
    assert machine.threads.changes == []


def test_fewer_threads_while_others_are_busy_and_more_again_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(4, monkeypatch)
    machine.train(10.0, QUIET)
    machine.crowded = 2.0
    told = machine.train(3.0, BUSY)
    assert [(change.before, change.threads) for change in told] == [(4, 2), (2, 1)]
    machine.crowded = 0.0
    told = machine.train(60.0, QUIET)
    assert [(change.before, change.threads) for change in told] == [(1, 2), (2, 4)]
    assert machine.threads.at(machine.step) == 4


def test_what_is_not_faster_is_taken_back_and_tried_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(2, monkeypatch)
    machine.crowded = 2.0
    machine.train(3.0, BUSY)
    assert machine.threads.at(machine.step) == 1
    before = len(machine.threads.changes)
    assert machine.train(200.0, BUSY) == []
    assert machine.threads.at(machine.step) == 1
    tries = [change.step for change in machine.threads.changes[before:] if change.threads == 2]
    gaps = [later - earlier for earlier, later in pairwise(tries)]
    assert 3 <= len(tries) <= 8
    assert gaps == sorted(gaps)


def test_a_short_disturbance_counts_only_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    early, late = Machine(2, monkeypatch), Machine(2, monkeypatch)
    monkeypatch.setattr(CoreWatch, "crowded_seconds", lambda _: 0.0)
    late.train(5.0, QUIET)
    monkeypatch.setattr(CoreWatch, "crowded_seconds", lambda _: 0.5)
    early.train(1.0, BUSY | {2: 0.03})
    late.train(1.0, BUSY | {2: 0.03})
    assert early.threads.changes
    assert late.threads.changes == []


def test_fewer_threads_that_are_no_faster_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(2, monkeypatch)
    machine.crowded = 2.0
    assert machine.train(1.0, QUIET) == []
    assert machine.threads.changes
    assert machine.threads.at(machine.step) == 2 or machine.sharing.before is not None


def test_a_number_that_was_asked_for_stays() -> None:
    measured = Recipe().updated({"threads": 2}, "measured")
    assert is_open(measured, CPU)
    assert is_open(Recipe().updated({"threads": 2}, "this machine"), CPU)
    for origin in ("given", "command line", "mine.toml"):
        assert not is_open(Recipe().updated({"threads": 2}, origin), CPU)
    assert not is_open(Recipe().updated({"threads": 1}, "measured"), CPU)
    assert not is_open(measured.updated({"workers": 2}), CPU)
    assert not is_open(measured, torch.device("cuda"))


def test_what_a_file_says_is_not_believed() -> None:
    threads = Threads(2)
    threads.load_state_dict({"changes": [{"step": 3, "threads": 1, "before": 2}]})
    assert threads.changes == [ThreadChange(3, 1, 2)]
    for kept, told in (
        ({"step": 3, "threads": 1_000_000, "before": 2}, "more than 2 threads"),
        ({"step": 3, "threads": 0, "before": 2}, r"changes\.0\.threads: Input should be greater than or equal to 1"),
        ({"step": 3}, r"changes\.0\.threads: "),
        ({"step": 3, "threads": 1, "before": 2, "more": 1}, r"changes\.0\.more: "),
    ):
        with pytest.raises(ValueError, match=told):
            threads.load_state_dict({"changes": [kept]})
    assert threads.changes == [ThreadChange(3, 1, 2)]


# Training itself: on a machine that is crowded from the first look on, with looks after every step.


def _crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CoreWatch, "crowded_seconds", lambda _: 10.0)
    monkeypatch.setattr(sharing, "WINDOW_SECONDS", 0.0)
    # Whatever is tried is kept.
    monkeypatch.setattr(sharing, "BETTER", 0.0)
    monkeypatch.setattr(sharing, "RETRY_SECONDS", 1e9)


def _data() -> Data:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(512) % 4
    return load((torch.rand(512, 40, generator=generator) + labels[:, None] * 0.1, labels)).split(0.25, 0.25, 0)


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(40, 300), nn.ReLU(), nn.Linear(300, 4))


_recipe = partial(small_recipe, threads="auto", batch_size=32)


def _fit(records: list[Any], **changes: Any) -> tuple[TrainingHistory, dict[str, Tensor]]:
    model = _net()
    done = fit(model, _data(), _recipe(**changes), watchers=[records.append])
    return done, model.state_dict()


def test_fewer_threads_that_are_no_faster_are_tried_less_and_less_often_until_the_cores_were_free(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(2, monkeypatch)
    machine.crowded = 2.0
    machine.train(200.0, QUIET)
    tries = [change.step for change in machine.threads.changes if change.threads == 1]
    assert 3 <= len(tries) <= 8
    machine.crowded = 0.0
    machine.train(1.0, QUIET)
    machine.crowded = 2.0
    assert [change.threads for change in machine.train(2.0, BUSY)] == [1]


@pytest.mark.usefixtures("four_threads")
def test_changes_are_told_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    _crowded(monkeypatch)
    records: list[Any] = []
    done, _ = _fit(records)
    changes = [ThreadChange(1, 2, 4), ThreadChange(3, 1, 2)]
    assert [record for record in records if isinstance(record, ThreadChange)] == changes
    assert list(done.finished.threads) == changes
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four_threads")
def test_a_number_that_was_given_is_kept_however_crowded_the_cores_are(monkeypatch: pytest.MonkeyPatch) -> None:
    _crowded(monkeypatch)
    seen: list[int] = []
    done = fit(_net(), _data(), _recipe(threads=4), watchers=[lambda _: seen.append(torch.get_num_threads())])
    assert done.finished.threads == ()
    assert set(seen) == {4}


@pytest.mark.usefixtures("four_threads")
def test_a_run_keeps_its_changes_and_is_reproduced_and_resumed_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _crowded(monkeypatch)
    data = _data()
    run = epochal.train(data, _recipe(), model="mlp", out=tmp_path / "run", watchers=())
    changes = [{"step": 1, "threads": 2, "before": 4}, {"step": 3, "threads": 1, "before": 2}]
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["threads"] == changes
    assert result["recipe"]["threads"] == 4

    # On a quiet machine it changes at the same steps.
    monkeypatch.setattr(CoreWatch, "crowded_seconds", lambda _: 0.0)
    used: list[int] = []
    found = epochal.reproduce(tmp_path / "run", data=data, watchers=[lambda _: used.append(torch.get_num_threads())])
    assert (found.epochs, found.divergence) == (3, "")
    assert used[-1] == 1

    longer = epochal.resume(tmp_path / "run", epochs=4, data=data, watchers=())
    assert longer is not None
    assert list(longer.fit.finished.threads) == list(run.fit.finished.threads)

    path = tmp_path / "run" / "result.json"
    kept = json.loads(path.read_text())
    kept["threads"][0]["threads"] = 10_000_000
    path.write_text(json.dumps(with_checksum(kept)))
    with pytest.raises(BundleError, match="changes: one is to more than 4 threads"):
        epochal.reproduce(tmp_path / "run", data=data)
