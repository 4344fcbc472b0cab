"""The commands with tables."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Call
from tests.data.test_table import csv_of, people


def test_a_table_from_training_to_predictions(call: Call, tmp_path: Path) -> None:
    table = csv_of(people(600), tmp_path / "people.csv")
    train = ("train", table, "--target", "-1", "--epochs", "1")
    code, said, _ = call(*train, "--column", "age=category", "--ignore", "born", "--out", "run")
    assert code == 0
    assert "note: categories: age (" in said
    assert "model tabular" in said
    assert "where a column is shuffled (120 rows of test, 5 times each)" in said
    assert "accuracy falls by" in said
    code, said, _ = call("predict", "run", table, "--csv", "out.csv")
    assert (code, said) == (0, "wrote out.csv: 600 rows\n")
    assert json.loads(call("predict", "run", table, "--csv", "out.csv", "--json")[1].splitlines()[-1])["rows"] == 600
    assert "This model takes rows, of which there are no pictures." in call("predict", "run", table, "--picture", "titled")[2]
    code, said, _ = call("evaluate", "run", table, "--include-training")
    assert code == 0
    assert "n = 600" in said
    code, said, _ = call("check", table, "--target", "income", "--column", "id=number", "--ignore", "remark,born")
    assert code == 0
    assert "left out, always the same: country" in said.replace("\n", " ").replace("  ", " ")


def test_what_is_wrong_is_said(call: Call, tmp_path: Path) -> None:
    table = csv_of(people(), tmp_path / "people.csv")
    assert "Candidates: income (high, low)" in call("train", table)[2]
    assert "--column age has no kind" in call("train", table, "--target", "income", "--column", "age")[2]
    code, _, said = call("predict", "run", table, table, "--csv", "out.csv")
    assert code != 0
    assert "There is no run" in said
