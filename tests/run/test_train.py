import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from epochal.bundle import Bundle
from epochal.data.load import load
from epochal.errors import BundleError, DataError, ModelError, OutputError, RecipeError, TrainingError
from epochal.recipe import Recipe, load_recipe
from epochal.run.evaluate import evaluate_run
from epochal.run.folder import read_json
from epochal.run.train import run as run_with
from epochal.run.train import train
from epochal.training.records import EpochDone, Record

KEPT = [
    "checkpoints", "data.json", "environment.json", "examples.json", "figures", "labels.csv", "metrics.jsonl", "model", "predictions",
    "recipe.toml", "report.html", "result.json", "seen.bin",
]  # fmt: skip


def blobs(count: int = 120, classes: int = 3) -> tuple[Tensor, Tensor]:
    labels = torch.arange(count) % classes
    noise = torch.randn(count, 4, generator=torch.Generator().manual_seed(0))
    return noise * 0.3 + 2 * nn.functional.one_hot(labels, 4), labels


@pytest.mark.usefixtures("drawn")
def test_the_whole_road(tmp_path: Path) -> None:
    run = train(blobs(), epochs=30, out=tmp_path / "run", watchers=())
    assert run.test is not None
    assert run.test.accuracy == 1.0
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == KEPT
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 30
    result = read_json(tmp_path / "run" / "result.json")
    assert result == json.loads(json.dumps(run.result))
    assert set(result) >= {"run", "recipe", "data", "model", "test", "seconds"}
    assert result["test"]["count"] == 24
    assert result["test"]["accuracy"] == 1.0
    assert result["data"]["counts"] == {"train": 84, "valid": 12, "test": 24}
    assert set(result["seconds"]) == {"load", "build", "train", "evaluate", "keep", "total"}


def test_the_kept_recipe_is_the_resolved_one(tmp_path: Path) -> None:
    run = train(blobs(), epochs=2, out=tmp_path / "run", watchers=(), lr=0.01)
    text = (tmp_path / "run" / "recipe.toml").read_text()
    assert "lr = 0.01 # given" in text
    assert 'name = "mlp" # data' in text
    assert 'name = "cross-entropy" # data' in text
    assert load_recipe(tmp_path / "run" / "recipe.toml").flat() == run.recipe.flat()


def test_the_split_is_written_down(tmp_path: Path) -> None:
    run = train(blobs(), epochs=1, out=tmp_path / "run", watchers=(), seed=3)
    kept = json.loads((tmp_path / "run" / "data.json").read_text())
    assert run.data.test is not None
    assert kept["split"]["test"] == {"from": "train", "count": 24, "seed": 3, "positions": run.data.test.positions.tolist()}
    assert kept["split"]["train"] == {"from": "train", "count": 84, "seed": 3}


def test_runs_of_other_seeds_can_be_tested_on_the_same_examples() -> None:
    runs = [train(blobs(), epochs=1, watchers=(), seed=seed, split_seed=5) for seed in (1, 2)]
    first, second = ({name: part.positions.tolist() for name, part in run.data.splits.items()} for run in runs)
    assert first == second == {name: part.positions.tolist() for name, part in load(blobs()).split(seed=5).splits.items()}
    assert [run.result["data"]["fingerprint"] for run in runs] == [runs[0].data.fingerprint] * 2
    assert runs[0].result["test"]["loss"] != runs[1].result["test"]["loss"]


def test_splits_that_the_data_bring_are_used_as_they_are(tmp_path: Path) -> None:
    run = train({"train": blobs(), "test": blobs(30)}, epochs=1, valid=0, out=tmp_path / "run", watchers=())
    assert run.data.spec.counts == {"train": 120, "test": 30}
    split = json.loads((tmp_path / "run" / "data.json").read_text())["split"]
    assert split == {"train": {"from": "train", "count": 120}, "test": {"from": "test", "count": 30}}


def test_same_seed_same_bits_and_another_seed_others() -> None:
    def weights(seed: int) -> dict[str, Tensor]:
        return train(blobs(), epochs=2, seed=seed, watchers=()).bundle.model.state_dict()

    first, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_training_leaves_the_global_random_state() -> None:
    before = torch.random.get_rng_state()
    train(blobs(), epochs=1, watchers=())
    assert torch.equal(before, torch.random.get_rng_state())


