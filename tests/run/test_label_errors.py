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


def _train(data: Any, out: Path | None = None, **settings: Any) -> epochal.Run:
    recipe = small_recipe(epochs=15, lr=0.02, **settings)
    return epochal.train(data, recipe, model="mlp", out=out, quiet=True)


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


def test_quantities_have_no_wrong_labels(tmp_path: Path) -> None:
    run = _train((torch.randn(60, 2), torch.randn(60)), tmp_path / "run")
    assert run.label_errors is None
    assert not (tmp_path / "run" / "labels.csv").exists()
    assert json.loads((tmp_path / "run" / "result.json").read_text())["label_errors"] is None


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
    assert check.changed == 4 * round(0.02 * len(run.data.train))
    assert check.found >= check.changed - 1
    assert [one.place for one in plain.label_errors.listed][:9] == [one.place for one in run.label_errors.listed][:9]
    assert run.label_errors.likely == plain.label_errors.likely
    kept = json.loads((tmp_path / "run" / "result.json").read_text())
    assert kept["label_errors"]["check"]["found"] == check.found


def test_only_classes_can_be_checked() -> None:
    with pytest.raises(DataError, match="Labels of the task regression cannot be checked"):
        epochal.train((torch.randn(60, 2), torch.randn(60)), small_recipe(), label_check=True, quiet=True)
