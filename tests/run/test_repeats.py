"""A run with repeats: the same settings with several seeds on one split, measured together and compared with others."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import epochal
from epochal.cli.main import cli
from epochal.errors import BundleError, DataError, RecipeError
from epochal.run.predictions import read_predictions
from tests.interrupted import Interrupted

# Small batches, so that seeds differ.
QUICK: dict[str, Any] = {"epochs": 2, "threads": 1, "device": "cpu", "quiet": True, "batch_size": 8, "model": "linear"}


class Repeated(NamedTuple):
    """Data, and a run on them with three repeats."""

    clouds: tuple[Tensor, Tensor]
    run: epochal.Run
    folder: Path


@pytest.fixture(scope="module")
def clouds() -> tuple[Tensor, Tensor]:
    """Two clouds of 60 points each that overlap."""
    labels = torch.arange(120) % 2
    return torch.randn(120, 2, generator=torch.Generator().manual_seed(0)) + labels[:, None], labels


@pytest.fixture(scope="module")
def repeated(clouds: tuple[Tensor, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Repeated:
    folder = tmp_path_factory.mktemp("repeats") / "run"
    return Repeated(clouds, epochal.train(clouds, repeats=3, seed=4, out=folder, **QUICK), folder)


def _result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text("utf-8"))
    return found


def test_repeats_are_separate_trainings_with_these_seeds_to_the_bit(repeated: Repeated) -> None:
    alone = [epochal.train(repeated.clouds, seed=seed, split_seed=4, **QUICK) for seed in (4, 5, 6)]
    found = repeated.run.repeats
    assert found is not None
    assert found.is_complete
    assert found.seeds == (4, 5, 6)
    assert found.count == 24
    for place, (folder, plain) in enumerate(zip(_folders(repeated.folder), alone, strict=True)):
        assert plain.test is not None
        assert torch.equal(read_predictions(folder)["outputs"], plain.test.outputs)
        assert found.scores[0].by_seed[place] == plain.test.accuracy == _result(folder)["test"]["accuracy"]
        bundle = epochal.Bundle.load(folder)
        for name, tensor in plain.bundle.model.state_dict().items():
            assert torch.equal(tensor, bundle.model.state_dict()[name])
    assert (
        len({float(one.bundle.model.state_dict()[name].sum()) for one in alone for name in list(one.bundle.model.state_dict())[-1:]}) == 3
    )


def test_the_numbers_are_the_same_everywhere(repeated: Repeated) -> None:
    found, result = repeated.run.repeats, _result(repeated.folder)["repeats"]
    assert found is not None
    assert result == json.loads(json.dumps(found.to_json()))
    assert epochal.evaluation.repeats.Repeats.from_json(result) == found
    # Numbers stay with their signs and units.
    page = (repeated.folder / "report.html").read_text("utf-8").replace("\xa0", " ")
    for line in found.meaning:
        assert line in page
    assert found.headline() in repr(repeated.run)
    # Each is a run of its own, without repeats.
    assert "repeats" not in _result(repeated.folder / "repeats" / "2")


def test_compare_counts_repeats_without_being_told(repeated: Repeated, tmp_path: Path) -> None:
    other = epochal.train(repeated.clouds, seed=9, split_seed=4, out=tmp_path / "other", **(QUICK | {"epochs": 1}))
    found = epochal.compare(repeated.folder, other)
    assert found.over_seeds
    assert [setting.seeds for setting in found.settings] == [(4, 5, 6), (9,)]
    assert repeated.run.repeats is not None
    first = repeated.run.repeats.scores[0]
    assert found.settings[0].score == pytest.approx(first.value)
    assert found.settings[0].interval == pytest.approx(first.interval)
    assert found.settings[0].spread == pytest.approx(first.spread)
    # Named by themselves, they count once.
    listed = epochal.compare(*_folders(repeated.folder), other)
    assert listed.settings == found.settings
    # The best of three is still one run.
    assert not epochal.compare(repeated.folder / "repeats" / "2", other).over_seeds


def test_an_interruption_keeps_finished_repeats_and_resume_goes_on(
    clouds: tuple[Tensor, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, folder = Interrupted(), tmp_path / "run"
    epochal.train(clouds, schedule=plain, **QUICK)
    wanted = epochal.train(clouds, schedule=Interrupted(), repeats=3, **QUICK)
    # In the third training, after its first epoch.
    with pytest.raises(KeyboardInterrupt):
        epochal.train(
            clouds,
            schedule=Interrupted(int(2.8 * plain.calls)),
            repeats=3,
            out=folder,
            **(QUICK | {"quiet": False, "checkpoint_every": 1e-9}),
        )
    said = capsys.readouterr().out
    assert "epochal.resume(" in said
    assert f"{folder / 'repeats'}" not in said
    assert len(_result(folder)["repeats"]["seeds"]) == 2
    assert "Only 2 of 3 repeats are finished" in (folder / "report.html").read_text("utf-8")
    assert list((folder / "repeats" / "3" / "checkpoints").iterdir())
    kept = (folder / "repeats" / "2" / "result.json").read_bytes()
    again = epochal.resume(folder, data=clouds, schedule=Interrupted(), quiet=True)
    assert again is not None
    assert again.repeats == wanted.repeats
    assert (folder / "repeats" / "2" / "result.json").read_bytes() == kept
    assert epochal.resume(folder, data=clouds, quiet=True) is None


def test_more_epochs_make_repeats_longer(clouds: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    longer = QUICK | {"repeats": 2, "schedule": "constant"}
    epochal.train(clouds, **longer, out=tmp_path / "run")
    again, wanted = epochal.resume(tmp_path / "run", data=clouds, epochs=4, quiet=True), epochal.train(clouds, **(longer | {"epochs": 4}))
    assert again is not None
    assert again.repeats == wanted.repeats
    epochal.resume(tmp_path / "run" / "repeats" / "2", data=clouds, epochs=5, quiet=True)
    with pytest.raises(BundleError, match="was trained for 5 epochs"):
        epochal.resume(tmp_path / "run", data=clouds, quiet=True)


def test_a_module_begins_each_time_as_it_was_passed(clouds: tuple[Tensor, Tensor], capsys: pytest.CaptureFixture[str]) -> None:
    net = nn.Linear(2, 2)
    weights = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    run = epochal.train(clouds, **(QUICK | {"model": net, "quiet": False, "repeats": 2}))
    assert "note: each repeat begins with the weights that your module has" in capsys.readouterr().out
    other = nn.Linear(2, 2)
    other.load_state_dict(weights)
    alone = epochal.train(clouds, **(QUICK | {"model": other, "seed": 1, "split_seed": 0}))
    assert run.repeats is not None
    assert alone.test is not None
    assert run.repeats.scores[0].by_seed[1] == alone.test.accuracy


def test_quantities_and_groups(clouds: tuple[Tensor, Tensor]) -> None:
    quantities = epochal.train((clouds[0], clouds[0].sum(1)), repeats=2, **QUICK)
    assert quantities.repeats is not None
    assert quantities.repeats.scores[0].name == "mean absolute error"
    data = epochal.load(clouds, group=[str(number // 10) for number in range(120)])
    grouped = epochal.train(data, repeats=2, **QUICK)
    assert grouped.repeats is not None
    assert grouped.repeats.scores[0].examples > 0


def test_what_cannot_be_is_refused_before_training(clouds: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="repeats = 1"):
        epochal.train(clouds, repeats=1, out=tmp_path / "run", **QUICK)
    for settings in ({"test": 0.0}, {"folds": 3}):
        with pytest.raises(DataError, match="Repeats are measured on test data"):
            epochal.train(clouds, repeats=2, out=tmp_path / "run", **(QUICK | settings))
    assert not (tmp_path / "run").exists()


def test_another_repeat_in_its_place_is_told(repeated: Repeated, tmp_path: Path) -> None:
    run = epochal.train(repeated.clouds, repeats=3, out=tmp_path / "run", **(QUICK | {"epochs": 1}))
    assert run.folder is not None
    epochal.train(repeated.clouds, seed=8, out=tmp_path / "other", **(QUICK | {"epochs": 1}))
    (run.folder / "repeats" / "2").rename(tmp_path / "away")
    (tmp_path / "other").rename(run.folder / "repeats" / "2")
    (run.folder / "repeats" / "3" / "result.json").unlink()
    with pytest.raises(BundleError, match="tested on other examples than the run itself"):
        epochal.resume(run.folder, data=repeated.clouds, quiet=True)


def test_the_command(clouds: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    np.savez(tmp_path / "clouds.npz", x=clouds[0].numpy(), y=clouds[1].numpy())
    words = ["train", str(tmp_path / "clouds.npz"), "--repeats", "2", "--epochs", "1", "--threads", "1", "--json", "--out"]
    done = CliRunner().invoke(cli, [*words, str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert "repeats: 2 trainings on one split, with seeds 0 to 1\n" in done.output
    assert json.loads(done.output.splitlines()[-1])["repeats"]["seeds"] == [0, 1]
    done = CliRunner().invoke(cli, [*words, str(tmp_path / "other"), "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "repeats: 2 trainings with seeds 0 to 1, all on the split of split seed 0" in done.output
    done = CliRunner().invoke(cli, [*words, str(tmp_path / "other"), "--test", "0"])
    assert "Repeats are measured on test data" in str(done.exception)
    assert not (tmp_path / "other").exists()


def _folders(folder: Path) -> list[Path]:
    return [folder, folder / "repeats" / "2", folder / "repeats" / "3"]