def test_test_data_are_touched_once_and_last() -> None:
    touched: list[str] = []

    class Recording(torch.utils.data.Dataset[tuple[Tensor, int]]):
        """Takes note of each reading; what differs at each reading is read whenever it is used."""

        def __init__(self, name: str, count: int) -> None:
            self.name = name
            self.rows, self.labels = blobs(count)

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            touched.append(f"{self.name} {index}")
            return self.rows[index] + 0.01 * torch.rand(4), int(self.labels[index])

    def watch(record: Record) -> None:
        touched.append(type(record).__name__)

    data = load({name: Recording(name, count) for name, count in (("train", 60), ("valid", 12), ("test", 24))})
    data.spec  # noqa: B018  it reads too
    touched.clear()
    train(data, epochs=2, watchers=[watch], quiet=True)
    ended = touched.index("Finished")
    read = [what for what in touched[:ended] if what.startswith("test ")]
    # One example tells what the network gets.
    assert len(read) <= 1, read
    after = [what for what in touched[ended:] if what.startswith("test ")]
    assert after == [f"test {index}" for index in range(24)]
    assert any(what.startswith("valid ") for what in touched[:ended])


def test_a_data_loader_brings_its_batch_size_and_an_explicit_one_wins() -> None:
    loader = DataLoader(TensorDataset(*blobs()), batch_size=32, shuffle=True)
    assert train(loader, epochs=1, watchers=()).recipe.batch_size == 32
    run = train(loader, epochs=1, batch_size=16, watchers=())
    assert run.recipe.batch_size == 16
    assert run.recipe.origin("batch_size") == "given"


def test_a_module_and_functions_of_ones_own() -> None:
    net = nn.Linear(4, 3)
    run = train(
        blobs(),
        model=net,
        loss=nn.functional.cross_entropy,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.5),
        epochs=20,
        watchers=(),
    )
    assert run.bundle.model.get_submodule("net") is net
    assert run.recipe.model.name == "Linear"
    assert run.test is not None
    assert run.test.accuracy == 1.0


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from torch import nn\nclass Net(nn.Linear):\n    def __init__(self): super().__init__(4, 3)\n")
    run = train(blobs(), model=f"{tmp_path}/mine.py:Net", epochs=1, out=tmp_path / "run", watchers=())
    with pytest.raises(BundleError, match="not its code"):
        Bundle.load(tmp_path / "run")
    again = Bundle.load(tmp_path / "run", f"{tmp_path}/mine.py:Net")
    assert again.predict(torch.zeros(4)) == run.predict(torch.zeros(4))


def test_regression_in_any_unit() -> None:
    x = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))
    y = x @ torch.tensor([[1000.0], [-2000.0], [500.0]]) + 1e5
    run = train((x, y), epochs=40, watchers=())
    assert run.test is not None
    assert run.test.r2 is not None
    assert run.test.r2 > 0.98


