"""A run that was killed at any moment goes on to the bits of one that was not."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import shutil
import signal
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from epochal.errors import BundleError, OutputError, TrainingError
from epochal.evaluation.evaluate import evaluate
from epochal.io.files import write_bytes
from epochal.recipe import Recipe
from epochal.training import checkpoint, loop
from epochal.training.checkpoint import Checkpoints
from epochal.training.loop import TrainingHistory, fit
from epochal.training.records import EpochDone, Progress, Record, Started
from tests.small import small_recipe, stateful_net

Arrays = tuple[Tensor, Tensor]


class KilledError(BaseException):
    """Nothing catches it, as nothing catches kill -9."""


RECIPES: dict[str, dict[str, Any]] = {
    "plain": {"optimizer": "sgd", "schedule": "constant"},
    "momentum and steps": {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}, "schedule": {"name": "step", "every": 2}},
    "muon": {"optimizer": {"name": "muon", "lr": 0.05, "momentum": 0.6, "options": {"plain_lr": 0.2}}, "schedule": "cosine"},
    "adamw, one-cycle, ema": {"schedule": "one-cycle", "ema": 0.9},
    "plateau and patience": {"schedule": {"name": "plateau", "patience": 1}, "patience": 2, "optimizer": {"name": "adam", "lr": 0.3}},
    "accumulate and clip": {"accumulate": 2, "clip_norm": 0.1, "optimizer": "rmsprop"},
    "cut short": {"max_steps": 8, "keep": "last"},
}


_recipe = partial(small_recipe, epochs=4)


def _data(blobs: Arrays) -> dict[str, Arrays]:
    return {"train": (blobs[0][:45], blobs[1][:45]), "valid": (blobs[0][45:], blobs[1][45:])}


def _same(one: TrainingHistory, two: TrainingHistory) -> None:
    """Both tell the same, but for what the clock says, which no run repeats."""

    def without_clock(done: EpochDone) -> EpochDone:
        return dataclasses.replace(done, seconds=0.0, examples_per_second=0.0, waiting=0.0)

    assert list(map(without_clock, one.epochs)) == list(map(without_clock, two.epochs))
    assert dataclasses.replace(one.finished, seconds=0.0) == dataclasses.replace(two.finished, seconds=0.0)


def _run(blobs: Arrays, recipe: Recipe, folder: Path | None, every: float = 1e-9, **options: Any) -> tuple[nn.Module, TrainingHistory]:
    model = stateful_net()
    kept = None if folder is None else Checkpoints(folder, every)
    return model, fit(model, _data(blobs), recipe, checkpoints=kept, **options)


def _kill_at(monkeypatch: pytest.MonkeyPatch, name: str, call: int) -> None:
    """Let the loop die when it calls one of its functions for that time."""
    calls = 0
    real = getattr(loop, name)

    def dying(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KilledError
        return real(*arguments, **options)

    monkeypatch.setattr(loop, name, dying)


@pytest.mark.parametrize("changes", RECIPES.values(), ids=list(RECIPES))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kills=st.lists(st.tuples(st.sampled_from(["train_step", "evaluate", "_finite"]), st.integers(1, 12)), min_size=1, max_size=3),
    sparse=st.booleans(),
)
def test_goes_on_to_the_same_bits(
    blobs: Arrays, tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any], kills: list[tuple[str, int]], sparse: bool
) -> None:
    recipe = _recipe(**changes)
    whole, wanted = _run(blobs, recipe, None)
    folder = tmp_path_factory.mktemp("run")
    for name, call in kills:
        with pytest.MonkeyPatch.context() as patch:
            _kill_at(patch, name, call)
            try:
                _run(blobs, recipe, folder, every=1e9 if sparse else 1e-9)
            except KilledError:
                continue
    model, found = _run(blobs, recipe, folder)
    _same(found, wanted)
    assert model.state_dict().keys() == whole.state_dict().keys()
    assert all(torch.equal(mine, other) for mine, other in zip(model.state_dict().values(), whole.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("targets", "outputs", "metric"),
    [
        (lambda x, y: y, 3, "f1"),
        (lambda x, y: torch.stack((y > 0, y > 1), 1), 2, "micro f1"),
        (lambda x, y: y + x[:, 0] / 3, 1, "rmse"),
    ],
)
def test_records_of_epochs_come_back_as_they_were(blobs: Arrays, tmp_path: Path, targets: Any, outputs: int, metric: str) -> None:
    x, y = blobs[0], targets(*blobs)
    data = {"train": (x[:45], y[:45]), "valid": (x[45:], y[45:])}
    records: list[Record] = []
    for epochs in (2, 3):
        options: Any = {"checkpoints": Checkpoints(tmp_path, 1e-9), "metrics": [metric], "watchers": [records.append]}
        fit(nn.Linear(2, outputs), data, _recipe(epochs=epochs), **options)
    begun, resumed = (record for record in records if isinstance(record, Started))
    told = [record for record in records if isinstance(record, EpochDone)]
    # Equal in every number, those of the clock too.
    assert (begun.history, resumed.history) == ((), tuple(told[:2]))
    valid = told[0].valid
    assert valid is not None
    assert metric in valid.metrics
    assert dataclasses.replace(told[0], valid=dataclasses.replace(valid, loss=0.0)) != told[0]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_convolutions_that_lie_channels_last(pictures: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str) -> None:
    """Their weights do not lie in memory in the order in which a file has them."""

    def net() -> nn.Module:
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
        layers(torch.zeros(1, *pictures[0].shape[1:]))
        return layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    recipe = _recipe(epochs=3, batch_size=8, optimizer={"name": optimizer, "lr": 0.01} | ({"momentum": 0.9} if optimizer == "sgd" else {}))
    data = (pictures[0].float() / 255, pictures[1])
    whole, model = net(), net()
    fit(whole, data, recipe)
    with monkeypatch.context() as patch:
        _kill_at(patch, "train_step", 5)
        with pytest.raises(KilledError):
            fit(net(), data, recipe, checkpoints=Checkpoints(tmp_path, 1e-9))
    fit(model, data, recipe, checkpoints=Checkpoints(tmp_path, 1e-9))
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), whole.parameters(), strict=True))


@pytest.mark.parametrize("settings", [{}, {"max_steps": 5}, {"max_seconds": 1e-9}])
def test_a_finished_training_only_gives_its_result_again(blobs: Arrays, tmp_path: Path, settings: dict[str, Any]) -> None:
    first, wanted = _run(blobs, _recipe(**settings), tmp_path)
    steps: list[Record] = []
    again, found = _run(blobs, _recipe(**settings), tmp_path, watchers=[steps.append])
    _same(found, wanted)
    assert not [record for record in steps if isinstance(record, EpochDone | Progress)]
    assert all(torch.equal(one, two) for one, two in zip(first.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("epoch", 5.0, "epoch: Input should be a valid integer"),
        ("epoch", 4, "its epochs are not those before epoch 4"),
        ("step", -1, "step: Input should be greater than or equal to 0"),
        ("step", 10**9, "step 1000000000 is not in epoch 5"),
        ("best/epoch", 9, "its best epoch is not one of 4"),
        ("best/epoch", 0, "best/weights/.* of shape .* does not belong to it"),
        ("best/improved", 0, "its best epoch is not one of 4"),
        ("best/score", "much", "best/could not convert string to float"),
        ("history", [{"epoch": 1}], r"history\.0\.epochs: Field required"),
        ("more", 1, "more: Extra inputs are not permitted"),
        ("more/1", 1, "more/1: Extra inputs are not permitted"),
        ("schedule/cuts", -1, "schedule/cuts: Input should be greater than or equal to 0"),
        ("schedule/rewinds", [{"step": 1, "factor": 0.5}], r"schedule/rewinds\.0\.reason: Field required"),
        ("threads/changes", [{"step": 1, "threads": 2, "before": 1}], "threads/changes: one is to more than 1 threads"),
        ("optimizer/0/more", 1, "optimizer/0/more does not belong to it"),
        ("optimizer/groups", [], "zip"),
        ("model/more", 1, "model/more does not belong to it"),
    ],
)
def test_a_state_that_no_training_comes_to_is_refused(blobs: Arrays, tmp_path: Path, name: str, value: object, told: str) -> None:
    _run(blobs, _recipe(), tmp_path)
    place = Checkpoints(tmp_path, 1.0).found()[0]
    state = json.loads((place / "state.json").read_text()) | {name: value}
    content = json.dumps(state).encode()
    (place / "state.json").write_bytes(content)
    sums = (place / "SHA256SUMS").read_text().splitlines()
    (place / "SHA256SUMS").write_text("\n".join([sums[0], f"{hashlib.sha256(content).hexdigest()}  state.json"]) + "\n")
    with pytest.raises(BundleError, match=told):
        _run(blobs, _recipe(), tmp_path)


def test_other_folders_beside_checkpoints_do_not_matter(blobs: Arrays, tmp_path: Path) -> None:
    _, wanted = _run(blobs, _recipe(), tmp_path)
    last = Checkpoints(tmp_path, 1.0).found()[0]
    shutil.copytree(last, tmp_path / f"{last.name}.bak")
    shutil.copytree(last, tmp_path / "step-of-mine-1")
    _same(_run(blobs, _recipe(), tmp_path)[1], wanted)


def test_the_last_two_are_kept_and_hash_as_they_say(blobs: Arrays, tmp_path: Path) -> None:
    _run(blobs, _recipe(epochs=3), tmp_path)
    found = Checkpoints(tmp_path, 1.0).found()
    assert [place.name for place in found] == ["step-0000000009-4", "step-0000000009-3"]
    assert {path.name for path in tmp_path.iterdir()} == {place.name for place in found}


def test_written_at_epoch_ends_only_while_cheap(blobs: Arrays, tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, every=1e9)
    assert kept.is_due(epoch_ends=True)
    assert not kept.is_due()
    fit(stateful_net(), _data(blobs), _recipe(epochs=1), checkpoints=kept)
    # What the one before cost is far more than 1 % of the time since.
    assert not kept.is_due(epoch_ends=True)


DAMAGE = {
    "a flipped bit in the tensors": lambda place: _flip(place / "state.safetensors"),
    "a flipped bit in the numbers": lambda place: _flip(place / "state.json"),
    "a flipped bit in the sums": lambda place: _flip(place / "SHA256SUMS", 3),
    "a truncated file": lambda place: (place / "state.safetensors").write_bytes((place / "state.safetensors").read_bytes()[:-1]),
    "an empty file": lambda place: (place / "state.json").write_bytes(b""),
    "a missing file": lambda place: (place / "state.safetensors").unlink(),
    "missing sums": lambda place: (place / "SHA256SUMS").unlink(),
    "binary sums": lambda place: (place / "SHA256SUMS").write_bytes(b"\xff\x00"),
}


def _flip(path: Path, at: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if at is None else at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_checkpoint_is_told_and_the_one_before_is_used(
    blobs: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Any
) -> None:
    whole, wanted = _run(blobs, _recipe(), None)
    with monkeypatch.context() as patch:
        _kill_at(patch, "train_step", 8)
        with pytest.raises(KilledError):
            _run(blobs, _recipe(), tmp_path)
    newest, _ = Checkpoints(tmp_path, 1.0).found()
    damage(newest)
    told: list[str] = []
    model = stateful_net()
    found = fit(model, _data(blobs), _recipe(), checkpoints=Checkpoints(tmp_path, 1e-9, told.append))
    assert len(told) == 1
    assert told[0].startswith(f"note: {newest} is damaged (")
    _same(found, wanted)
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), whole.parameters(), strict=True))


def test_no_whole_checkpoint_is_an_error(blobs: Arrays, tmp_path: Path) -> None:
    _run(blobs, _recipe(), tmp_path)
    for place in Checkpoints(tmp_path, 1.0).found():
        _flip(place / "state.json")
    with pytest.raises(BundleError, match="No checkpoint in .* is whole"):
        _run(blobs, _recipe(), tmp_path)
    assert len(Checkpoints(tmp_path, 1.0).found()) == 2


def test_a_checkpoint_of_another_model_is_an_error(blobs: Arrays, tmp_path: Path) -> None:
    _run(blobs, _recipe(), tmp_path)
    with pytest.raises(BundleError, match="is not of this model and these settings"):
        fit(nn.Linear(2, 3), _data(blobs), _recipe(), checkpoints=Checkpoints(tmp_path, 1.0))


def test_a_disk_that_refuses_is_told_and_the_last_checkpoint_stays(blobs: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = write_bytes, 0

    def full(path: Path, content: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls == 10:
            raise OutputError("Cannot write: no space.")
        real(path, content)

    whole, wanted = _run(blobs, _recipe(), None)
    with monkeypatch.context() as patch, pytest.raises(OutputError, match="no space"):
        patch.setattr(checkpoint, "write_bytes", full)
        _run(blobs, _recipe(), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    model, found = _run(blobs, _recipe(), tmp_path)
    _same(found, wanted)
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), whole.parameters(), strict=True))


@pytest.mark.parametrize(("number", "ends"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_ends_training_after_the_step_and_nothing_is_lost(
    blobs: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, ends: type[BaseException]
) -> None:
    whole, wanted = _run(blobs, _recipe(), None)
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
        _run(blobs, _recipe(), tmp_path, every=1e9)
    assert not isinstance(raised.value, SystemExit) or raised.value.code == 128 + number
    assert signal.getsignal(number) == before
    assert steps == 5
    assert Checkpoints(tmp_path, 1.0).found()[0].name == "step-0000000005-2"
    model, found = _run(blobs, _recipe(), tmp_path)
    _same(found, wanted)
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), whole.parameters(), strict=True))


def test_a_signal_that_is_ignored_stays_so(blobs: Arrays, tmp_path: Path) -> None:
    def signalled(record: Record) -> None:
        if isinstance(record, EpochDone):
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _, found = _run(blobs, _recipe(), tmp_path, watchers=[signalled])
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(found.epochs) == 4


@pytest.mark.parametrize("settings", [{}, {"max_steps": 5}, {"patience": 1}])
@pytest.mark.parametrize("epoch", [1, 2])
def test_a_signal_in_validation_is_not_kept_waiting(
    blobs: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int, settings: dict[str, Any]
) -> None:
    recipe = _recipe().updated(settings)
    whole, wanted = _run(blobs, recipe, None)
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
        _run(blobs, recipe, tmp_path, every=1e9)
    assert Checkpoints(tmp_path, 1.0).found()[0].name.endswith(f"-{epoch}")
    model, found = _run(blobs, recipe, tmp_path)
    _same(found, wanted)
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), whole.parameters(), strict=True))


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no SIGUSR1")
@pytest.mark.parametrize("before", [signal.SIG_IGN, signal.SIG_DFL])
def test_a_request_writes_a_checkpoint_and_training_goes_on(
    blobs: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: signal.Handlers
) -> None:
    # The command ignores it at first, so that none ends the program before it trains.
    earlier = signal.signal(signal.SIGUSR1, before)
    whole, wanted = _run(blobs, _recipe(), None)
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
        found = fit(model, _data(blobs), _recipe(), checkpoints=Checkpoints(tmp_path, 1e9, told.append))
    assert told == ["checkpoint after step 5"]
    assert seen[5] == "step-0000000005-2"
    assert signal.getsignal(signal.SIGUSR1) == before
    signal.signal(signal.SIGUSR1, earlier)
    _same(found, wanted)
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
    fit(stateful_net(), _data(blobs), _recipe(max_steps=1, schedule="constant"), optimizer=Plain, checkpoints=checkpoints)
    assert told == ["note: no checkpoint: the optimizer's state cannot be saved."]
    assert not list(tmp_path.iterdir())


def test_checkpoints_that_may_not_be_read_are_told_and_stay(blobs: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, most: int) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    _run(blobs, _recipe(), tmp_path)
    monkeypatch.setattr(checkpoint, "read_file", refused)
    with pytest.raises(BundleError, match=r"step-0000000012-5 cannot be read: Permission denied\.\nMake its files readable\."):
        _run(blobs, _recipe(), tmp_path)
    assert len(Checkpoints(tmp_path, 1.0).found()) == 2


def test_a_mask_of_minus_infinity_is_no_damage(blobs: Arrays, tmp_path: Path) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mask: Tensor
            self.register_buffer("mask", torch.tensor([0.0, 0.0, -torch.inf]))
            self.net = nn.Linear(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            outputs: Tensor = self.net(x) + self.mask.clamp(min=-100.0)
            return outputs

    fit(Masked(), _data(blobs), _recipe(ema=0.9), checkpoints=Checkpoints(tmp_path, 1e-9))
    assert Checkpoints(tmp_path, 1.0).found()


def test_a_validation_loss_beyond_all_numbers_comes_back(blobs: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def beyond(outputs: Tensor, targets: Tensor) -> Tensor:
        loss = nn.functional.cross_entropy(outputs, targets)
        return loss if loss.requires_grad else loss * torch.inf

    _, wanted = _run(blobs, _recipe(), None, loss=beyond)
    with monkeypatch.context() as patch:
        _kill_at(patch, "train_step", 8)
        with pytest.raises(KilledError):
            _run(blobs, _recipe(), tmp_path, loss=beyond)
    for place in Checkpoints(tmp_path, 1.0).found():
        json.loads((place / "state.json").read_text(), parse_constant=pytest.fail)
    _, found = _run(blobs, _recipe(), tmp_path, loss=beyond)
    assert [done.valid and done.valid.loss for done in found.epochs] == [torch.inf] * 4
    _same(found, wanted)


def test_a_second_signal_ends_at_once(blobs: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[str] = []

    def twice(*_: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        reached.append("first")
        signal.raise_signal(signal.SIGINT)
        reached.append("second")

    monkeypatch.setattr(loop, "train_step", twice)
    with pytest.raises(KeyboardInterrupt):
        _run(blobs, _recipe(), tmp_path)
    assert reached == ["first"]
    assert [place.name for place in tmp_path.iterdir()] == ["step-0000000000-1"]


def test_a_signal_after_the_last_step_is_not_lost(blobs: Arrays, tmp_path: Path) -> None:
    def late(record: Record) -> None:
        if type(record).__name__ == "Finished":
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        _run(blobs, _recipe(), tmp_path, watchers=[late])


def test_other_threads_hear_no_signals(blobs: Arrays, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    done: list[TrainingHistory] = []
    thread = threading.Thread(target=lambda: done.append(_run(blobs, _recipe(), tmp_path)[1]))
    thread.start()
    thread.join()
    assert len(done) == 1
    assert signal.getsignal(signal.SIGINT) == before


def test_weights_that_are_not_finite_are_never_kept(blobs: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, steps = loop.train_step, 0

    def broken(training: Any, batch: Any) -> None:
        nonlocal steps
        steps += 1
        real(training, batch)
        if steps == 5:
            with torch.no_grad():
                training.model[4].bias[1] = torch.inf

    monkeypatch.setattr(loop, "train_step", broken)
    with pytest.raises(TrainingError, match="model 4.bias has a value that is not finite after step 5"):
        _run(blobs, _recipe(), tmp_path)
    assert Checkpoints(tmp_path, 1.0).found()[0].name == "step-0000000004-2"


def test_longer_training_goes_on_where_the_shorter_ended(blobs: Arrays, tmp_path: Path) -> None:
    constant = _recipe(schedule="constant", epochs=2)
    _run(blobs, constant, tmp_path)
    longer, found = _run(blobs, constant.updated({"epochs": 5}), tmp_path)
    whole, wanted = _run(blobs, constant.updated({"epochs": 5}), None)
    assert [done.train_loss for done in found.epochs] == [done.train_loss for done in wanted.epochs]
    assert all(torch.equal(one, two) for one, two in zip(longer.parameters(), whole.parameters(), strict=True))


def test_tied_weights(blobs: Arrays, tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(2, 3)
            self.second = self.first

        def forward(self, x: Tensor) -> Tensor:
            outputs: Tensor = self.second(x)
            return outputs

    fit(Tied(), _data(blobs), _recipe(epochs=1), checkpoints=Checkpoints(tmp_path, 1e-9))
    again = Tied()
    fit(again, _data(blobs), _recipe(epochs=2), checkpoints=Checkpoints(tmp_path, 1e-9))
    assert torch.equal(again.first.weight, again.second.weight)
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("optimizer/0/exp_avg", (4,)),
        ("optimizer/0/exp_avg", (8, 1)),
        ("optimizer/0/exp_avg", (2, 8)),
        ("optimizer/0/step", (2,)),
        ("optimizer/99/exp_avg", (2,)),
        ("best/weights/0.weight", (9, 2)),
        ("average/weights/0.weight", ()),
        ("model/other", (2,)),
        ("strange", ()),
    ],
)
def test_tensors_that_are_not_of_this_model_are_refused(blobs: Arrays, tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    """The fused kernels write as many numbers as the parameter has, however few the state has."""
    _run(blobs, _recipe(), tmp_path)
    place = Checkpoints(tmp_path, 1.0).found()[0]
    tensors = load_file(place / "state.safetensors")
    save_file({**tensors, name: torch.zeros(shape)}, place / "state.safetensors")
    sums = {file: hashlib.sha256((place / file).read_bytes()).hexdigest() for file in ("state.safetensors", "state.json")}
    (place / "SHA256SUMS").write_text("".join(f"{found}  {file}\n" for file, found in sums.items()))
    with pytest.raises(BundleError, match=rf"is not of this model and these settings: {name} of shape .* does not belong to it"):
        _run(blobs, _recipe(), tmp_path)


@pytest.mark.parametrize("file", ["state.safetensors", "state.json", "SHA256SUMS"])
def test_links_in_a_checkpoint_are_not_followed(blobs: Arrays, tmp_path: Path, file: str) -> None:
    _run(blobs, _recipe(), tmp_path / "run")
    told: list[str] = []
    place = Checkpoints(tmp_path / "run", 1.0).found()[0]
    (place / file).rename(tmp_path / file)
    (place / file).symlink_to(tmp_path / file)
    fit(stateful_net(), _data(blobs), _recipe(), checkpoints=Checkpoints(tmp_path / "run", 1e9, told.append))
    assert "it is a link, which could lead anywhere" in told[0]
