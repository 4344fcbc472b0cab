"""Signals end training after a step, or at once where none is made; nothing is lost."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from epochal.evaluation.evaluate import evaluate
from epochal.training import loop
from epochal.training.checkpoint import Checkpoints
from epochal.training.loop import TrainingHistory, fit
from epochal.training.records import EpochDone, Record
from tests.small import stateful_net
from tests.training.resuming import assert_same, longer_recipe, run_in, split_data

Arrays = tuple[Tensor, Tensor]


@pytest.mark.parametrize(("number", "ends"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_ends_training_after_the_step_and_nothing_is_lost(
    blobs: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, ends: type[BaseException]
) -> None:
    whole, wanted = run_in(blobs, longer_recipe(), None)
    before = signal.getsignal(number)
    real, steps = loop.train_step, 0

    def signalled(*arguments: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 5:
            signal.raise_signal(number)
        real(*arguments)

    with monkeypatch.context() as patch, pytest.raises(ends) as raised:
        patch.setattr(loop, "train_step", signalled)
        run_in(blobs, longer_recipe(), tmp_path, every=1e9)
    assert not isinstance(raised.value, SystemExit) or raised.value.code == 128 + number
    assert signal.getsignal(number) == before
    assert steps == 5
    assert Checkpoints(tmp_path, 1.0).found()[0].name == "step-0000000005-2"
    model, found = run_in(blobs, longer_recipe(), tmp_path)
    assert_same(found, wanted)
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), whole.parameters(), strict=True))


def test_a_signal_that_is_ignored_stays_so(blobs: Arrays, tmp_path: Path) -> None:
    def signalled(record: Record) -> None:
        if isinstance(record, EpochDone):
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _, found = run_in(blobs, longer_recipe(), tmp_path, watchers=[signalled])
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(found.epochs) == 4


@pytest.mark.parametrize("settings", [{}, {"max_steps": 5}, {"patience": 1}])
@pytest.mark.parametrize("epoch", [1, 2])
def test_a_signal_in_validation_is_not_kept_waiting(
    blobs: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int, settings: dict[str, Any]
) -> None:
    recipe = longer_recipe().updated(settings)
    whole, wanted = run_in(blobs, recipe, None)
    calls = 0

    def endless(*_: Any, **__: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls < epoch:
            return evaluate(*_, **__)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("The signal was to end this.")

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "evaluate", endless)
        run_in(blobs, recipe, tmp_path, every=1e9)
    assert Checkpoints(tmp_path, 1.0).found()[0].name.endswith(f"-{epoch}")
    model, found = run_in(blobs, recipe, tmp_path)
    assert_same(found, wanted)
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), whole.parameters(), strict=True))


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no SIGUSR1")
@pytest.mark.parametrize("before", [signal.SIG_IGN, signal.SIG_DFL])
def test_a_request_writes_a_checkpoint_and_training_goes_on(
    blobs: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: signal.Handlers
) -> None:
    # The command ignores it at first, so that none ends the program before it trains.
    earlier = signal.signal(signal.SIGUSR1, before)
    whole, wanted = run_in(blobs, longer_recipe(), None)
    real, steps, seen = loop.train_step, 0, []

    def requested(*arguments: Any) -> None:
        nonlocal steps
        steps += 1
        seen.append(Checkpoints(tmp_path, 1.0).found()[0].name)
        real(*arguments)
        if steps == 5:
            signal.raise_signal(signal.SIGUSR1)

    told: list[str] = []
    model = stateful_net()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", requested)
        found = fit(model, split_data(blobs), longer_recipe(), checkpoints=Checkpoints(tmp_path, 1e9, told.append))
    assert told == ["checkpoint after step 5"]
    assert seen[5] == "step-0000000005-2"
    assert signal.getsignal(signal.SIGUSR1) == before
    signal.signal(signal.SIGUSR1, earlier)
    assert_same(found, wanted)
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), whole.parameters(), strict=True))


def test_a_request_that_cannot_be_met_is_told(blobs: Arrays, tmp_path: Path) -> None:
    class Plain:
        def __init__(self, parameters: Any) -> None:
            self.parameters = list(parameters)

        def step(self) -> None:
            checkpoints.signals.checkpoint = True

        def zero_grad(self) -> None:
            for parameter in self.parameters:
                parameter.grad = None

    told: list[str] = []
    checkpoints = Checkpoints(tmp_path, 1e9, told.append)
    fit(stateful_net(), split_data(blobs), longer_recipe(max_steps=1, schedule="constant"), optimizer=Plain, checkpoints=checkpoints)
    assert told == ["note: no checkpoint: the optimizer's state cannot be saved."]
    assert not list(tmp_path.iterdir())


def test_a_second_signal_ends_at_once(blobs: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[str] = []

    def twice(*_: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        reached.append("first")
        signal.raise_signal(signal.SIGINT)
        reached.append("second")

    monkeypatch.setattr(loop, "train_step", twice)
    with pytest.raises(KeyboardInterrupt):
        run_in(blobs, longer_recipe(), tmp_path)
    assert reached == ["first"]
    assert [place.name for place in tmp_path.iterdir()] == ["step-0000000000-1"]


def test_a_signal_after_the_last_step_is_not_lost(blobs: Arrays, tmp_path: Path) -> None:
    def late(record: Record) -> None:
        if type(record).__name__ == "Finished":
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_in(blobs, longer_recipe(), tmp_path, watchers=[late])


def test_other_threads_hear_no_signals(blobs: Arrays, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    done: list[TrainingHistory] = []
    thread = threading.Thread(target=lambda: done.append(run_in(blobs, longer_recipe(), tmp_path)[1]))
    thread.start()
    thread.join()
    assert len(done) == 1
    assert signal.getsignal(signal.SIGINT) == before
