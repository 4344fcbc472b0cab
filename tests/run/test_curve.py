"""A run with a learning curve: draws of its training examples, measured on the same test examples."""

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import Tensor, nn

import epochal
from epochal.cli.main import cli
from epochal.data.storage.cache import open_cache
from epochal.errors import DataError, ModelError
from epochal.models.pretrained.pictures import LITE0
from tests.trunks import shrink

QUICK: dict[str, Any] = {"epochs": 2, "threads": 1, "quiet": True, "learning_curve": True}


@pytest.fixture
def clouds() -> tuple[Tensor, Tensor]:
    """Two clouds of 100 points each that overlap."""
    labels = torch.arange(200) % 2
    return torch.randn(200, 2, generator=torch.Generator().manual_seed(0)) + labels[:, None], labels


@pytest.mark.usefixtures("drawn")
def test_the_run_is_the_same_and_has_a_curve_as_well(clouds: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    run = epochal.train(clouds, **QUICK, out=tmp_path / "run")
    plain = epochal.train(clouds, **(QUICK | {"learning_curve": False}))
    assert plain.curve is None
    for name, tensor in plain.bundle.model.state_dict().items():
        assert torch.equal(tensor, run.bundle.model.state_dict()[name])
    assert run.curve is not None
    assert [(one.labels, one.draws) for one in run.curve.points] == [(18, 5), (35, 5), (70, 5), (140, 1)]
    assert run.test is not None
    assert run.curve.points[-1].score == run.test.accuracy
    assert (run.curve.measured_on, run.curve.count) == ("test", 40)
    result = json.loads((tmp_path / "run" / "result.json").read_text("utf-8"))
    assert result["learning_curve"]["points"][0]["labels"] == 18
    assert (tmp_path / "run" / "figures" / "labels.png").stat().st_size > 1000
    assert "labels" in repr(run)
    again = epochal.train(clouds, **QUICK)
    assert again.curve == run.curve


class Seen(nn.Linear):
    """A linear layer that notes its first weight in each step of training."""

    weights: ClassVar[list[float]] = []

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.weights.append(self.weight[0, 0].item())
        return super().forward(inputs)


def test_a_module_begins_each_time_as_it_was_passed(clouds: tuple[Tensor, Tensor]) -> None:
    net = Seen(2, 2)
    first = net.weight[0, 0].item()
    run = epochal.train(clouds, model=net, **QUICK)
    assert run.curve is not None
    assert net.weight[0, 0].item() != first
    assert Seen.weights.count(first) >= 16, Seen.weights


def test_quantities(clouds: tuple[Tensor, Tensor]) -> None:
    points = clouds[0]
    run = epochal.train((points, points.sum(1)), **QUICK)
    assert run.curve is not None
    assert run.curve.heading[1] == "R²"


def test_groups_stay_together(clouds: tuple[Tensor, Tensor]) -> None:
    data = epochal.load(clouds, group=[str(number // 10) for number in range(200)])
    run = epochal.train(data, **QUICK)
    assert run.curve is not None
    assert all(one.labels % 10 == 0 for one in run.curve.points[-2:])


def test_without_test_data_it_is_measured_on_validation_data(clouds: tuple[Tensor, Tensor]) -> None:
    run = epochal.train(clouds, test=0.0, **QUICK)
    assert run.curve is not None
    assert (run.curve.measured_on, run.curve.count) == ("valid", 20)


def test_what_cannot_have_a_curve_is_refused_before_training(clouds: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    few = clouds[0][:24], clouds[1][:24]
    with pytest.raises(DataError, match=r"17 training examples are too few for a learning curve: with these targets it takes 32\."):
        epochal.train(few, **QUICK, out=tmp_path / "run")
    with pytest.raises(DataError, match="no test examples to measure a learning curve on"):
        epochal.train(clouds, test=0.0, valid=0.0, **QUICK, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("draws", "is_curve"), [(3, False), (7, True)])
def test_what_was_measured_before_an_interruption_is_kept(
    clouds: tuple[Tensor, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str], draws: int, *, is_curve: bool
) -> None:
    calls, limit = 0, 10**9

    def interrupted(_: int) -> float:
        nonlocal calls
        calls += 1
        if calls > limit:
            raise KeyboardInterrupt
        return 1.0

    counted = []
    for asked in (False, True):
        calls = 0
        epochal.train(clouds, schedule=interrupted, **(QUICK | {"learning_curve": asked}))
        counted.append(calls)
    calls, limit = 0, counted[0] + draws * (counted[1] - counted[0]) // 15
    with pytest.raises(KeyboardInterrupt):
        epochal.train(clouds, schedule=interrupted, **(QUICK | {"quiet": False}), out=tmp_path / "run")
    result = json.loads((tmp_path / "run" / "result.json").read_text("utf-8"))
    assert ("learning_curve" in result) == is_curve
    assert (tmp_path / "run" / "figures" / "labels.png").exists() == is_curve
    assert "The run itself is complete: " in capsys.readouterr().out
    assert epochal.Bundle.load(tmp_path / "run").predict(clouds[0][0])


def test_the_trunk_of_a_pretrained_model_sees_each_picture_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)
    try:
        LITE0.path()
    except ModelError as error:
        pytest.skip(str(error))
    random = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 120)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(30):
            Image.fromarray(random.integers(low, low + 120, (32, 32, 3), dtype=np.uint8)).save(tmp_path / "photos" / name / f"{number}.png")
    quick = QUICK | {"model": "efficientnet-lite0", "size": 32, "tune": "head", "epochs": 8}
    epochal.train(tmp_path / "photos", **(quick | {"learning_curve": False}))
    before = {entry.key for entry in open_cache().entries()}
    run = epochal.train(tmp_path / "photos", **quick)
    assert {entry.key for entry in open_cache().entries()} == before
    assert run.curve is not None
    assert run.curve.points[-1].score > 0.5


def test_the_command(clouds: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    np.savez(tmp_path / "clouds.npz", x=clouds[0].numpy(), y=clouds[1].numpy())
    words = ["train", str(tmp_path / "clouds.npz"), "--learning-curve", "--epochs", "2", "--threads", "1", "--json", "--out"]
    done = CliRunner().invoke(cli, [*words, str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert "accuracy by the number of labels, measured on 40 test examples\n" in done.output
    assert json.loads(done.output.splitlines()[-1])["learning_curve"]["count"] == 40
    done = CliRunner().invoke(cli, [*words, str(tmp_path / "other"), "--dry-run"])
    assert done.exit_code == 2
    assert "--dry-run trains nothing" in done.output
    assert not (tmp_path / "other").exists()
