"""Where examples are kept, and how many processes read them, changes no bit: neither of a batch nor of a run that goes on elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from epochal.cli.main import cli
from epochal.data.inputs import scaled
from epochal.data.inputs.values import access
from epochal.data.load import Data, load
from epochal.errors import RecipeError
from epochal.recipe import Recipe, load_recipe
from epochal.run.reproduce import reproduce
from epochal.run.resume import resume
from epochal.run.train import train
from epochal.training import loop
from epochal.training.build import training_feed
from tests.kinds import KINDS
from tests.outcome import outcome
from tests.tones import low_and_high

# More processes than this machine may have cores for are the point here.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")

# GB: less than any example takes, so that all are streamed.
NONE = 1e-9
SETTINGS: dict[str, Any] = {
    "model": "mlp", "model.dropout": 0.2, "epochs": 3, "batch_size": 8, "ema": 0.9, "threads": 1, "checkpoint_every": 1e-9,
    "augment": {"shift": 1, "flip": True, "rotate": 10, "brightness": 0.2, "erase": 0.3, "mixup": 0.3},
}  # fmt: skip


class Pictures(Dataset[tuple[Tensor, int]]):
    """Pictures that are read one by one."""

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        self.pixels, self.labels = pixels, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.pixels[index], int(self.labels[index])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("workers") / "photos"
    random = numpy.random.default_rng(0)
    for name, level in (("bright", 100), ("dark", 0)):
        (root / name).mkdir(parents=True)
        for number in range(25):
            Image.fromarray(random.integers(level, level + 150, (8, 8), dtype=numpy.uint8)).save(root / name / f"{number:02}.png")
    return root


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Pictures:
    train = load(folder).train
    assert isinstance(train.inputs, Tensor)
    return Pictures(train.inputs, train.targets)


def _batches(data: Data, epoch: int, start: int, workers: int = 0, **changes: Any) -> list[list[Any]]:
    recipe = Recipe().updated(SETTINGS | {"workers": workers} | changes)
    batches = training_feed(data.train, data.spec, recipe, torch.device("cpu")).epoch(epoch, start)
    return [[part.tolist() for part in batch[:3]] for batch in batches]


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_order_and_augmented_batches_are_the_same(folder: Path, dataset: Pictures, workers: int) -> None:
    resident, streamed, read = load(folder), load(folder, memory=NONE), load(dataset, memory=NONE)
    assert access(resident.train.inputs) == "memory"
    assert access(streamed.train.inputs) == "file"
    assert access(read.train.inputs) == "items"
    for epoch, start in ((1, 0), (2, 3)):
        wanted = _batches(resident, epoch, start)
        assert len(wanted) == 7 - start
        assert _batches(streamed, epoch, start) == wanted
        assert _batches(read, epoch, start, workers) == wanted


def test_sounds_are_the_same_from_disk(tmp_path: Path) -> None:
    tones = low_and_high(tmp_path / "tones", 20)
    resident, streamed = load(tones), load(tones, memory=NONE)
    assert (access(resident.train.inputs), access(streamed.train.inputs)) == ("memory", "file")
    changes: dict[str, Any] = {"augment": {"time_shift": 0.05, "noise": 0.2, "time_mask": 0.05}, "model": "conv"}
    wanted = _batches(resident, 1, 0, **changes)
    for workers in (0, 2):
        assert _batches(streamed, 1, 0, workers, **changes) == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_other_kinds_go_on_with_other_processes(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["train", *KINDS[kind](tmp_path), "--threads", "1", "--epochs", "2"]
    streamed = ["--memory", str(NONE), "--workers", "2"] if kind == "sounds" else []
    assert CliRunner().invoke(cli, [*command, "--out", "whole"]).exit_code == 0

    def dying(*_: Any) -> None:
        raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr("epochal.bundle.Bundle.save", dying)
        CliRunner().invoke(cli, [*command, *streamed, "--checkpoint-every", "1e-9", "--out", "run"])
    again = CliRunner().invoke(cli, ["resume", "run", "--workers", "1"])
    assert again.exit_code == 0, again.output
    assert outcome(tmp_path / "run")["weights"] == outcome(tmp_path / "whole")["weights"]


class KilledError(BaseException):
    """As kill -9: nothing catches it."""


def _kill(monkeypatch: pytest.MonkeyPatch, step: int, data: Any, run: Path, **settings: Any) -> None:
    """Leave a run as kill -9 leaves it at that step."""
    real = loop.train_step

    def dying(training: Any, batch: Any) -> None:
        if training.step == step:
            raise KilledError
        real(training, batch)

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(loop, "train_step", dying)
        # What tidies up after an error does not run after a kill.
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        train(data, SETTINGS | settings, out=run, watchers=())


@pytest.fixture(scope="module", params=["folder", "dataset"])
def whole(request: pytest.FixtureRequest, folder: Path, dataset: Pictures, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """What a run reads, all kept in memory, and the folder of that run."""
    data = folder if request.param == "folder" else dataset
    run = tmp_path_factory.mktemp("whole") / "run"
    train(data, SETTINGS, out=run, watchers=())
    return data, run


@pytest.mark.parametrize(("first", "then"), [({}, {"memory": NONE, "workers": 2}), ({"memory": NONE, "workers": 4}, {"workers": 1})])
def test_a_run_goes_on_elsewhere(
    whole: tuple[Any, Path], first: dict[str, Any], then: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data, wanted = whole
    _kill(monkeypatch, 7, data, tmp_path / "run", **first)
    # Of what is streamed a part is measured, which must not count for a run that was begun with another part.
    monkeypatch.setattr(scaled, "MEASURED", 7)
    again = {} if isinstance(data, Path) else {"data": data}
    done = resume(tmp_path / "run", watchers=(), **again, **then)
    assert done is not None
    assert not isinstance(done.data.train.inputs, Tensor)
    found, wanted_end = outcome(tmp_path / "run"), outcome(wanted)
    # The recipe says how they were read.
    assert found.pop("result")["test"] == wanted_end.pop("result")["test"]
    assert found == wanted_end
    kept = load_recipe(tmp_path / "run" / "recipe.toml")
    assert (kept.workers, kept.data.memory) == (done.recipe.workers, NONE) == (then["workers"], NONE)
    assert reproduce(tmp_path / "run", **again).divergence == ""


def test_a_run_goes_on_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _kill(monkeypatch, 7, folder, tmp_path / "run", memory=NONE)
    done = resume(tmp_path / "run", watchers=(), memory=None)
    assert done is not None
    assert isinstance(done.data.train.inputs, Tensor)
    assert reproduce(tmp_path / "run").divergence == ""


def test_what_decides_results_does_not_change(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _kill(monkeypatch, 3, folder, tmp_path / "run")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(RecipeError, match=r"is resumed with its own settings: optimizer.lr affects results.\n.*workers"):
        resume(tmp_path / "run", watchers=(), lr=0.1)
    with pytest.raises(RecipeError, match="Did you mean 'workers'"):
        resume(tmp_path / "run", watchers=(), worker=1)
    with pytest.raises(RecipeError, match="workers = -1"):
        resume(tmp_path / "run", watchers=(), workers=-1)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
