"""A run goes on from its folder alone, and can be trained again to see whether it comes out the same."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import epochal
from epochal.bundle import Bundle
from epochal.errors import BundleError, DataError, EpochalError, ModelError, OutputError, RecipeError
from epochal.io import lock
from epochal.io.checksums import with_checksum
from epochal.recipe import Recipe, save_recipe
from epochal.run.evaluate import evaluate_run
from epochal.run.reproduce import Reproduction, reproduce
from epochal.run.resume import resume
from epochal.run.train import run, train
from epochal.training import loop
from epochal.training.records import EpochDone
from tests.outcome import outcome

SETTINGS: dict[str, Any] = {"epochs": 5, "batch_size": 16, "ema": 0.9, "threads": 1, "checkpoint_every": 1e-9}


class KilledError(BaseException):
    """As kill -9: nothing catches it."""


def _arrays() -> tuple[Tensor, Tensor]:
    labels = torch.arange(120) % 3
    noise = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
    return noise * 0.5 + nn.functional.one_hot(labels, 4), labels


def _saved(folder: Path) -> Path:
    x, y = _arrays()
    numpy.savez(folder / "blobs.npz", x=x.numpy(), y=y.numpy())
    return folder / "blobs.npz"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return _saved(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was not interrupted, beside its data: to be looked at."""
    folder = tmp_path_factory.mktemp("whole")
    train(_saved(folder), SETTINGS, out=folder / "run", watchers=())
    return folder / "run"


@pytest.fixture
def finished(whole: Path, tmp_path: Path) -> Path:
    """A copy of that run."""
    return shutil.copytree(whole, tmp_path / "run")


