"""A run says which training labels are likely wrong."""

from __future__ import annotations

import copy
import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import epochal
from epochal.errors import DataError
from epochal.run.label_errors import by_example
from tests.small import small_net, small_recipe

Arrays = tuple[Tensor, Tensor]


@pytest.fixture
def planted(blobs: Arrays) -> tuple[Arrays, set[int]]:
    """Clouds of points, some with the label of another."""
    inputs, labels = blobs[0].repeat(3, 1), blobs[1].repeat(3)
    wrong = {4, 35, 77, 110}
    for place in wrong:
        labels[place] = (labels[place] + 1) % 3
    return (inputs, labels), wrong


def _train(data: Any, out: Path | None = None, *, label_check: bool = False, **settings: Any) -> epochal.Run:
    recipe = small_recipe(epochs=15, lr=0.02, **settings)
    return epochal.train(data, recipe, model="mlp", out=out, quiet=True, label_check=label_check)


def test_wrong_labels_are_listed_with_what_they_should_be(planted: tuple[Arrays, set[int]], tmp_path: Path) -> None:
    (inputs, labels), wrong = planted
    run = _train((inputs, labels), tmp_path / "run")
    found = run.label_errors
    assert found is not None
    likely = {int(run.data.train.positions[one.place]) for one in found.listed if one.likely}
    assert likely == wrong & set(run.data.train.positions.tolist())
    rows = list(csv.DictReader((tmp_path / "run" / "labels.csv").read_text().splitlines()))
    assert len(rows) == len(found.listed)
    for row in rows[: found.likely]:
        place = int(row["example"].removeprefix("train[").removesuffix("]"))
        assert (int(row["given"]), int(row["suggested"])) == (int(labels[place]), place % 3)
        assert row["label"] == row["given"]
    kept = json.loads((tmp_path / "run" / "result.json").read_text())["label_errors"]
    assert kept == json.loads(json.dumps(found.to_json()))
    assert (kept["likely"], kept["check"]) == (len(likely), None)
    assert str(found) in repr(run)


def test_a_run_that_is_resumed_finds_the_same(planted: tuple[Arrays, set[int]], tmp_path: Path) -> None:
    epochal.train(planted[0], small_recipe(epochs=7, lr=0.02, schedule="constant"), model="mlp", out=tmp_path / "run", quiet=True)
    resumed = epochal.resume(tmp_path / "run", epochs=15, data=planted[0], quiet=True)
    straight = epochal.train(planted[0], small_recipe(epochs=15, lr=0.02, schedule="constant"), model="mlp", quiet=True)
    assert resumed is not None
    assert torch.equal(resumed.fit.labels, straight.fit.labels)
    assert resumed.label_errors == straight.label_errors


def _corrected(folder: Path, count: int) -> Path:
    """The first rows of a run's list, with what it suggests as their labels."""
    rows = list(csv.DictReader((folder / "labels.csv").read_text("utf-8").splitlines()))
    for row in rows[:count]:
        row["label"] = row["suggested"]
    with (folder / "mine.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return folder / "mine.csv"


def test_single_labels_of_several_are_listed_corrected_and_checked(tmp_path: Path) -> None:
    inputs = torch.randn(300, 3, generator=torch.Generator().manual_seed(0)).sign() * 2
    labels = (inputs > 0).float()
    planted = {(7, 0), (41, 2), (120, 1), (200, 1)}
    for place, column in planted:
        labels[place, column] = 1 - labels[place, column]
    run = _train((inputs, labels), tmp_path / "run", label_check=True)
    found = run.label_errors
    assert found is not None
    named = {(int(run.data.train.positions[one.place]), int(one.target)) for one in found.listed if one.likely}
    assert named == {one for one in planted if one[0] in run.data.train.positions.tolist()}
    assert str(found) == f"{len(named)} of {3 * len(run.data.train)} training labels look wrong"
    assert found.check is not None
    assert found.check.recall > 0.8
    kept = json.loads((tmp_path / "run" / "result.json").read_text())["label_errors"]
    assert (kept["kind"], kept["first"][0]["target"]) == ("labels", found.listed[0].target)
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert f"{found.listed[0].target}: {found.listed[0].given}" in page
    after = _train((inputs, labels), tmp_path / "after", labels=str(_corrected(tmp_path / "run", found.likely)))
    assert after.label_errors is not None
    assert after.label_errors.likely == 0
    assert len(after.data.corrected) == found.likely
    assert epochal.reproduce(tmp_path / "after", data=(inputs, labels)).divergence == ""


def test_quantities_that_are_far_from_predictions_are_listed_and_corrected(tmp_path: Path) -> None:
    inputs = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    targets = inputs.sum(1) + 0.1 * torch.randn(300, generator=torch.Generator().manual_seed(1))
    planted = {7, 41, 120, 200}
    for place in planted:
        targets[place] += 8.5
    run = _train((inputs, targets), tmp_path / "run")
    found = run.label_errors
    assert found is not None
    here = planted & set(run.data.train.positions.tolist())
    first = [int(run.data.train.positions[one.place]) for one in found.listed[: len(here)]]
    assert set(first) == here
    assert found.likely >= len(here)
    assert str(found) == f"{found.likely} of {len(run.data.train)} training values look wrong"
    assert found.to_json()["pairs"] == []
    assert f"{found.listed[0].score:.1f} σ" in (tmp_path / "run" / "report.html").read_text("utf-8")
    after = _train((inputs, targets), tmp_path / "after", labels=str(_corrected(tmp_path / "run", len(here))))
    assert {one.target for one in after.data.corrected} == {"y"}
    assert float(after.data.train.targets.max()) < 6
    assert epochal.reproduce(tmp_path / "after", data=(inputs, targets)).divergence == ""


def test_of_changed_copies_the_mean_counts() -> None:
    means = torch.tensor([[0.2], [float("nan")], [0.4], [float("nan")]])
    torch.testing.assert_close(by_example(means, 2), torch.tensor([[0.3], [float("nan")]]), equal_nan=True)


@pytest.mark.parametrize("model", ["mlp", "own"])
def test_labels_that_are_changed_on_purpose_come_back(planted: tuple[Arrays, set[int]], tmp_path: Path, model: str) -> None:
    net = small_net() if model == "own" else "mlp"
    plain = epochal.train(planted[0], small_recipe(epochs=15, lr=0.02), model=copy.deepcopy(net), quiet=True)
    run = epochal.train(planted[0], small_recipe(epochs=15, lr=0.02), model=net, label_check=True, out=tmp_path / "run", quiet=True)
    assert plain.label_errors is not None
    assert run.label_errors is not None
    check = run.label_errors.check
    assert check is not None
    assert (check.times, check.changed) == (8, 8 * round(0.02 * len(run.data.train)))
    assert check.found >= check.changed - 1
    assert [one.place for one in plain.label_errors.listed][:9] == [one.place for one in run.label_errors.listed][:9]
    assert run.label_errors.likely == plain.label_errors.likely
    kept = json.loads((tmp_path / "run" / "result.json").read_text())
    assert kept["label_errors"]["check"]["found"] == check.found


def test_quantities_cannot_be_checked() -> None:
    with pytest.raises(DataError, match="Labels of the task regression cannot be checked: how many wrong values come back depends"):
        epochal.train((torch.randn(60, 2), torch.randn(60)), small_recipe(), label_check=True, quiet=True)
