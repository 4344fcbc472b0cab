"""Metrics by name agree with scikit-learn; the user's functions are checked, measured, kept and monitored."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as theirs
from torch import Tensor

import epochal
from epochal.data.spec import DataSpec
from epochal.errors import EpochalError, RecipeError
from epochal.evaluation.named import all_metrics, as_metrics, monitored
from epochal.run.evaluate import evaluate_run
from epochal.run.reproduce import reproduce
from epochal.tasks.multi_label import MultiLabel
from epochal.tasks.regression import Regression
from epochal.tasks.single_label import SingleLabel
from epochal.training.records import EpochDone

SpecMaker = Callable[..., DataSpec]
RANDOM = np.random.default_rng(0)


def _found(name: str, predictions: Any, targets: Any, spec: DataSpec) -> float:
    (metric,) = as_metrics(name, spec.task)
    return metric(torch.as_tensor(predictions), torch.as_tensor(targets), spec.task)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", sorted(SingleLabel.usual_metrics))
def test_one_label(make_spec: SpecMaker, name: str, classes: int) -> None:
    targets = RANDOM.integers(0, classes, 80)
    scores = RANDOM.random((80, classes)).round(1) + 0.5 * np.eye(classes)[targets] + 0.01
    predictions = scores / scores.sum(1, keepdims=True)
    predicted, rows = predictions.argmax(1), np.eye(classes)[targets]
    wanted = {
        "balanced accuracy": lambda: theirs.balanced_accuracy_score(targets, predicted),
        "f1": lambda: theirs.f1_score(targets, predicted, average="macro"),
        "precision": lambda: theirs.precision_score(targets, predicted, average="macro"),
        "recall": lambda: theirs.recall_score(targets, predicted, average="macro"),
        "auc": lambda: theirs.roc_auc_score(targets, predictions[:, 1] if classes == 2 else predictions, multi_class="ovr"),
        "average precision": lambda: theirs.average_precision_score(
            *((targets, predictions[:, 1]) if classes == 2 else (rows, predictions)), average="macro"
        ),
        "kappa": lambda: theirs.cohen_kappa_score(targets, predicted),
        "mcc": lambda: theirs.matthews_corrcoef(targets, predicted),
    }[name]()
    assert _found(name, predictions, targets, make_spec(outputs=tuple("abcd"[:classes]))) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("name", sorted(MultiLabel.usual_metrics))
def test_several_labels(make_spec: SpecMaker, name: str) -> None:
    targets = RANDOM.integers(0, 2, (80, 3)).astype(float)
    predictions = (0.6 * RANDOM.random((80, 3)) + 0.4 * targets).round(2)
    predicted = predictions >= 0.5
    average = {"average": "micro" if name == "micro f1" else "macro"}
    wanted = {
        "f1": lambda: theirs.f1_score(targets, predicted, **average),
        "micro f1": lambda: theirs.f1_score(targets, predicted, **average),
        "precision": lambda: theirs.precision_score(targets, predicted, **average),
        "recall": lambda: theirs.recall_score(targets, predicted, **average),
        "auc": lambda: theirs.roc_auc_score(targets, predictions, **average),
        "average precision": lambda: theirs.average_precision_score(targets, predictions, **average),
        "label accuracy": lambda: 1 - theirs.hamming_loss(targets, predicted),
    }[name]()
    assert _found(name, predictions, targets, make_spec(task="multi-label")) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("name", sorted(Regression.usual_metrics))
def test_quantities(make_spec: SpecMaker, name: str) -> None:
    targets = RANDOM.normal(5, 1, (81, 1))
    predictions = targets + RANDOM.normal(size=(81, 1))
    wanted = {
        "mae": theirs.mean_absolute_error,
        "mse": theirs.mean_squared_error,
        "rmse": theirs.root_mean_squared_error,
        "mape": theirs.mean_absolute_percentage_error,
        "median error": theirs.median_absolute_error,
        "max error": theirs.max_error,
    }[name](targets, predictions)
    spec = make_spec(task="regression", outputs=("y",))
    assert _found(name, predictions, targets, spec) == pytest.approx(wanted, rel=1e-6)
    assert monitored(name) == (name, -1)


def test_classes_that_are_not_there_have_no_area(make_spec: SpecMaker) -> None:
    predictions, targets = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]]), torch.tensor([0, 1])
    assert _found("auc", predictions, targets, make_spec()) == 1.0
    assert _found("balanced accuracy", predictions, targets, make_spec()) == 1.0
    assert math.isnan(_found("auc", predictions[:1], targets[:1], make_spec()))


@pytest.mark.parametrize(
    ("monitor", "wanted"),
    [
        ("f1", ("f1", 1)), ("my loss", ("my loss", -1)), ("Error rate", ("Error rate", -1)), ("min brier", ("brier", -1)),
        ("max error bars", ("error bars", 1)), ("minimum", ("minimum", 1)), ("loss", ("loss", -1)),
    ],
)  # fmt: skip
def test_direction_of_what_is_monitored(monitor: str, wanted: tuple[str, int]) -> None:
    assert monitored(monitor) == wanted


@pytest.mark.parametrize(
    ("names", "monitor", "own", "reported"),
    [
        (["f-1s"], "auto", None, "There is no metric 'f-1s'.\nDid you mean 'f1'?"),
        (["rmse"], "auto", None, "The metric 'rmse' is not for single-label targets.\nUse one of balanced accuracy, "),
        (["f1", "F1"], "auto", None, "The metric 'f1' is measured already."),
        ([], "auto", {"accuracy": len}, "The metric 'accuracy' is measured already."),
        ([], "auto", {"mine": 3}, "The metric 'mine' is 3.\nPass a function"),
        ([], "acuracy", None, "The setting monitor = acuracy names no score.\nDid you mean 'accuracy'?"),
        ([], "rmse", None, "The metric 'rmse' is not for single-label targets."),
    ],
)
def test_what_cannot_be_measured_is_reported(make_spec: SpecMaker, names: list[str], monitor: str, own: Any, reported: str) -> None:
    with pytest.raises(RecipeError) as raised:
        all_metrics(names, monitor, own, make_spec().task)
    assert reported in str(raised.value)


def _data(count: int = 120) -> tuple[Tensor, Tensor]:
    labels = torch.arange(count) % 3
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(0)) + 2 * torch.eye(4)[labels], labels


def spread(predictions: Tensor, targets: Tensor) -> Tensor:
    assert predictions.shape == (len(targets), 3)
    torch.testing.assert_close(predictions.sum(1), torch.ones(len(targets)))
    return predictions.amax(1).mean()


SETTINGS: dict[str, Any] = {"model": "linear", "epochs": 4, "quiet": True, "checkpoint_every": 1e-9}


def test_they_are_measured_kept_and_reachable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = _data()
    np.savez(tmp_path / "data.npz", x=x.numpy(), y=y.numpy())
    heard: list[Any] = []
    run = epochal.train(
        tmp_path / "data.npz",
        metrics=["balanced_accuracy", spread],
        out=tmp_path / "run",
        watchers=[heard.append],
        **SETTINGS | {"quiet": False},
    )
    assert "balanced accuracy    spread" in capsys.readouterr().out
    assert run.recipe.metrics == ("balanced_accuracy",)
    lines = [json.loads(line)["valid"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    (*reported,) = (record.valid.metrics for record in heard if isinstance(record, EpochDone) and record.valid is not None)
    assert [{name: line[name] for name in ("balanced accuracy", "spread")} for line in lines] == reported
    assert run.valid is not None
    assert run.test is not None
    assert run.valid.metrics == reported[run.fit.finished.best_epoch - 1]
    assert run.valid.outputs.shape == (len(run.valid.targets), 3)
    torch.testing.assert_close(run.valid.outputs.softmax(1), run.valid.predictions)
    assert run.test.metrics["spread"] == pytest.approx(float(run.test.predictions.amax(1).mean()))
    assert run.result["test"]["metrics"] == dict(run.test.metrics)
    assert f"; balanced accuracy {run.test.metrics['balanced accuracy']:.4g}; spread " in str(run.test)
    # The names are in the recipe; functions have to be passed again.
    assert evaluate_run(tmp_path / "run").metrics == {"balanced accuracy": run.test.metrics["balanced accuracy"]}
    assert run.bundle.evaluate(run.data, metrics={"mine": spread}).metrics.keys() == {"mine"}
    for action in (reproduce, lambda folder: epochal.resume(folder, epochs=6, quiet=True)):
        with pytest.raises(EpochalError, match="was trained with your own metrics, spread"):
            action(tmp_path / "run")
    assert reproduce(tmp_path / "run", metrics=[spread]).divergence == ""
    longer = epochal.resume(tmp_path / "run", epochs=6, metrics=[spread], quiet=True)
    assert longer is not None
    assert [done.valid.metrics for done in longer.fit.epochs[:4] if done.valid is not None] == reported


@pytest.mark.parametrize(("monitor", "best"), [("height", max), ("min height", min), ("loss of mine", min)])
def test_any_of_them_may_be_monitored(monitor: str, best: Callable[..., float]) -> None:
    values = iter([0.5, 0.3, 0.9, 0.1, 0.4, 0.5, 0.5])  # Before training, in its four epochs, and at the end.
    name = monitor.removeprefix("min ")
    run = epochal.train(_data(), metrics={name: lambda predictions, targets: next(values)}, monitor=monitor, **SETTINGS)
    scores = [done.valid.metrics[name] for done in run.fit.epochs if done.valid is not None]
    assert len(set(scores)) == 4
    assert run.fit.finished.best_epoch == scores.index(best(scores)) + 1
    kind = "highest" if best is max else "lowest"
    assert f"the {kind} validation {name} ({best(scores):.4g})" in run.fit.finished.kept_for


def test_a_monitored_metric_need_not_be_listed() -> None:
    run = epochal.train(_data(), monitor="f1", **SETTINGS)
    assert run.valid is not None
    assert run.valid.metrics.keys() == {"f1"}


@pytest.mark.parametrize(
    ("function", "reported"),
    [
        (
            lambda predictions, targets: 1 / 0,
            "The metric 'mine' fails: ZeroDivisionError: division by zero.\nIt gets probabilities [n, classes]",
        ),
        (lambda predictions, targets: predictions, "The metric 'mine' fails: "),
        (lambda predictions, targets: None, "The metric 'mine' fails: TypeError"),
        (lambda predictions: 1.0, "The metric 'mine' fails: TypeError"),
    ],
)
def test_a_function_that_fails_is_reported_before_training(tmp_path: Path, function: Any, reported: str) -> None:
    with pytest.raises(RecipeError) as raised:
        epochal.train(_data(), metrics={"mine": function}, out=tmp_path / "run", **SETTINGS)
    assert reported in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_no_number_is_kept_as_none_and_resumed(tmp_path: Path) -> None:
    metrics: Any = {"nothing": lambda predictions, targets: math.nan}
    assert epochal.train(_data(), metrics=metrics, out=tmp_path / "run", **SETTINGS) is not None
    longer = epochal.resume(tmp_path / "run", epochs=5, data=_data(), metrics=metrics, quiet=True)
    assert longer is not None
    assert longer.result["test"]["metrics"] == {"nothing": None}