def _killed(monkeypatch: pytest.MonkeyPatch, step: int, what: Any, folder: Path, **options: Any) -> None:
    """Leave a run as kill -9 leaves it at that step."""
    real, calls = loop.train_step, 0

    def dying(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == step:
            raise KilledError
        real(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(loop, "train_step", dying)
        # What tidies up after an error does not run after a kill.
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        train(what, SETTINGS, out=folder, watchers=(), **options)


class Cliff(nn.Module):
    """A single weight that learns to be 0.9, and gives what is not finite above 1: where a step is too large."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = x * self.weight / (self.weight <= 1.0)
        return outputs


def test_a_rewound_run_is_recorded_and_reproduced(tmp_path: Path) -> None:
    x = 1.0 - 2.0 * (torch.arange(120) % 2)[:, None]
    settings = SETTINGS | {"on_nan": "rewind", "optimizer": {"name": "sgd", "lr": 0.8}, "schedule": "constant"}
    done = train((x, 0.9 * x), settings, model=Cliff(), out=tmp_path / "run", watchers=())
    rewinds = json.loads((tmp_path / "run" / "result.json").read_text())["rewinds"]
    # The checkpoint after the first step is over the cliff already.
    assert [(rewind["step"], rewind["factor"], rewind["reason"][:17]) for rewind in rewinds] == [
        (1, 0.5, "Step 2 (epoch 1):"),
        (0, 0.5, "Step 2 (epoch 1):"),
    ]
    assert done.fit.finished.reason == "epochs"
    assert reproduce(tmp_path / "run", data=(x, 0.9 * x), model=Cliff()) == Reproduction(5, "", ())

    path = tmp_path / "run" / "result.json"
    kept = json.loads(path.read_text())
    del kept["rewinds"][1]["factor"]
    path.write_text(json.dumps(with_checksum(kept)))
    with pytest.raises(BundleError, match=r"rewinds\.1\.factor: Field required"):
        reproduce(tmp_path / "run", data=(x, 0.9 * x), model=Cliff())


@pytest.mark.parametrize("step", [1, 2, 7, 23])
def test_a_killed_run_ends_as_the_whole_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path, whole: Path, step: int) -> None:
    _killed(monkeypatch, step, file, tmp_path / "run")
    assert not (tmp_path / "run" / "result.json").exists()
    done = resume(tmp_path / "run", watchers=())
    assert done is not None
    assert done.folder == tmp_path / "run"
    assert outcome(tmp_path / "run") == outcome(whole)
    assert (tmp_path / "run" / "recipe.toml").read_text() == (whole / "recipe.toml").read_text()
    assert done.recipe.origin("epochs") == "given"
    assert done.recipe.origin("model.name") == "data"


def test_lines_of_epochs_after_the_checkpoint_are_not_told_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path, whole: Path
) -> None:
    _killed(monkeypatch, 20, file, tmp_path / "run")
    with (tmp_path / "run" / "metrics.jsonl").open("a") as lines:
        lines.write('{"epoch": 4, "step": 24}\n{"epoch"')
    resume(tmp_path / "run", watchers=())
    assert outcome(tmp_path / "run") == outcome(whole)


@pytest.mark.parametrize("gone", ["result.json", "figures", "model"])
def test_killed_after_training(finished: Path, whole: Path, gone: str) -> None:
    (finished / "result.json").unlink()
    if gone != "result.json":
        shutil.rmtree(finished / gone)
    resume(finished, watchers=())
    assert outcome(finished) == outcome(whole)
    assert (finished / "figures").exists()


def test_a_finished_run_is_left_alone_and_can_be_made_longer(tmp_path: Path, file: Path) -> None:
    constant = SETTINGS | {"schedule": "constant"}
    train(file, constant, out=tmp_path / "run", watchers=())
    told: list[str] = []
    assert resume(tmp_path / "run", log=told.append, watchers=()) is None
    assert resume(tmp_path / "run", epochs=5, log=told.append, watchers=()) is None
    assert told == [f"{tmp_path / 'run'} has finished; --epochs N makes it longer."] * 2
    with pytest.raises(RecipeError, match="has 5 epochs already"):
        resume(tmp_path / "run", epochs=4, watchers=())

    def interrupted(record: object) -> None:
        if isinstance(record, EpochDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resume(tmp_path / "run", epochs=8, watchers=[interrupted])
    # The same again.
    done = resume(tmp_path / "run", epochs=8, watchers=())
    assert done is not None
    assert (len(done.fit.epochs), done.recipe.epochs, done.recipe.origin("epochs")) == (8, 8, "resume")
    train(file, constant | {"epochs": 8}, out=tmp_path / "whole", watchers=())
    longer, whole = outcome(tmp_path / "run"), outcome(tmp_path / "whole")
    assert longer["weights"] == whole["weights"]
    assert longer["metrics"] == whole["metrics"]


def test_data_and_code_from_python_are_passed_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def net() -> nn.Module:
        torch.manual_seed(3)
        return nn.Linear(4, 3)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)

    own: dict[str, Any] = {"loss": loss, "optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9)}
    train(_arrays(), SETTINGS, out=tmp_path / "whole", watchers=(), model=net(), **own)
    folder = tmp_path / "run"
    _killed(monkeypatch, 8, _arrays(), folder, model=net(), **own)
    for missing, kind, told in (
        ("data", DataError, "was trained on data from a Python program"),
        ("model", ModelError, "trains your own network Linear, whose code is not in it"),
        ("loss", RecipeError, "was trained with your own loss, .*loss"),
        ("optimizer", RecipeError, "was trained with your own optimizer"),
    ):
        given: dict[str, Any] = {"data": _arrays(), "model": net(), **own}
        del given[missing]
        with pytest.raises(kind, match=told):
            resume(folder, watchers=(), **given)
    resume(folder, data=_arrays(), model=net(), watchers=(), **own)
    assert outcome(folder) == outcome(tmp_path / "whole")


def test_an_optimizer_without_state_trains_but_has_no_checkpoints(tmp_path: Path) -> None:
    class Plain:
        def __init__(self, parameters: Any) -> None:
            self.parameters = list(parameters)

        def step(self) -> None:
            with torch.no_grad():
                for parameter in self.parameters:
                    parameter -= 0.1 * parameter.grad

        def zero_grad(self) -> None:
            for parameter in self.parameters:
                parameter.grad = None

    done = train(_arrays(), SETTINGS | {"schedule": "constant"}, optimizer=Plain, out=tmp_path / "run", watchers=())
    assert done.folder == tmp_path / "run"
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_changed_data_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path) -> None:
    _killed(monkeypatch, 5, file, tmp_path / "run")
    x, y = _arrays()
    numpy.savez(file, x=x.numpy() + 1, y=y.numpy())
    with pytest.raises(DataError, match="the data have changed"):
        resume(tmp_path / "run", watchers=())
    assert (tmp_path / "run" / "checkpoints").exists()


def test_another_environment_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path) -> None:
    _killed(monkeypatch, 5, file, tmp_path / "run")
    _edit(tmp_path / "run" / "environment.json", lambda kept: kept["packages"].update(torch="1.0"))
    told: list[str] = []
    resume(tmp_path / "run", log=told.append, watchers=())
    assert any(line.startswith("note: other versions (") and "torch 1.0" in line for line in told)


@pytest.mark.parametrize("what", ["nothing", "no run", "no data.json"])
def test_what_is_no_run(tmp_path: Path, file: Path, what: str) -> None:
    folder = tmp_path / "run"
    if what != "nothing":
        folder.mkdir()
    if what == "no data.json":
        save_recipe(folder / "recipe.toml", Recipe(epochs=3))
    for action in (resume, reproduce):
        with pytest.raises(BundleError):
            action(folder)


def test_a_model_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path) -> None:
    code = tmp_path / "mine.py"
    code.write_text("from torch import nn\nclass Net(nn.Sequential):\n    def __init__(self):\n        super().__init__(nn.Linear(4, 3))\n")
    _killed(monkeypatch, 8, file, tmp_path / "run", model=f"{code}:Net")
    with pytest.raises(ModelError, match="trains your own network Net, whose code is not in it"):
        resume(tmp_path / "run", watchers=())
    done = resume(tmp_path / "run", model=f"{code}:Net", watchers=())
    assert done is not None
    assert reproduce(tmp_path / "run", model=f"{code}:Net").divergence == ""


def test_the_same_to_the_bit(tmp_path: Path, finished: Path) -> None:
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    assert reproduce(finished) == Reproduction(5, "", ())
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before


def _edit(path: Path, change: Any) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(with_checksum(values)))


@pytest.mark.parametrize("cause", ["versions", "threads", "processor", "data", "code"])
def test_the_first_divergence_and_its_cause_are_named(tmp_path: Path, whole: Path, file: Path, cause: str) -> None:
    code = tmp_path / "mine.py"
    text = "from torch import nn\nclass Net(nn.Sequential):\n    def __init__(self):\n        super().__init__(nn.Linear(4, 3))\n"
    code.write_text(text)
    folder = tmp_path / "run"
    model = f"{code}:Net" if cause == "code" else None
    if cause in ("data", "code"):
        train(file, SETTINGS, out=folder, watchers=(), model=model)
    else:
        shutil.copytree(whole, folder)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    if cause == "data":
        x, y = _arrays()
        numpy.savez(file, x=x.numpy()[::-1], y=y.numpy())
    elif cause == "code":
        code.write_text(text.replace("nn.Linear(4, 3)", "nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)"))
    else:
        # Another machine cannot be had here: the run is made to look as if it came from one.
        values = json.loads(lines[2])
        values["train_loss"] += 1e-7
        (folder / "metrics.jsonl").write_text("\n".join([*lines[:2], json.dumps(values), *lines[3:]]) + "\n")
        changes = {"versions": ("packages", {"torch": "1.0"}), "threads": ("threads", 64), "processor": ("processor", "Some CPU")}
        name, value = changes[cause]
        _edit(folder / "environment.json", lambda kept: kept.update({name: value}))
    found = reproduce(folder, model=model)
    assert found.divergence.startswith("epoch 1: " if cause in ("data", "code") else "epoch 3: train_loss was ")
    words = {
        "versions": "other versions (torch 1.0, now ",
        "threads": "another number of threads (64, now 1)",
        "processor": "another processor (Some CPU, now ",
        "data": "the data have changed",
        "code": "your own code changed (mine.py)",
    }
    assert len(found.causes) == 1
    assert found.causes[0].startswith(words[cause])


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("recipe.toml", "ema = 0.9", "ema = 0.8"),
        ("data.json", '"std": [', '"std": [1'),
        ("environment.json", '"threads": 1', '"threads": 2'),
    ],
)
def test_a_changed_file_of_the_run_is_refused(finished: Path, name: str, old: str, new: str) -> None:
    text = (finished / name).read_text()
    text = text if name == "recipe.toml" else json.dumps(json.loads(text))
    assert old in text
    (finished / name).write_text(text.replace(old, new))
    for action in (reproduce, lambda folder: resume(folder, epochs=9)):
        with pytest.raises(BundleError, match=rf"{name} .*it has changed since it was written"):
            action(finished)
    assert (finished / "result.json").exists()


@pytest.mark.parametrize("damage", ["checkpoints", "model"])
def test_a_finished_run_that_cannot_be_made_longer_stays_finished(finished: Path, damage: str) -> None:
    kept = {name: (finished / name).read_bytes() for name in ("result.json", "recipe.toml", "metrics.jsonl")}
    if damage == "checkpoints":
        for place in (finished / "checkpoints").iterdir():
            (place / "state.json").write_bytes(b"{}")
    error, told = (BundleError, "is whole") if damage == "checkpoints" else (ModelError, "is not your own code")
    with pytest.raises(error, match=told):
        resume(finished, epochs=9, watchers=(), model=None if damage == "checkpoints" else "conv")
    assert {name: (finished / name).read_bytes() for name in kept} == kept


def test_without_its_checkpoints_a_finished_run_is_not_begun_again(finished: Path) -> None:
    shutil.rmtree(finished / "checkpoints")
    with pytest.raises(BundleError, match="has no checkpoint to resume from"):
        resume(finished, epochs=9, watchers=())
    assert (finished / "result.json").exists()


def test_what_is_begun_again_is_told_and_in_no_file_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path) -> None:
    _killed(monkeypatch, 25, file, tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("\n") > 1
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    told: list[str] = []
    assert resume(tmp_path / "run", watchers=(), log=told.append) is not None
    assert "note: there is no checkpoint yet: training starts from the beginning." in told
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4, 5]


def test_a_run_that_ended_within_an_epoch_can_be_finished(tmp_path: Path, file: Path) -> None:
    train(file, SETTINGS | {"max_steps": 8}, out=tmp_path / "run", watchers=())
    wanted = outcome(tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    assert resume(tmp_path / "run", watchers=()) is not None
    assert outcome(tmp_path / "run") == wanted


def test_an_old_model_is_not_told_of_as_the_new_one(finished: Path) -> None:

    def interrupted(record: object) -> None:
        if isinstance(record, EpochDone):
            raise KeyboardInterrupt

    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        resume(finished, epochs=9, watchers=[interrupted], log=told.append)
    assert told[-1] == f"To continue from the last checkpoint: epochal resume {finished}"
    assert not any("trained model is kept" in words for words in told)


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "constant", "step"])
def test_a_longer_run_says_what_the_learning_rate_does(tmp_path: Path, file: Path, schedule: str) -> None:
    run = train(file, SETTINGS, out=tmp_path / "run", quiet=True, schedule=schedule)
    told: list[str] = []
    done = resume(tmp_path / "run", epochs=9, quiet=True, log=told.append)
    assert done is not None
    (*said,) = (words for words in told if "learning rate" in words)
    if schedule in ("constant", "step"):
        assert said == []
        return
    found = re.fullmatch(
        rf"note: the learning rate of {schedule} follows from the number of epochs: it continues at (\S+) "
        rf"\(it was at (\S+)\), as if 9 had been set from the start",
        said[0],
    )
    assert found is not None
    assert found[2] == f"{run.fit.epochs[-1].lr:.3g}"
    # What is recorded of an epoch is the rate of its last step.
    assert done.fit.epochs[5].lr / 1.001 <= float(found[1]) <= 2 * done.fit.epochs[5].lr


def test_a_run_keeps_the_new_place_of_its_data(tmp_path: Path, file: Path) -> None:
    train(file, SETTINGS, out=tmp_path / "run", quiet=True)
    moved = file.rename(tmp_path / "moved.npz")
    assert resume(tmp_path / "run", epochs=6, data=str(moved), quiet=True) is not None
    assert resume(tmp_path / "run", epochs=7, quiet=True) is not None
    assert evaluate_run(tmp_path / "run").count == 24


def test_training_and_resuming_print_unless_quiet(tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[object] = []
    train(file, SETTINGS, out=tmp_path / "run", watchers=[heard.append])
    printed = capsys.readouterr().out
    assert "blobs: 4 float32, 3 classes; 84 train, 12 valid, 24 test" in printed
    assert "kept the weights of epoch" in printed
    assert sum(isinstance(record, EpochDone) for record in heard) == 5
    resume(tmp_path / "run", epochs=6)
    assert "note: the learning rate of one-cycle follows from the number of epochs" in capsys.readouterr().out
    resume(tmp_path / "run", epochs=7, quiet=True)
    train(file, SETTINGS, quiet=True)
    assert capsys.readouterr().out == ""


def test_reproduce_says_that_a_run_was_made_longer(tmp_path: Path, file: Path) -> None:
    train(file, SETTINGS | {"schedule": "cosine"}, out=tmp_path / "run", watchers=())
    resume(tmp_path / "run", epochs=7, watchers=())
    found = reproduce(tmp_path / "run")
    assert found.divergence.startswith("epoch 1: ")
    assert found.causes == ("the run was made longer than it was at the start, and the learning rate follows from its length",)


def test_reproduce_needs_the_weights(finished: Path) -> None:
    (finished / "model" / "model.safetensors").unlink()
    with pytest.raises(BundleError, match=r"model\.safetensors cannot be read: No such file or directory\."):
        reproduce(finished)


@pytest.mark.parametrize("setting", ["threads", "device"])
def test_a_recipe_that_settles_nothing_is_no_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path, setting: str) -> None:
    _killed(monkeypatch, 5, file, tmp_path / "run")
    save_recipe(tmp_path / "run" / "recipe.toml", Recipe().updated(SETTINGS | {"threads": 1, "device": "cpu"} | {setting: "auto"}))
    with pytest.raises(BundleError, match=rf"recipe\.toml does not say what {setting} was"):
        resume(tmp_path / "run", watchers=())


def test_data_that_cannot_be_read_any_more(tmp_path: Path) -> None:
    random = numpy.random.default_rng(0)
    for number in range(20):
        path = tmp_path / "photos" / str(number % 2) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (8, 8, 3), dtype=numpy.uint8)).save(path)
    train(tmp_path / "photos", {"epochs": 1, "model": "linear", "threads": 1}, out=tmp_path / "run", watchers=())
    path.write_bytes(b"broken")
    with pytest.raises(DataError, match=r"Restore the original data, or train again\."):
        resume(tmp_path / "run", epochs=2, watchers=())


def test_two_processes_cannot_go_on_with_one_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path) -> None:
    _killed(monkeypatch, 5, file, tmp_path / "run")
    monkeypatch.setattr(lock, "ENDING_SECONDS", 0.0)
    refused: list[str] = []

    def again(_: object) -> None:
        if not refused:
            with pytest.raises(OutputError, match="Another process is writing to") as raised:
                resume(tmp_path / "run", watchers=())
            refused.append(str(raised.value))

    assert resume(tmp_path / "run", watchers=(again,)) is not None
    assert refused == [f"Another process is writing to {tmp_path / 'run'}.\nWait until it ends, or stop it."]


def test_a_run_that_trains_cannot_be_resumed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path) -> None:
    monkeypatch.setattr(lock, "ENDING_SECONDS", 0.0)

    def again(_: object) -> None:
        with pytest.raises(OutputError, match="Another process is writing to"):
            resume(tmp_path / "run", epochs=9, watchers=())

    assert len(train(file, SETTINGS, out=tmp_path / "run", watchers=(again,)).fit.epochs) == 5


def test_other_weights_are_noticed(finished: Path) -> None:
    weights = finished / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    found = reproduce(finished)
    assert (found.epochs, found.divergence) == (5, "the weights at the end differ, though every epoch agrees")


def test_an_unfinished_run_cannot_be_compared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path) -> None:
    _killed(monkeypatch, 5, file, tmp_path / "run")
    with pytest.raises(BundleError, match="has not finished"):
        reproduce(tmp_path / "run")


def test_an_error_in_training_leaves_what_can_be_gone_on_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path) -> None:
    real, calls = loop.train_step, 0

    def failing(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 9:
            raise EpochalError("No more.")
        real(*arguments)

    told: list[str] = []
    with monkeypatch.context() as patch, pytest.raises(EpochalError, match="No more"):
        patch.setattr(loop, "train_step", failing)
        run(file, epochal.Recipe().updated(SETTINGS), out=tmp_path / "run", log=told.append)
    assert told[-1] == f"To continue from the last checkpoint: epochal resume {tmp_path / 'run'}"
    assert resume(tmp_path / "run", watchers=()) is not None
    assert Bundle.load(tmp_path / "run").predict([[0.0] * 4])
