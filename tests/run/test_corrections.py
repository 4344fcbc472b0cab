"""Training again with labels that the user corrected: the same test examples, and a run that can be made again without the list."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

import epochal
from epochal.errors import DataError
from epochal.run.evaluate import evaluate_run
from tests.small import small_recipe


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of two classes that are apart; some have the label of the other."""
    path = tmp_path_factory.mktemp("table") / "points.csv"
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(120, 2, generator=generator)
    rows = []
    for place, (a, b) in enumerate(values.tolist()):
        side = "red" if (place % 2 == 0) != (place % 15 == 7) else "blue"
        rows.append(f"{a + (6 if place % 2 else -6):.3f},{b:.3f},{side}")
    path.write_text("a,b,side\n" + "\n".join(rows) + "\n")
    return path


def _train(table: Path, out: Path, **settings: object) -> epochal.Run:
    return epochal.train(table, small_recipe(epochs=10, lr=0.02, target="side", **settings), model="mlp", out=out, quiet=True)


def test_correct_the_list_of_a_run_train_again_and_compare(table: Path, tmp_path: Path) -> None:
    before = _train(table, tmp_path / "before")
    assert before.label_errors is not None
    assert before.label_errors.likely
    with (tmp_path / "before" / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows[: before.label_errors.likely - 1]:
        row["label"] = row["suggested"]
    rows[before.label_errors.likely - 1]["remove"] = "yes"
    with (tmp_path / "mine.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    after = _train(table, tmp_path / "after", labels=str(tmp_path / "mine.csv"))
    assert len(after.data.train) == len(before.data.train) - 1
    assert after.label_errors is not None
    assert after.label_errors.likely == 0
    assert epochal.compare(before, after).count == len(before.data.test or ())
    # The list is the user's: the run keeps what it said.
    (tmp_path / "mine.csv").unlink()
    kept = json.loads((tmp_path / "after" / "data.json").read_text())["corrected"]
    assert kept == [
        [row["example"], row["given"], None if row["remove"] else row["label"], ""] for row in rows[: before.label_errors.likely]
    ]
    assert epochal.reproduce(tmp_path / "after").divergence == ""
    (tmp_path / "after" / "predictions" / "test.safetensors").unlink()
    assert evaluate_run(tmp_path / "after").count == len(before.data.test or ())
    assert "3 labels are corrected, 1 example left out" in (tmp_path / "after" / "report.html").read_text("utf-8")


def test_data_that_are_corrected_already_stay_so(table: Path, tmp_path: Path) -> None:
    data = epochal.load(table, target="side").split()
    place = data.train.where(0)
    given = data.outputs[int(data.train.targets[0])]
    (tmp_path / "labels.csv").write_text(f"example,label,given\n{place},{'red' if given == 'blue' else 'blue'},{given}\n")
    run = epochal.train(data, small_recipe(epochs=1, labels=str(tmp_path / "labels.csv")), out=tmp_path / "run", quiet=True)
    assert epochal.reproduce(tmp_path / "run", data=run.data).divergence == ""
    assert epochal.reproduce(tmp_path / "run", data=data).divergence == ""


def test_a_list_that_does_not_fit_ends_the_run_before_its_folder_is_made(table: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("example,label,given\ntrain[500],red,blue\n")
    with pytest.raises(DataError, match=r"labels.csv, line 2: there is no example 'train\[500\]' in .*points"):
        _train(table, tmp_path / "run", labels=str(tmp_path / "labels.csv"))
    assert not (tmp_path / "run").exists()
