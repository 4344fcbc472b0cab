"""A run that was killed at any moment goes on to the bits of one that was not."""

from __future__ import annotations

import errno
import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from epochal.errors import BundleError, OutputError
from epochal.io.files import write_bytes
from epochal.training import checkpoint
from epochal.training.checkpoint import Checkpoints
from epochal.training.loop import TrainingHistory, fit
from epochal.training.records import EpochDone, Progress, Record
from tests.small import stateful_net
from tests.training.resuming import KilledError, assert_same, kill_at, longer_recipe, run_in, split_data

Arrays = tuple[Tensor, Tensor]


RECIPES: dict[str, dict[str, Any]] = {
    "plain": {"optimizer": "sgd", "schedule": "constant"},
    "momentum and steps": {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}, "schedule": {"name": "step", "every": 2}},
    "muon": {"optimizer": {"name": "muon", "lr": 0.05, "momentum": 0.6, "options": {"plain_lr": 0.2}}, "schedule": "cosine"},
    "adamw, one-cycle, ema": {"schedule": "one-cycle", "ema": 0.9},
    "plateau and patience": {"schedule": {"name": "plateau", "patience": 1}, "patience": 2, "optimizer": {"name": "adam", "lr": 0.3}},
    "accumulate and clip": {"accumulate": 2, "clip_norm": 0.1, "optimizer": "rmsprop"},
    "cut short": {"max_steps": 8, "keep": "last"},
}


@pytest.fixture
def whole(blobs: Arrays, changes: dict[str, Any]) -> tuple[nn.Module, TrainingHistory]:
    """What was trained without an interruption."""
    return run_in(blobs, longer_recipe(**changes), None)


@pytest.mark.parametrize("changes", RECIPES.values(), ids=list(RECIPES))
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kills=st.lists(st.tuples(st.sampled_from(["train_step", "evaluate", "check_finite"]), st.integers(1, 12)), min_size=1, max_size=3),
    sparse=st.booleans(),
)
def test_goes_on_to_the_same_bits(
    whole: tuple[nn.Module, TrainingHistory],
    blobs: Arrays,
    tmp_path_factory: pytest.TempPathFactory,
    changes: dict[str, Any],
    kills: list[tuple[str, int]],
    sparse: bool,
) -> None:
    recipe = longer_recipe(**changes)
    wanted_model, wanted = whole
    folder = tmp_path_factory.mktemp("run")
    for name, call in kills:
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, name, call)
            try:
                run_in(blobs, recipe, folder, every=1e9 if sparse else 1e-9)
            except KilledError:
                continue
    model, found = run_in(blobs, recipe, folder)
    assert_same(found, wanted)
    mine, other = model.state_dict(), wanted_model.state_dict()
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[name], other[name]) for name in mine)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_convolutions_that_lie_channels_last(pictures: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str) -> None:
    """Their weights do not lie in memory in the order in which a file has them."""

    def net() -> nn.Module:
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
        layers(torch.zeros(1, *pictures[0].shape[1:]))
        return layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    settings = {"name": optimizer, "lr": 0.01} | ({"momentum": 0.9} if optimizer == "sgd" else {})
    recipe = longer_recipe(epochs=3, batch_size=8, optimizer=settings)
    data = (pictures[0].float() / 255, pictures[1])
    whole, model = net(), net()
    fit(whole, data, recipe)
    with monkeypatch.context() as patch:
        kill_at(patch, "train_step", 5)
        with pytest.raises(KilledError):
            fit(net(), data, recipe, checkpoints=Checkpoints(tmp_path, 1e-9))
    fit(model, data, recipe, checkpoints=Checkpoints(tmp_path, 1e-9))
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), whole.parameters(), strict=True))


@pytest.mark.parametrize("settings", [{}, {"max_steps": 5}, {"max_seconds": 1e-9}])
def test_a_finished_training_only_gives_its_result_again(blobs: Arrays, tmp_path: Path, settings: dict[str, Any]) -> None:
    first, wanted = run_in(blobs, longer_recipe(**settings), tmp_path)
    steps: list[Record] = []
    again, found = run_in(blobs, longer_recipe(**settings), tmp_path, watchers=[steps.append])
    assert_same(found, wanted)
    assert not [record for record in steps if isinstance(record, EpochDone | Progress)]
    assert all(torch.equal(one, two) for one, two in zip(first.parameters(), again.parameters(), strict=True))


def test_other_folders_beside_checkpoints_do_not_matter(blobs: Arrays, tmp_path: Path) -> None:
    _, wanted = run_in(blobs, longer_recipe(), tmp_path)
    last = Checkpoints(tmp_path, 1.0).found()[0]
    shutil.copytree(last, tmp_path / f"{last.name}.bak")
    shutil.copytree(last, tmp_path / "step-of-mine-1")
    assert_same(run_in(blobs, longer_recipe(), tmp_path)[1], wanted)


def test_the_last_two_are_kept_and_hash_as_they_say(blobs: Arrays, tmp_path: Path) -> None:
    run_in(blobs, longer_recipe(epochs=3), tmp_path)
    found = Checkpoints(tmp_path, 1.0).found()
    assert [place.name for place in found] == ["step-0000000009-4", "step-0000000009-3"]
    assert {path.name for path in tmp_path.iterdir()} == {place.name for place in found}


def test_written_at_epoch_ends_only_while_cheap(blobs: Arrays, tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, every=1e9)
    assert kept.is_due(epoch_ends=True)
    assert not kept.is_due()
    fit(stateful_net(), split_data(blobs), longer_recipe(epochs=1), checkpoints=kept)
    # What the one before cost is far more than 1 % of the time since.
    assert not kept.is_due(epoch_ends=True)


