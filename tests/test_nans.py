"""Whatever stops being a number, and wherever, ends or rewinds the run, and is in none of its files: the proof.

EPOCHAL_NANS=30 python3 -m pytest tests/test_nans.py          the same with so many injections
"""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from epochal.cli.main import cli
from epochal.errors import EpochalError, NotFiniteError
from epochal.run.train import train
from epochal.training import loop
from tests.kinds import KINDS

COUNT = int(os.environ.get("EPOCHAL_NANS", "8"))
STEPS = 24
SETTINGS: list[dict[str, Any]] = [
    {},
    {"ema": 0.9},
    {"clip_norm": 0.5},
    {"accumulate": 2},
    {"optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9}},
    {"optimizer": "rprop", "schedule": "constant"},
    {"ema": 0.9, "clip_norm": 0.5, "accumulate": 2},
]
# Each gets the training at the step that is to be spoilt.
Spoil = Callable[[Any, float], None]


def _weight(training: Any, value: float) -> None:
    with torch.no_grad():
        training.model.get_parameter("net.0.weight")[3, 1] = value


def _unused(training: Any, value: float) -> None:
    with torch.no_grad():
        training.model.get_parameter("net.unused").fill_(value)


def _statistics(training: Any, value: float) -> None:
    training.model.get_buffer("net.1.running_var")[2] = value


def _optimizer(training: Any, value: float) -> None:
    for state in training.optimizer.state.values():
        for tensor in state.values():
            if isinstance(tensor, Tensor) and tensor.ndim:
                tensor[(0,) * tensor.ndim] = value


def _once(register: Callable[[Callable[..., Tensor]], Any], value: float) -> None:
    """Multiply by the value what a hook is given last, once."""

    def spoil(*given: Tensor) -> Tensor:
        handles.pop().remove()
        return given[-1] * value

    handles = [register(spoil)]


def _gradient(training: Any, value: float) -> None:
    _once(training.model.get_parameter("net.3.weight").register_hook, value)


def _loss(training: Any, value: float) -> None:
    real = training.loss

    class Spoilt:
        def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
            training.loss = real
            loss: Tensor = real(outputs, targets) * value
            return loss

        weight = staticmethod(real.weight)

    training.loss = Spoilt()


def _activation(training: Any, value: float) -> None:
    _once(training.model.get_submodule("net.0").register_forward_hook, value)


def _wide(training: Any) -> Tensor:
    """The weights of a layer that every example passes, in any network."""
    found: Tensor = [one for one in training.model.parameters() if one.ndim > 1][-1]
    return found


def _any_weight(training: Any, value: float) -> None:
    with torch.no_grad():
        _wide(training)[0, 0] = value


def _any_gradient(training: Any, value: float) -> None:
    _once(_wide(training).register_hook, value)


PLACES: dict[str, Spoil] = {
    "weight": _weight,
    "gradient": _gradient,
    "loss": _loss,
    "activation": _activation,
    "unused weight": _unused,
    "running statistics": _statistics,
    "optimizer state": _optimizer,
}
CASES = [*itertools.product([*PLACES, "input"], (torch.nan, torch.inf), ("stop", "rewind"))]


class Changing(Dataset[tuple[Tensor, int]]):
    """Noise that is new at each reading, and from some reading on no number."""

    def __init__(self) -> None:
        self.value = 0.0

    def __len__(self) -> int:
        return 96

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.randn(4) + self.value, index % 3


class Net(nn.Sequential):
    """A small network; one of its weights has no part in the loss."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
        self.unused = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x)
        return x


def _scan(run: Path) -> int:
    """Read every file of a run; there is no number in it that is not finite. Return how many tensors there were."""
    count = 0
    for path in run.rglob("*"):
        if path.suffix == ".safetensors":
            for name, tensor in load_file(path).items():
                assert tensor.isfinite().all(), f"{path}: {name}"
                count += 1
        elif path.suffix in (".json", ".jsonl"):
            for text in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
                json.loads(text, parse_constant=pytest.fail)
    return count


@pytest.mark.parametrize("number", range(COUNT))
def test_nothing_that_is_not_finite_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    chance = random.Random(number)
    # A prime stride visits all cases before any comes again.
    place, value, on_nan = CASES[number * 11 % len(CASES)]
    settings = chance.choice(SETTINGS) | {"on_nan": on_nan, "checkpoint_every": chance.choice([1e-9, 1e9])}
    at = chance.randrange(1, STEPS)
    data: Any = Changing() if place == "input" else _examples()
    made = 0
    real = loop.train_step

    def spoilt(training: Any, batch: Any) -> None:
        nonlocal made
        made += 1
        if made == at:
            if place == "input":
                batch.inputs[1, 2] = value
            else:
                PLACES[place](training, value)
        real(training, batch)

    monkeypatch.setattr(loop, "train_step", spoilt)
    monkeypatch.setattr("epochal.figures.draw_all", lambda *_: None)
    case = f"{place} {value} at step {at}, {settings}"
    recipe = {"epochs": 3, "batch_size": 9, "threads": 1, "device": "cpu", **settings}
    if on_nan == "rewind":
        done = train(data, recipe, model=Net(), out=tmp_path / "run", watchers=())
        assert len(done.fit.finished.rewinds) == 1, case
        assert done.result["rewinds"][0]["factor"] == 0.5, case
    else:
        with pytest.raises(NotFiniteError, match=r"(?i)step \d+|first step") as raised:
            train(data, recipe, model=Net(), out=tmp_path / "run", watchers=())
        assert "finite" in raised.value.problem or "became" in raised.value.problem, case
        assert not (tmp_path / "run" / "model").exists(), case
    assert made >= at, case
    assert _scan(tmp_path / "run") > 0, case


# Where networks that differ have something of the same name.
EVERYWHERE: dict[str, Spoil] = {"gradient": _any_gradient, "weight": _any_weight, "loss": _loss, "optimizer state": _optimizer}


@pytest.mark.parametrize("number", range(max(len(KINDS), COUNT // 3)))
def test_nothing_that_is_not_finite_is_kept_of_other_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    kind = [*KINDS][number % len(KINDS)]
    place, value, on_nan = [*itertools.product(EVERYWHERE, (torch.nan, torch.inf), ("stop", "rewind"))][number * 7 % 16]
    said = _run_spoilt(KINDS[kind](tmp_path), tmp_path, monkeypatch, lambda training: EVERYWHERE[place](training, value), on_nan)
    case = f"{place} {value} with {kind}: {said}"
    assert ("Continuing after step" if on_nan == "rewind" else "finite") in said or "became" in said, case
    assert (tmp_path / "run" / "model").exists() is (on_nan == "rewind"), case
    assert _scan(tmp_path / "run") > 0, case


def _run_spoilt(command: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Any], None], on_nan: str) -> str:
    """Run the command in a folder, spoil the fifth step, and return what it said."""
    real, made = loop.train_step, 0

    def spoilt(training: Any, batch: Any) -> None:
        nonlocal made
        made += 1
        if made == 5:
            spoil(training)
        real(training, batch)

    monkeypatch.chdir(folder)
    monkeypatch.setattr(loop, "train_step", spoilt)
    monkeypatch.setattr("epochal.figures.draw_all", lambda *_: None)
    settings = ["--on-nan", on_nan, "--threads", "1", "--device", "cpu", "--checkpoint-every", "1e-9", "--out", "run"]
    done = CliRunner().invoke(cli, ["train", *command, *settings])
    assert done.exit_code == (0 if on_nan == "rewind" else 1), done.output
    assert made >= 5
    return f"{done.output}\n{done.exception or ''}"


def _examples() -> tuple[Tensor, Tensor]:
    targets = torch.arange(96) % 3
    noise = torch.randn(96, 4, generator=torch.Generator().manual_seed(0))
    return noise * 0.5 + nn.functional.one_hot(targets, 4), targets


def test_input_that_is_no_number_is_refused_before_training() -> None:
    x, y = _examples()
    x[5, 1] = torch.nan
    with pytest.raises(EpochalError, match=r"\[5\]"):
        train((x, y), model=Net(), watchers=())
