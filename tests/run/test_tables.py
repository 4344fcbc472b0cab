"""Whole runs on tables: train, resume, reproduce, evaluate and predict."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from epochal import Bundle, Recipe, load, reproduce, resume, train
from epochal.errors import DataError, OutputError
from epochal.run.evaluate import evaluate_run
from epochal.run.tables import predict_table
from epochal.run.train import run
from tests.data.test_table import csv_of, people
from tests.outcome import outcome
from tests.quick import draw

SETTINGS: dict[str, Any] = {"epochs": 8, "batch_size": 32, "lr": 0.01, "threads": 1, "device": "cpu", "quiet": True}


class _StopError(BaseException):
    """Like Ctrl-C without a handler."""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return csv_of(people(600), tmp_path_factory.mktemp("table") / "people.csv")


@pytest.fixture(scope="module")
def whole(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        draw(patch)
        run = train(table, target="income", out=tmp_path_factory.mktemp("whole") / "run", **SETTINGS)
    assert run.recipe.model.name == "tabular"
    assert run.test is not None
    assert run.test.accuracy is not None
    assert run.test.accuracy > 0.85
    assert run.folder is not None
    return run.folder


def test_it_resumes_and_comes_out_the_same(whole: Path, table: Path, tmp_path: Path) -> None:
    def stop(record: Any) -> None:
        if type(record).__name__ == "EpochDone" and record.epoch == 3:
            raise _StopError

    with pytest.raises(_StopError):
        train(table, target="income", out=tmp_path / "run", watchers=[stop], checkpoint_every=1e-9, **SETTINGS)
    assert resume(tmp_path / "run", quiet=True) is not None
    assert outcome(tmp_path / "run")["weights"] == outcome(whole)["weights"]
    assert reproduce(whole).divergence == ""


def test_rows_give_the_same_in_any_form(whole: Path, table: Path) -> None:
    bundle = Bundle.load(whole)
    columns = people(600)
    expected = [one.values for one in bundle.predict(table)]
    assert len(expected) == 600
    assert [one.values for one in bundle.predict(columns)] == expected
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    assert [one.values for one in bundle.predict(rows[:40])] == expected[:40]
    assert bundle.predict(rows[3])[0].values == pytest.approx(expected[3], abs=1e-6)
    shuffled = dict(reversed(columns.items()))
    assert [one.values for one in bundle.predict(shuffled)] == expected


def test_what_differs_is_reported(whole: Path) -> None:
    bundle = Bundle.load(whole)
    row = {"age": 40, "job": "baker", "shoe": 42}
    with pytest.warns(UserWarning, match=r"the inputs have other words in job \(1 row\) than those that the model was trained on"):
        found = bundle.predict(row)
    assert found.notes == ("columns that are not there count as missing values: born", "columns that the model does not use: shoe")
    with pytest.raises(DataError, match="lacks 2 of the 3 columns"):
        bundle.predict({"age": 40})
    with pytest.raises(DataError, match="This model takes tables with the columns age, job, born, not an array|not a ndarray"):
        bundle.predict(np.zeros((1, 3)))
    with pytest.raises(DataError, match="table, row 1: 'old' is not a number, as others are in column age"):
        bundle.predict({"age": [1, "old"], "job": ["nurse"] * 2, "born": [None] * 2})


def test_rows_of_numbers_may_be_arrays() -> None:
    random = np.random.default_rng(0)
    x = random.normal(1e9, 1, (300, 2))
    run = train({"a": x[:, 0], "b": x[:, 1], "y": x[:, 0] - 1e9 + 0.5 * (x[:, 1] - 1e9)}, target="y", model="linear", **SETTINGS)
    assert run.test is not None
    assert run.test.r2 is not None
    assert run.test.r2 > 0.8
    table = run.predict({"a": x[:5, 0], "b": x[:5, 1]})
    assert [one.values for one in run.predict(x[:5])] == [one.values for one in table]
    assert list(table[0].values) == ["y"]
    with pytest.raises(DataError, match="not an array of shape"):
        run.predict(np.zeros((2, 3)))


def test_a_table_gets_predictions_as_columns(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epochal.data.inputs.table.files.CHUNK", 7)
    columns = people(50)
    columns["prediction"] = [f'"a, {row}"' for row in range(50)]
    columns["job"][4] = "baker"
    given = csv_of(columns, tmp_path / "rows.csv")
    bundle, out, notes = Bundle.load(whole), tmp_path / "out.csv", list[str]()
    assert predict_table(bundle, given, out, notes.append) == (50, {}, 0)
    assert notes == [
        "columns that the model does not use: id, country, remark, prediction",
        "the inputs have other words in job (1 row) than those that the model was trained on",
    ]
    with given.open(newline="") as one, out.open(newline="") as other:
        before, after = list(csv.reader(one)), list(csv.reader(other))
    assert after[0] == [*before[0], "prediction_", "probability", "probability of high", "probability of low"]
    assert [row[:8] for row in after[1:]] == before[1:]
    with pytest.warns(UserWarning, match="other words"):
        expected = bundle.predict(given)
    assert [row[8] for row in after[1:]] == [one.label for one in expected]
    assert [float(row[10]) for row in after[1:]] == pytest.approx([one.values["high"] for one in expected], abs=1e-6)
    # A file that was written so may be replaced, another may not.
    predict_table(bundle, given, out, notes.append)
    with pytest.raises(OutputError, match="exists already"):
        predict_table(bundle, given, given, notes.append)


@pytest.mark.parametrize("kind", ["rows", "files"])
def test_a_table_of_predictions_goes_on_after_an_interruption(
    kind: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("epochal.data.inputs.table.files.CHUNK", 7)
    if kind == "rows":
        bundle, given = Bundle.load(whole), csv_of(people(50), tmp_path / "rows.csv")
    else:
        for place in range(50):
            pixels = np.full((4, 4), 5 * place, np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{place}.png")
        given = csv_of({"path": [f"{place}.png" for place in range(50)], "kind": ["a", "b"] * 25}, tmp_path / "rows.csv")
        bundle = train(given, file="path", target="kind", model="linear", **SETTINGS).bundle
        (tmp_path / "2.png").write_bytes(b"none")
        (tmp_path / "33.png").write_bytes(b"none")
    out, notes, predict = tmp_path / "out.csv", list[str](), Bundle.predict_inputs
    times = iter(range(100))

    def stop(self: Bundle, inputs: Any) -> Any:
        if next(times) == 3:
            raise KeyboardInterrupt
        return predict(self, inputs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Bundle, "predict_inputs", stop)
        predict_table(bundle, given, out, notes.append)
    assert not out.exists()
    count = 0

    def counted(self: Bundle, inputs: Any) -> Any:
        nonlocal count
        count += len(inputs)
        return predict(self, inputs)

    with monkeypatch.context() as patch:
        patch.setattr(Bundle, "predict_inputs", counted)
        found = predict_table(bundle, given, out, notes.append)
    assert f"{out} goes on after 21 rows" in notes
    assert (count, found.rows, found.unreadable) == ((29, 50, 0) if kind == "rows" else (28, 50, 2))
    assert predict_table(bundle, given, tmp_path / "at once.csv", notes.append).rows == 50
    assert out.read_text() == (tmp_path / "at once.csv").read_text()


@pytest.mark.usefixtures("drawn")
def test_quantities_get_one_column(tmp_path: Path) -> None:
    table = {"x": [float(row % 13) for row in range(200)], "y": [row % 13 * 2.5 for row in range(200)]}
    file = csv_of(table, tmp_path / "t.csv")
    run = train(file, target="y", out=tmp_path / "run", **SETTINGS)
    predict_table(run.bundle, file, tmp_path / "out.csv", print)
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == "x,y,prediction"
    assert float(lines[1].split(",")[2]) == pytest.approx(run.predict(file)[0].values["y"], rel=1e-6)


def test_another_file_is_evaluated(whole: Path, tmp_path: Path) -> None:
    columns = {name: values[500:] for name, values in people(1100).items()}
    columns["extra"] = [1] * 600
    found = evaluate_run(whole, csv_of(columns, tmp_path / "other.csv"), include_training=True)
    assert found.count == 600
    assert found.accuracy is not None
    assert found.accuracy > 0.85
    columns["income"][7] = "middle"
    with pytest.raises(DataError, match=r"other\.csv, line 9: the target income is 'middle', which training has not"):
        evaluate_run(whole, csv_of(columns, tmp_path / "other.csv"))


def test_pictures_are_not_tables(whole: Path) -> None:
    with pytest.raises(DataError, match="is a table; the model takes inputs of another kind"):
        load({"x": [1, 2], "y": ["a", "b"]}, target="y", like=load("digits").spec)


def test_its_folder_shows_mistakes_and_the_importance_of_columns(whole: Path) -> None:
    names = {path.name for path in (whole / "figures").iterdir()}
    assert {"predictions.png", "importance.svg", "confusion.png"} <= names
    found = json.loads((whole / "result.json").read_text("utf-8"))["importance"]
    assert (found["split"], found["repeats"]) == ("test", 5)
    assert {one["column"] for one in found["columns"][:2]} <= {"age", "job", "born"}
    assert found["columns"][0]["loss"] > 0.05
    assert {tuple(sorted(pair[:2])) for pair in found["alike"]} == {("age", "born")}


def test_the_importance_of_very_many_columns_is_left_out_with_a_note() -> None:
    lines: list[str] = []
    table: dict[str, list[float]] = {f"c{place}": [math.sin(row * (place + 1)) for row in range(1600)] for place in range(190)}
    table["y"] = [float(row % 2) for row in range(1600)]
    settings = {"epochs": 1, "device": "cpu", "threads": 1, "data.target": "y"}
    done = run(table, Recipe().updated(settings), log=lines.append)
    assert done.importance is None
    assert "note: the importance of 190 columns is not measured: it would take long" in lines