DAMAGE = {
    "a flipped bit in the tensors": lambda place: _flip(place / "state.safetensors"),
    "a flipped bit in the numbers": lambda place: _flip(place / "state.json"),
    "a flipped bit in the sums": lambda place: _flip(place / "SHA256SUMS", 3),
    "a word for the numbers": lambda place: _replaced(place / "state.json", b'"7"'),
    "a number for the numbers": lambda place: _replaced(place / "state.json", b"7"),
    "a truncated file": lambda place: (place / "state.safetensors").write_bytes((place / "state.safetensors").read_bytes()[:-1]),
    "an empty file": lambda place: (place / "state.json").write_bytes(b""),
    "a missing file": lambda place: (place / "state.safetensors").unlink(),
    "missing sums": lambda place: (place / "SHA256SUMS").unlink(),
    "binary sums": lambda place: (place / "SHA256SUMS").write_bytes(b"\xff\x00"),
}


def _replaced(path: Path, content: bytes) -> None:
    """Put other content into a file of a checkpoint, with its sum."""
    sums, old = path.with_name("SHA256SUMS"), hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(content)
    sums.write_text(sums.read_text().replace(old, hashlib.sha256(content).hexdigest()))


def _flip(path: Path, at: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if at is None else at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_checkpoint_is_told_and_the_one_before_is_used(
    blobs: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Any
) -> None:
    whole, wanted = run_in(blobs, longer_recipe(), None)
    with monkeypatch.context() as patch:
        kill_at(patch, "train_step", 8)
        with pytest.raises(KilledError):
            run_in(blobs, longer_recipe(), tmp_path)
    newest, _ = Checkpoints(tmp_path, 1.0).found()
    damage(newest)
    told: list[str] = []
    model = stateful_net()
    found = fit(model, split_data(blobs), longer_recipe(), checkpoints=Checkpoints(tmp_path, 1e-9, told.append))
    assert len(told) == 1
    assert told[0].startswith(f"note: {newest} is damaged (")
    assert_same(found, wanted)
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), whole.parameters(), strict=True))


def test_no_whole_checkpoint_is_an_error(blobs: Arrays, tmp_path: Path) -> None:
    run_in(blobs, longer_recipe(), tmp_path)
    for place in Checkpoints(tmp_path, 1.0).found():
        _flip(place / "state.json")
    with pytest.raises(BundleError, match="No checkpoint in .* is whole"):
        run_in(blobs, longer_recipe(), tmp_path)
    assert len(Checkpoints(tmp_path, 1.0).found()) == 2


def test_a_checkpoint_of_another_model_is_an_error(blobs: Arrays, tmp_path: Path) -> None:
    run_in(blobs, longer_recipe(), tmp_path)
    with pytest.raises(BundleError, match="is not of this model and these settings"):
        fit(nn.Linear(2, 3), split_data(blobs), longer_recipe(), checkpoints=Checkpoints(tmp_path, 1.0))


def test_a_disk_that_refuses_is_told_and_the_last_checkpoint_stays(blobs: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = write_bytes, 0

    def full(path: Path, content: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls == 10:
            raise OutputError("Cannot write: no space.")
        real(path, content)

    whole, wanted = run_in(blobs, longer_recipe(), None)
    with monkeypatch.context() as patch, pytest.raises(OutputError, match="no space"):
        patch.setattr(checkpoint, "write_bytes", full)
        run_in(blobs, longer_recipe(), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    model, found = run_in(blobs, longer_recipe(), tmp_path)
    assert_same(found, wanted)
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), whole.parameters(), strict=True))


def test_checkpoints_that_may_not_be_read_are_told_and_stay(blobs: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, most: int) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    run_in(blobs, longer_recipe(), tmp_path)
    monkeypatch.setattr(checkpoint, "read_file", refused)
    with pytest.raises(BundleError, match=r"step-0000000012-5 cannot be read: Permission denied\.\nMake its files readable\."):
        run_in(blobs, longer_recipe(), tmp_path)
    assert len(Checkpoints(tmp_path, 1.0).found()) == 2


def test_longer_training_goes_on_where_the_shorter_ended(blobs: Arrays, tmp_path: Path) -> None:
    constant = longer_recipe(schedule="constant", epochs=2)
    run_in(blobs, constant, tmp_path)
    longer, found = run_in(blobs, constant.updated({"epochs": 5}), tmp_path)
    whole, wanted = run_in(blobs, constant.updated({"epochs": 5}), None)
    assert [done.train_loss for done in found.epochs] == [done.train_loss for done in wanted.epochs]
    assert all(torch.equal(one, two) for one, two in zip(longer.parameters(), whole.parameters(), strict=True))


@pytest.mark.parametrize("file", ["state.safetensors", "state.json", "SHA256SUMS"])
def test_links_in_a_checkpoint_are_not_followed(blobs: Arrays, tmp_path: Path, file: str) -> None:
    run_in(blobs, longer_recipe(), tmp_path / "run")
    told: list[str] = []
    place = Checkpoints(tmp_path / "run", 1.0).found()[0]
    (place / file).rename(tmp_path / file)
    (place / file).symlink_to(tmp_path / file)
    fit(stateful_net(), split_data(blobs), longer_recipe(), checkpoints=Checkpoints(tmp_path / "run", 1e9, told.append))
    assert "it is a link, which could point anywhere" in told[0]
