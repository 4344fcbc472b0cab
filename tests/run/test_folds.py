"""A run with cross-validation: folds of its examples, measured by models that were trained without them."""

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import epochal
from epochal.cli.main import cli
from epochal.errors import BundleError, DataError, RecipeError
from tests.interrupted import Interrupted

QUICK: dict[str, Any] = {"epochs": 2, "threads": 1, "device": "cpu", "quiet": True, "folds": 3}


@pytest.fixture
def clouds() -> tuple[Tensor, Tensor]:
    """Two clouds of 60 points each that overlap."""
    labels = torch.arange(120) % 2
    return torch.randn(120, 2, generator=torch.Generator().manual_seed(0)) + labels[:, None], labels


def _result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text("utf-8"))
    return found


def test_every_example_is_answered_by_a_model_that_has_not_seen_it(clouds: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    # Where it says something, each input says only what example it is: nobody else's label helps.
    inputs = torch.eye(120)
    run = epochal.train((inputs, clouds[1]), model="linear", **(QUICK | {"epochs": 30}), out=tmp_path / "run")
    assert run.test is None
    assert run.folds is not None
    assert run.out_of_fold is not None
    assert torch.equal(run.out_of_fold.targets, clouds[1])
    assert run.folds.tested == (40, 40, 40)
    assert run.folds.trained == (80, 80, 80)
    assert run.out_of_fold.accuracy is not None
    assert run.out_of_fold.accuracy < 0.6
    assert run.out_of_fold.interval == run.folds.scores[0].interval
    assert "out of fold" in repr(run)
    result = _result(tmp_path / "run")
    assert result["folds"]["scores"][0]["value"] == run.out_of_fold.accuracy == result["folds"]["evaluation"]["accuracy"]
    assert result["assessment"]["split"] == "folds"
    assert result["assessment"]["count"] == 120
    assert "Trained without a fold" in (tmp_path / "run" / "report.html").read_text("utf-8")
    # Its answers can be paired with those of another run, with the scores of the result.
    other = epochal.train((inputs, clouds[1]), model="linear", **(QUICK | {"seed": 1, "split_seed": 0}), out=tmp_path / "other")
    for score, place in (("accuracy", 0), ("balanced-accuracy", 1), ("macro-f1", 2), ("log-loss", 3)):
        found = epochal.compare(run, other, score=score)
        assert [(one.score, one.interval) for one in found.runs] == [
            (one.folds.scores[place].value, one.folds.scores[place].interval) for one in (run, other) if one.folds is not None
        ]
        assert (found.count, found.folds) == (120, 3)
    kept = [load_file(tmp_path / "run" / "folds" / f"{number}.safetensors") for number in (1, 2, 3)]
    assert sorted(torch.cat([one["positions"] for one in kept]).tolist()) == list(range(120))
    assert all(clouds[1][one["positions"]].sum() == 20 for one in kept)


def test_slices_of_answers_out_of_fold_are_in_the_report(clouds: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    x = clouds[0][:, 0].tolist()
    table = {"x": x, "site": ["ab"[place % 3 == 0] for place in range(120)], "y": clouds[1].tolist()}
    run = epochal.train(table, target="y", model="linear", task="single-label", **QUICK, out=tmp_path / "run")
    assert run.assessment is not None
    assert run.assessment.slices is not None
    assert json.loads(json.dumps(run.assessment.to_json())) == _result(tmp_path / "run")["assessment"]
    assert _result(tmp_path / "run")["assessment"]["slices"]["split"] == "folds"
    assert "A slice is all examples out of fold with one value in a column" in (tmp_path / "run" / "report.html").read_text("utf-8")


def test_wrong_labels_are_those_that_models_out_of_fold_contradict(clouds: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    points, labels = clouds[0] + 4 * clouds[1][:, None], clouds[1].clone()
    labels[::20] = 1 - labels[::20]
    run = epochal.train((points, labels), **(QUICK | {"epochs": 20}), out=tmp_path / "run")
    assert run.label_errors is not None
    assert run.label_errors.by == _result(tmp_path / "run")["label_errors"]["by"] == "folds"
    assert {one.example for one in run.label_errors.listed[:6]} == {f"train[{place}]" for place in range(0, 120, 20)}
    rows = (tmp_path / "run" / "labels.csv").read_text("utf-8").splitlines()
    assert rows[1].startswith(f"1,{run.label_errors.listed[0].example},")
    assert "Models that were trained without these examples" in (tmp_path / "run" / "report.html").read_text("utf-8")


def test_the_model_of_the_run_is_that_without_folds_and_test_data(clouds: tuple[Tensor, Tensor]) -> None:
    run, plain = epochal.train(clouds, **QUICK), epochal.train(clouds, **(QUICK | {"folds": None, "test": 0.0}))
    assert plain.folds is None
    for name, tensor in plain.bundle.model.state_dict().items():
        assert torch.equal(tensor, run.bundle.model.state_dict()[name])


def test_test_data_are_in_no_fold(clouds: tuple[Tensor, Tensor]) -> None:
    points, labels = clouds
    split = epochal.train({"train": (points[:90], labels[:90]), "valid": (points[90:105], labels[90:105]), "test": clouds}, **QUICK)
    given = epochal.train(clouds, **(QUICK | {"test": 0.25}))
    for run in (split, given):
        assert run.test is not None
        assert run.folds is not None
        assert run.folds.count == 90
        assert run.result["assessment"]["split"] == "test"
    # A validation part of its own serves every model.
    assert split.folds is not None
    assert split.folds.trained == (75, 75, 75)


def test_groups_stay_in_one_fold(clouds: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    data = epochal.load(clouds, group=[str(number // 10) for number in range(120)])
    run = epochal.train(data, **QUICK, out=tmp_path / "run")
    assert run.folds is not None
    assert run.folds.groups == 12
    held = [load_file(tmp_path / "run" / "folds" / f"{number}.safetensors")["positions"] // 10 for number in (1, 2, 3)]
    assert sorted(group for one in held for group in set(one.tolist())) == list(range(12))


def test_quantities_several_labels_and_data_that_are_read_one_by_one(clouds: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    points, labels = clouds
    quantities = epochal.train((points, points.sum(1)), **QUICK, out=tmp_path / "run")
    # Values that look wrong are those of the run's own training: the report shows them, too.
    listed = _result(tmp_path / "run")["label_errors"]["first"]
    shown = json.loads((tmp_path / "run" / "examples.json").read_text("utf-8"))["labels"]
    assert [one["name"] for one in shown] == [one["example"] for one in listed[: len(shown)]] != []
    assert quantities.folds is not None
    assert quantities.folds.scores[0].name == "mean absolute error"
    several = epochal.train((points, torch.stack([labels, 1 - labels], 1).float()), task="multi-label", **QUICK)
    assert several.folds is not None
    for data in (TensorDataset(points, labels), DataLoader(TensorDataset(points, labels), batch_size=16, shuffle=True)):
        run = epochal.train(data, **QUICK)
        assert run.out_of_fold is not None
        assert torch.equal(run.out_of_fold.targets, labels)


class Noted(nn.Linear):
    """A linear layer that notes what its first weight was in each step of training."""

    began: ClassVar[list[float]] = []

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.began.append(self.weight[0, 0].item())
        return super().forward(inputs)


def test_a_module_begins_each_time_as_it_was_passed(clouds: tuple[Tensor, Tensor]) -> None:
    net = Noted(2, 2)
    first = net.weight[0, 0].item()
    epochal.train(clouds, model=net, **QUICK)
    # Once for the run, and once for each fold, and steps are tried before.
    assert Noted.began.count(first) >= 4
    assert net.weight[0, 0].item() != first


def test_what_cannot_be_is_refused_before_training(clouds: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    points, labels = clouds
    with pytest.raises(RecipeError, match="folds = 1"):
        epochal.train(clouds, **(QUICK | {"folds": 1}), out=tmp_path / "run")
    with pytest.raises(DataError, match="120 examples are too few for 200 folds"):
        epochal.train(clouds, **(QUICK | {"folds": 200}), out=tmp_path / "run")
    groups = epochal.load(clouds, group=[str(number // 60) for number in range(120)])
    with pytest.raises(DataError, match="2 groups are too few for 3 folds"):
        epochal.train(groups, **QUICK, out=tmp_path / "run")
    lone = torch.cat([labels[:-1], torch.tensor([2])])
    with pytest.raises(DataError, match="All examples of 2 would be in one fold"):
        epochal.train((points, lone), **QUICK, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_small_class_is_told(clouds: tuple[Tensor, Tensor], capsys: pytest.CaptureFixture[str]) -> None:
    few = torch.cat([clouds[1][:-2], torch.tensor([2, 2])])
    epochal.train((clouds[0], few), **(QUICK | {"quiet": False}))
    said = capsys.readouterr().out
    assert "cross-validation: 3 folds of 120 examples, stratified by class\n" in said
    assert "note: the smallest class has 2 examples, so that some of the 3 folds have none of it" in said


def test_an_interruption_keeps_finished_folds_and_resume_goes_on(
    clouds: tuple[Tensor, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, whole = Interrupted(10**9), Interrupted(10**9)
    epochal.train(clouds, schedule=plain, **(QUICK | {"folds": None, "test": 0.0}))
    wanted = epochal.train(clouds, schedule=whole, **QUICK)
    assert wanted.folds is not None
    # In the second fold.
    limit = plain.calls + (whole.calls - plain.calls) // 2
    with pytest.raises(KeyboardInterrupt):
        epochal.train(clouds, schedule=Interrupted(limit), **(QUICK | {"quiet": False}), out=tmp_path / "run")
    assert "epochal.resume(" in capsys.readouterr().out
    assert len(_result(tmp_path / "run")["folds"]["tested"]) == 1
    assert "Only 1 of 3 folds are finished" in (tmp_path / "run" / "report.html").read_text("utf-8")
    assert epochal.Bundle.load(tmp_path / "run").predict(clouds[0][0])
    again = epochal.resume(tmp_path / "run", data=clouds, schedule=Interrupted(10**9), quiet=True)
    assert again is not None
    assert again.folds == wanted.folds
    assert _result(tmp_path / "run")["folds"] == json.loads(json.dumps(wanted.result["folds"]))
    assert not (tmp_path / "run" / "folds" / "training").exists()
    assert epochal.resume(tmp_path / "run", data=clouds, quiet=True) is None


def test_more_epochs_make_other_folds(clouds: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    longer = QUICK | {"epochs": 4, "schedule": "constant"}
    epochal.train(clouds, **(longer | {"epochs": 2}), out=tmp_path / "run")
    again, wanted = epochal.resume(tmp_path / "run", data=clouds, epochs=4, quiet=True), epochal.train(clouds, **longer)
    assert again is not None
    assert again.folds == wanted.folds


def test_a_damaged_fold_is_told(clouds: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    epochal.train(clouds, **QUICK, out=tmp_path / "run")
    file = tmp_path / "run" / "folds" / "2.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"outputs": tensors["outputs"] + 1}, file)
    (tmp_path / "run" / "folds" / "3.safetensors").unlink()
    with pytest.raises(BundleError, match=r"2\.safetensors cannot be read"):
        epochal.resume(tmp_path / "run", data=clouds, quiet=True)
    file.unlink()
    assert epochal.resume(tmp_path / "run", data=clouds, quiet=True) is not None


def test_the_command(clouds: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    np.savez(tmp_path / "clouds.npz", x=clouds[0].numpy(), y=clouds[1].numpy())
    words = ["train", str(tmp_path / "clouds.npz"), "--folds", "3", "--epochs", "2", "--threads", "1", "--json", "--out"]
    done = CliRunner().invoke(cli, [*words, str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert "cross-validation: 3 folds of 120 examples in all\n" in done.output
    assert json.loads(done.output.splitlines()[-1])["folds"]["folds"] == 3
    done = CliRunner().invoke(cli, [*words, str(tmp_path / "other"), "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "cross-validation: 3 folds of 120 examples, stratified by class" in done.output
    done = CliRunner().invoke(cli, [*words[:3], "500", "--out", str(tmp_path / "other")])
    assert "120 examples are too few for 500 folds" in str(done.exception)
    assert not (tmp_path / "other").exists()