@pytest.mark.usefixtures("drawn")
def test_several_labels_and_balanced_classes(tmp_path: Path) -> None:
    x = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))
    several = train((x, (x > 0.5).long()), epochs=30, class_weights="balanced", out=tmp_path / "several", watchers=())
    assert several.test is not None
    assert several.test.macro is not None
    assert several.test.macro.f1 > 0.85
    rare = train((x, (x[:, 0] > 1).long()), epochs=30, class_weights="balanced", watchers=())
    assert rare.test is not None
    assert rare.test.per_class[1].recall > 0.8


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"model": "convv"}, ModelError, "Unknown model 'convv'.\nDid you mean 'conv'"),
        ({"model": "conv"}, ModelError, "is for pictures"),
        ({"model": {"name": "mlp", "width": [3]}}, ModelError, "has no option 'width'.\nDid you mean 'widths'"),
        ({"model": {"name": "mlp", "widths": ["a"]}}, ModelError, "cannot be built with model.widths"),
        ({"epoch": 3}, RecipeError, "Unknown setting 'epoch'.\nDid you mean 'epochs'"),
        ({"recipe": "tutorial-mpl"}, RecipeError, "Unknown recipe 'tutorial-mpl'.\nDid you mean 'tutorial-mlp'"),
        ({"loss": "mse"}, RecipeError, "The loss mse is not for single-label targets"),
        ({"optimizer": "sdg"}, RecipeError, "Unknown optimizer 'sdg'.\nDid you mean 'sgd'"),
        ({"device": "tpu"}, RecipeError, "device 'tpu'"),
        ({"mean": [0.0, 1.0]}, RecipeError, "has 2 numbers, but the data have 4 features"),
        ({"std": 0.0}, RecipeError, "data.std must be above 0"),
        ({"flip": True}, RecipeError, "are for pictures"),
        ({"loss": "nll"}, RecipeError, "needs log-probabilities"),
        ({"monitor": "accuracy", "patience": 2, "valid": 0}, RecipeError, "patience needs validation data"),
        ({"task": "regression", "monitor": "accuracy"}, RecipeError, "does not work for regression"),
        ({"model": "nowhere.py:Net"}, ModelError, "There is no file nowhere.py"),
    ],
)
def test_what_cannot_work_is_told_and_leaves_nothing(
    tmp_path: Path, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train(blobs(), out=tmp_path / "run", watchers=(), **settings)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_refused_before_anything(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(OutputError, match="run exists already"):
        train("no such data", out=tmp_path / "run", watchers=())


def test_a_name_that_another_run_takes_while_this_one_begins_is_left_to_it(tmp_path: Path) -> None:
    def names() -> Iterator[Path]:
        for number in (1, 2, 3):
            path = tmp_path / f"run-{number}"
            if number < 3:
                path.mkdir()
                (path / "theirs").touch()
            yield path

    done = run_with(blobs(), Recipe().updated({"epochs": 1}), out=names())
    assert done.folder == tmp_path / "run-3"
    assert sorted(path.name for path in done.folder.iterdir()) == KEPT
    assert [os.listdir(tmp_path / f"run-{number}") for number in (1, 2)] == [["theirs"], ["theirs"]]


def test_numbers_beyond_all_bounds_are_blamed_and_never_kept(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"Step 2 \(epoch 1\): the output of net\.\d \(Linear\) has a value that is not finite\. From: train\["
    ):
        train(blobs(), out=tmp_path / "run", watchers=(), lr=1e30, optimizer="sgd", schedule="constant")
    assert [place.name for place in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-0000000000-1"]
    assert not (tmp_path / "run" / "model").exists()


def test_an_interruption_leaves_what_can_be_gone_on_with(tmp_path: Path) -> None:
    def interrupt(record: Record) -> None:
        if isinstance(record, EpochDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(blobs(), out=tmp_path / "run", watchers=[interrupt])
    assert (tmp_path / "run" / "checkpoints").exists()
    assert not (tmp_path / "run" / "model").exists()


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match=r"Cannot write .*: No space left on device\.\nFree some space"):
        train(blobs(), out=tmp_path / "run", watchers=())
    assert list(tmp_path.iterdir()) == []


def test_settings_that_come_too_late_for_loaded_data_are_refused() -> None:
    data = load((torch.arange(20 * 64, dtype=torch.uint8).reshape(20, 8, 8), torch.arange(20) % 2))
    for setting in ({"size": 16}, {"fit": "crop"}, {"task": "regression"}):
        with pytest.raises(RecipeError, match="comes too late"):
            train(data, watchers=(), **setting)


def test_options_of_a_model_that_the_data_choose_are_used() -> None:
    run = train(blobs(), Recipe().updated({"model.widths": [7]}), epochs=1, watchers=())
    assert run.recipe.model.options == {"widths": (7,)}
    assert run.summary().parameters == 4 * 7 + 7 + 7 * 3 + 3
    with pytest.raises(ModelError, match="The model mlp has no option 'nonsense'"):
        train(blobs(), model={"nonsense": 3}, watchers=())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": nn.Linear}, ModelError, r"Linear is a class, not a network\.\nPass Linear\(\)"),
        ({"model": 3}, ModelError, "The model is of type int"),
        ({"optimizer": torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)}, RecipeError, r"is built already \(SGD\)"),
        ({"loss": 5}, RecipeError, "The loss is of type int"),
        ({"loss": nn.MSELoss}, RecipeError, r"MSELoss is a class, not a loss\.\nPass MSELoss\(\)"),
        ({"loss": lambda outputs, targets: outputs}, RecipeError, "The loss function returns a value of shape"),
        (
            {"loss": lambda outputs, targets: outputs @ targets},
            RecipeError,
            r"The loss function fails: size mismatch.* \(test_train\.py, line \d+\)",
        ),
        ({"loss": nn.functional.cross_entropy, "smoothing": 0.1}, RecipeError, "loss.smoothing has no effect on your own loss function"),
        ({"optimizer": lambda p: torch.optim.SGD(p, lr=0.1), "lr": 0.5}, RecipeError, "optimizer.lr has no effect"),
        ({"recipe": 5}, RecipeError, "The recipe is of type int"),
        ({"model": nn.Sequential(nn.Linear(4, 3), nn.Softmax(1))}, RecipeError, "the model gives probabilities"),
    ],
)
def test_arguments_of_the_wrong_kind_are_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        train(blobs(), watchers=(), **arguments)


