"""Thresholds that a run has tuned: every way to ask names the same label, and probabilities are as they were."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import epochal
from epochal.bundle import DESCRIPTION, Bundle
from epochal.errors import BundleError, RecipeError
from epochal.exports.export import FORMATS, encoded
from epochal.exports.parity import compare as compare_answers
from epochal.io.checksums import with_checksum
from epochal.run.compare import compare
from epochal.run.evaluate import evaluate_run
from epochal.run.report import render_run
from epochal.run.served import _ask
from epochal.serve.app import Service, build_app
from epochal.serve.model import open_model

SETTINGS: dict[str, Any] = {"epochs": 2, "quiet": True, "device": "cpu", "threads": 1, "model": "mlp", "lr": 0.02}


def _rows(count: int = 1_200) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Rows of which one in eight is rare, and looks a little different."""
    random = np.random.default_rng(0)
    rare = (random.random(count) < 0.125).astype(np.int64)
    return (random.normal(0, 1, (count, 3)) + rare[:, None]).astype(np.float32), rare


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[epochal.Run, epochal.Run]:
    """The same run, without thresholds and with."""
    folder = tmp_path_factory.mktemp("thresholds")
    usual, tuned = (
        epochal.train(_rows(), thresholds=name, metrics=["balanced accuracy", "auc"], out=folder / name, **SETTINGS)
        for name in ("default", "tuned")
    )
    return usual, tuned


def test_the_rare_class_is_found_and_probabilities_are_the_same(runs: tuple[epochal.Run, epochal.Run]) -> None:
    usual, tuned = runs
    assert usual.test is not None
    assert tuned.test is not None
    assert tuned.assessment is not None
    assert tuned.assessment.decision is not None
    assert torch.equal(usual.test.predictions, tuned.test.predictions)
    assert usual.test.metrics["auc"] == tuned.test.metrics["auc"]
    assert tuned.test.metrics["balanced accuracy"] > usual.test.metrics["balanced accuracy"]
    assert tuned.test.metrics["balanced accuracy"] == pytest.approx(tuned.assessment.decision.change.second)
    assert usual.test.metrics["balanced accuracy"] == pytest.approx(tuned.assessment.decision.change.first)
    assert tuned.test.accuracy == tuned.assessment.decision.accuracy[1]
    assert tuned.test.per_class[1].recall > usual.test.per_class[1].recall
    assert "labels by tuned thresholds" in str(tuned.test)
    assert tuned.folder is not None
    page = render_run(tuned.folder, tuned.result)
    assert "Labels are named by thresholds" in page
    assert "The model uses it." in page


def test_every_way_names_the_same_label(runs: tuple[epochal.Run, epochal.Run]) -> None:
    usual, run = runs
    assert run.folder is not None
    assert run.test is not None
    assert usual.folder is not None
    inputs = torch.from_numpy(_rows()[0][:200])
    wanted = [one.label for one in run.predict(inputs)]
    assert wanted != [one.label for one in usual.predict(inputs)]
    probable = run.bundle.values(inputs).double() / torch.tensor(run.bundle.spec.task.thresholds, dtype=torch.float64)
    assert wanted == [run.bundle.classes[place] for place in probable.argmax(1).tolist()]
    again = Bundle.load(run.folder)
    assert again.spec.task == run.bundle.spec.task
    assert [one.label for one in again.predict(inputs)] == wanted
    assert again.fingerprint() != usual.bundle.fingerprint()
    with Service([open_model(run.folder)], decoders=1) as service:
        found = asyncio.run(_ask(build_app(service), json.dumps({"inputs": inputs[:50].tolist()}).encode()))
    assert [one["label"] for one in found] == wanted[:50]
    assert evaluate_run(run.folder).scores == run.test.scores
    compared = compare(usual.folder, run.folder)
    assert [one.score for one in compared.runs] == [usual.test.accuracy if usual.test else None, run.test.accuracy]
    back = compare(run.folder, usual.folder)
    assert [one.score for one in back.runs] == [one.score for one in reversed(compared.runs)]


def test_files_have_the_same_labels(runs: tuple[epochal.Run, epochal.Run]) -> None:
    bundle = runs[1].bundle
    inputs = torch.from_numpy(_rows()[0][:100])
    content = encoded(FORMATS["safetensors"], bundle, {})
    assert sum(row.agree for row in compare_answers(FORMATS["safetensors"].decode(content, bundle), bundle, inputs)) == 100


def test_thresholds_of_a_stranger_are_checked(runs: tuple[epochal.Run, epochal.Run], tmp_path: Path) -> None:
    folder = runs[1].bundle.save(tmp_path / "bundle")
    described = json.loads((folder / DESCRIPTION).read_text("utf-8"))
    for wrong in ([0.5], [0.5, 0.0], [0.5, "NaN"], [0.5, 2.0]):
        described["data"]["task"]["thresholds"] = wrong
        (folder / DESCRIPTION).write_text(json.dumps(with_checksum(described)), "utf-8")
        with pytest.raises(BundleError):
            Bundle.load(folder)


def test_several_labels() -> None:
    rows, _ = _rows()
    noise = np.random.default_rng(1).normal(0, 1, rows.shape)
    run = epochal.train((rows, (rows + noise > [0, 1.8, 2.2]).astype(np.int64)), thresholds="tuned", **SETTINGS)
    least = run.bundle.spec.task.thresholds
    assert len(least) == 3
    assert min(least) < 0.5
    assert run.test is not None
    inputs = torch.from_numpy(rows[:50])
    for values, one in zip(run.bundle.values(inputs).tolist(), run.predict(inputs), strict=True):
        there = [name for name, value, threshold in zip(run.bundle.classes, values, least, strict=True) if value >= threshold]
        assert one.label == (", ".join(there) or "none")


@pytest.mark.parametrize(
    ("targets", "more", "why"),
    [
        (lambda rare: rare, {"valid": 0.0}, "needs validation data"),
        (lambda rare: rare, {"folds": 3}, "does not work with folds"),
        (lambda rare: rare, {"learning_curve": True}, "no learning curve"),
        (lambda rare: rare + 0.5, {"task": "regression"}, "not for regression"),
        (lambda rare: rare * (np.arange(len(rare)) < 300), {}, "takes 10 validation examples"),
    ],
)
def test_what_cannot_be_tuned_is_said_before_training(targets: Any, more: dict[str, Any], why: str) -> None:
    rows, rare = _rows()
    with pytest.raises(RecipeError, match=why):
        epochal.train((rows, targets(rare)), thresholds="tuned", watchers=[lambda _: pytest.fail("it trains")], **SETTINGS, **more)