def test_a_recipe_may_be_a_mapping() -> None:
    assert train(blobs(), {"epochs": 1, "lr": 0.01}, watchers=()).recipe.optimizer.lr == 0.01


def test_functions_of_ones_own_are_named_in_the_result() -> None:
    run = train(blobs(), loss=nn.functional.cross_entropy, epochs=1, watchers=())
    assert run.result["own"] == {"loss": "cross_entropy"}


@pytest.mark.parametrize("unit", [1e-7, 1.0, 1e7])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_regression_does_not_depend_on_the_unit(unit: float, optimizer: str) -> None:
    x = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]]) * unit
    test = train((x, y), epochs=40, optimizer=optimizer, lr={"adamw": 0.005, "sgd": 0.05}[optimizer], watchers=()).test
    assert test is not None
    assert test.r2 is not None
    assert test.r2 > 0.97


def test_a_run_without_test_data_has_nothing_to_evaluate(tmp_path: Path) -> None:
    x, y = blobs()
    np.savez(tmp_path / "data.npz", x=x.numpy(), y=y.numpy())
    train(tmp_path / "data.npz", epochs=1, valid=0, test=0, out=tmp_path / "run", watchers=())
    assert (tmp_path / "run" / "figures" / "learning-curves.png").is_file()
    with pytest.raises(DataError, match="was trained without test data"):
        evaluate_run(tmp_path / "run")


def test_other_data_without_a_test_split_are_measured_as_a_whole(tmp_path: Path) -> None:
    run = train(blobs(), epochs=1, watchers=())
    data = load({"train": (blobs(30)[0] + 1, blobs(30)[1]), "valid": (blobs(60)[0] + 2, blobs(60)[1])}, like=run.bundle.spec)
    assert run.bundle.evaluate(data).count == 90


def test_tied_weights_are_kept(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.last(self.second(self.first(x)))
            return out

    run = train(blobs(), model=Tied(), epochs=1, out=tmp_path / "run", watchers=())
    assert Bundle.load(tmp_path / "run", Tied()).predict(torch.ones(4)) == run.predict(torch.ones(4))


def test_what_fails_after_training_leaves_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OutputError("No figure today.")

    monkeypatch.setattr("epochal.figures.draw_all", fail)
    with pytest.raises(OutputError, match="No figure today"):
        train(blobs(), epochs=1, out=tmp_path / "run", watchers=())
    assert not (tmp_path / "run" / "result.json").exists()
    assert Bundle.load(tmp_path / "run").predict(torch.zeros(4))


def test_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    x, y = blobs()
    wild = x[:9].clone()
    wild[0] = 3.4e38
    run = train({"train": (x, y), "test": (wild, y[:9])}, epochs=1, out=tmp_path / "run", watchers=())
    assert run.test is not None
    assert not math.isfinite(run.test.loss)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["test"]["loss"] is None


def test_a_folder_named_like_a_data_set_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    train("digits", max_steps=1, out=tmp_path / "run", watchers=())
    assert json.loads((tmp_path / "run" / "data.json").read_text())["source"] == "digits"


def test_a_file_of_ones_own_knows_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "width.py").write_text("WIDTH = 3\n")
    (tmp_path / "net.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom torch import nn\nfrom width import WIDTH\n"
        "@dataclass\nclass Size:\n    out: int = WIDTH\ndef make(): return nn.Linear(4, Size().out)\n"
    )
    assert train(blobs(), model=f"{tmp_path}/net.py:make", epochs=1, watchers=()).test is not None


def test_a_model_given_twice_is_refused() -> None:
    with pytest.raises(RecipeError, match="asks for the model mlp, but another was passed"):
        train(blobs(), Recipe().updated({"model": "mlp"}), model=nn.Linear(4, 3), watchers=())


def test_own_model_takes_no_options() -> None:
    with pytest.raises(RecipeError, match="takes no options from the recipe: widths"):
        train(blobs(), Recipe().updated({"model.widths": [3]}), model=nn.Linear(4, 3), watchers=())


def test_evaluating_a_run_gives_its_own_test_result_again(tmp_path: Path) -> None:
    x, y = blobs()
    np.savez(tmp_path / "data.npz", x=x.numpy(), y=y.numpy())
    run = train(tmp_path / "data.npz", epochs=3, out=tmp_path / "run", watchers=())
    again = evaluate_run(tmp_path / "run")
    assert run.test is not None
    assert again.to_json() == run.test.to_json()
    assert torch.equal(again.outputs, run.test.outputs)
    (tmp_path / "data.npz").rename(tmp_path / "moved.npz")
    assert evaluate_run(tmp_path / "run").to_json() == again.to_json()
    (tmp_path / "moved.npz").rename(tmp_path / "data.npz")
    shutil.rmtree(tmp_path / "run" / "predictions")
    lines: list[str] = []
    measured = evaluate_run(tmp_path / "run", log=lines.append)
    assert measured.to_json() == again.to_json()
    assert lines[0] == "note: there are no saved predictions: they are made again."


@pytest.mark.parametrize("damage", ["byte", "short", "model"])
def test_damaged_predictions_are_refused(tmp_path: Path, damage: str) -> None:
    train(blobs(), epochs=1, out=tmp_path / "run", quiet=True)
    path = tmp_path / "run" / "predictions" / "test.safetensors"
    content = path.read_bytes()
    if damage == "model":
        train(blobs(), epochs=2, out=tmp_path / "other", quiet=True)
        shutil.rmtree(tmp_path / "run" / "model")
        shutil.copytree(tmp_path / "other" / "model", tmp_path / "run" / "model")
    else:
        path.write_bytes(content[:-5] if damage == "short" else content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match=r"test\.safetensors .*\nRemove it: then evaluate computes it again, which needs the data\."):
        evaluate_run(tmp_path / "run")


def test_evaluating_on_data_that_changed_is_refused(tmp_path: Path) -> None:
    x, y = blobs()
    np.savez(tmp_path / "data.npz", x=x.numpy(), y=y.numpy())
    train(tmp_path / "data.npz", epochs=1, out=tmp_path / "run", watchers=())
    x[0, 0] += 1
    np.savez(tmp_path / "data.npz", x=x.numpy(), y=y.numpy())
    # Its own predictions need no data.
    assert evaluate_run(tmp_path / "run").count == 24
    shutil.rmtree(tmp_path / "run" / "predictions")
    with pytest.raises(DataError, match="is no longer what .* was trained on"):
        evaluate_run(tmp_path / "run")
    # What was tested on, and the example that changed.
    assert evaluate_run(tmp_path / "run", tmp_path / "data.npz").count in (24, 25)
    assert evaluate_run(tmp_path / "run", tmp_path / "data.npz", include_training=True).count == 120


def test_evaluating_on_other_data_matches_classes_by_name(tmp_path: Path) -> None:
    x, y = blobs()
    run = train((x, [["ant", "bee", "cat"][label] for label in y]), epochs=30, out=tmp_path / "run", watchers=())
    assert run.test is not None
    only = [index for index in range(120) if y[index] != 0]
    np.savez(tmp_path / "some.npz", x=x[only].numpy(), y=np.array([["ant", "bee", "cat"][label] for label in y[only]]))
    found = evaluate_run(tmp_path / "run", tmp_path / "some.npz", include_training=True)
    assert found.accuracy == 1.0
    assert [score.support for score in found.per_class] == [0, 40, 40]
    np.savez(tmp_path / "strange.npz", x=x.numpy(), y=np.array(["dog"] * 120))
    with pytest.raises(DataError, match="does not know the class 'dog'; it knows ant, bee, cat"):
        evaluate_run(tmp_path / "run", tmp_path / "strange.npz")
    assert evaluate_run(tmp_path / "run").to_json() == run.test.to_json()
    shutil.rmtree(tmp_path / "run" / "predictions")
    with pytest.raises(DataError, match="was trained on data from a Python program"):
        evaluate_run(tmp_path / "run")


def test_other_data_of_another_type_or_scale_are_refused_or_told(tmp_path: Path) -> None:
    x, y = torch.rand(60, 1, 8, 8).numpy(), np.arange(60) % 2
    train((x, y), epochs=1, out=tmp_path / "run", watchers=())
    np.savez(tmp_path / "pixels.npz", x=(x * 255).astype(np.uint8), y=y)
    with pytest.raises(DataError, match="Inputs of train are uint8; those of the model are float32"):
        evaluate_run(tmp_path / "run", tmp_path / "pixels.npz")
    np.savez(tmp_path / "larger.npz", x=x * 255, y=y)
    lines: list[str] = []
    evaluate_run(tmp_path / "run", tmp_path / "larger.npz", log=lines.append)
    assert any(line.startswith("note: inputs of train vary 25") for line in lines)


def test_digits_reach_98_percent() -> None:
    seeds = int(os.environ.get("EPOCHAL_SEEDS", "1"))
    accuracies = []
    for seed in range(seeds):
        test = train("digits", seed=seed, watchers=()).test
        assert test is not None
        assert test.accuracy is not None
        accuracies.append(test.accuracy)
    assert math.fsum(accuracies) / seeds >= 0.98, accuracies
