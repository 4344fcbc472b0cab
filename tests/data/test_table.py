"""Tables as data: what columns mean, what is predicted, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from epochal import check, load
from epochal.data.inputs.table.rule import TableRule
from epochal.data.inputs.values import in_memory
from epochal.data.load import Data
from epochal.data.spec import DataSpec
from epochal.errors import DataError, RecipeError

ROWS = 200


def people(rows: int = ROWS) -> dict[str, list[Any]]:
    """A small table in which income depends on age and job."""
    random = np.random.default_rng(0)
    ages = random.integers(18, 80, rows)
    jobs = random.choice(["clerk", "nurse", "pilot"], rows)
    likely = (ages > 45).astype(int) + (jobs == "pilot") + random.normal(0, 0.3, rows)
    return {
        "id": list(range(1000, 1000 + rows)),
        "age": [None if row % 20 == 3 else int(age) for row, age in enumerate(ages)],
        "job": jobs.tolist(),
        "born": [f"{2024 - age}-01-{1 + age % 28:02}" for age in ages.tolist()],
        "country": ["NL"] * rows,
        "remark": [f"this person number {row} likes walks" for row in range(rows)],
        "income": ["high" if value > 0.7 else "low" for value in likely],
    }


def csv_of(columns: Mapping[str, list[Any]], path: Path) -> Path:
    rows = [
        ",".join(columns),
        *(",".join("" if cell is None else str(cell) for cell in row) for row in zip(*columns.values(), strict=True)),
    ]
    path.write_text("\n".join(rows) + "\n")
    return path


def rule_of(data: Data) -> TableRule:
    assert isinstance(data.input, TableRule)
    return data.input


def test_columns_are_what_they_look_like(tmp_path: Path) -> None:
    data = load(csv_of(people(), tmp_path / "people.csv"), target="income")
    assert [(column.name, column.kind) for column in rule_of(data).columns] == [("age", "number"), ("job", "category"), ("born", "date")]
    assert rule_of(data).columns[1].words == ("clerk", "nurse", "pilot")
    assert data.outputs == ("high", "low")
    assert data.notes == (
        "numbers: age",
        "dates: born",
        "categories: job (3)",
        "left out, always the same: country",
        "left out, another for each row: id; --column NAME=category or number takes one in",
        "left out, texts: remark; --text NAME learns from one, --column NAME=category takes it in",
        "missing values: age 5 %",
    )
    rows = in_memory(data.train.inputs)
    assert rows is not None
    assert rows.dtype == torch.float32
    assert rows[3, 0].isnan()
    assert rows[:, 1].unique().tolist() == [1, 2, 3]


def test_a_file_and_a_program_give_the_same(tmp_path: Path) -> None:
    file = load(csv_of(people(), tmp_path / "people.csv"), target="income")
    memory = load(people(), target=-1)
    assert memory.train.inputs[torch.arange(ROWS)].nan_to_num().equal(file.train.inputs[torch.arange(ROWS)].nan_to_num())
    assert memory.input == file.input
    assert memory.train.targets.equal(file.train.targets)


def test_columns_can_be_chosen() -> None:
    data = load(people(), target="income", ignore="born", columns={"age": "category", "id": "number", "remark": "category"})
    kinds = {column.name: column.kind for column in rule_of(data).columns}
    assert kinds == {"id": "number", "age": "category", "job": "category", "remark": "category"}
    for options, message in (
        ({"columns": {"age": "colour"}}, "age = colour, which is not number or category or date"),
        ({"columns": {"income": "number"}}, "income = number, which is not joined"),
        ({"ignore": "income"}, "is the target, and is to be ignored"),
    ):
        with pytest.raises(RecipeError, match=message):
            load(people(), target="income", **options)
    for target in ("incom", "7", "-8"):
        with pytest.raises(DataError, match=f"The table has no column '{target}'"):
            load(people(), target=target)
    with pytest.raises(DataError, match="'clerk' is not a number|'nurse' is not a number|'pilot' is not a number"):
        load(people(), target="income", columns={"job": "number"})


def test_without_a_target_candidates_are_listed(tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        load(csv_of(people(), tmp_path / "people.csv"))
    assert "has 7 columns: which is to be predicted?" in str(raised.value)
    assert raised.value.fix.startswith("Say so: --target NAME. Candidates: income (")
    assert "remark" not in str(raised.value)


def test_what_is_for_tables_is_refused_for_others() -> None:
    with pytest.raises(RecipeError, match="The setting data.target = x does not work with digits: it is for tables"):
        load("digits", target="x")


def test_offsets_are_taken_off_in_full_precision() -> None:
    times = [1_700_000_000.0 + row / 4 for row in range(100)]
    data = load({"time": times, "y": [0, 1] * 50}, target="y", columns={"time": "number"})
    rows = in_memory(data.train.inputs)
    assert rows is not None
    assert rows[:, 0].diff().unique().tolist() == [0.25]


def test_what_a_target_means() -> None:
    inputs = list(range(60))

    def loaded(values: list[Any], **options: Any) -> Data:
        return load({"x": [value % 7 for value in inputs], "y": values}, target="y", **options)

    assert loaded(["a", "b", "c"] * 20).outputs == ("a", "b", "c")
    few = loaded([3, 4, 5] * 20)
    assert few.outputs == ("3", "4", "5")
    assert "y has 3 whole numbers, taken as classes; --task regression if they are quantities" in few.notes
    assert loaded([3, 4, 5] * 20, task="regression").outputs == ("y",)
    many = loaded(inputs)
    assert many.task.name == "regression"
    assert "y has 60 whole numbers, taken as quantities; --task single-label if they are classes" in many.notes
    assert loaded([value / 7 for value in inputs]).outputs == ("y",)
    both = load({"x": [value % 7 for value in inputs], "y": [0, 1] * 30, "z": [1, 1, 0] * 20}, target=["y", "z"])
    assert (both.task.name, both.outputs) == ("multi-label", ("y", "z"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([None, "a", "b"] * 20, "table, row 0: the target y is missing, there and in 19 other rows"),
        (["a", "b", None, *["a", "b", "b"] * 19], "table, row 2: the target y is missing.\nFill it in"),
        (["a", "b", None, None, *["a", "b"] * 28], "table, row 2: the target y is missing, there and in 1 other row"),
        ([0, 1, float("inf")] * 20, "table, row 2: the target y is infinite"),
        ([0.5, 1, float("-inf")] * 20, "table, row 2: the target y is infinite"),
        ([f"w{row}" for row in range(60)], "60 different values in 60 rows, such as 'w0': too many classes"),
        ([f"2024-01-{1 + row % 28:02}" for row in range(60)], "The target y is a date"),
        ([1, 2, "x"] * 20, None),
        (["a"] * 60, "All training examples are of one class"),
        (["A", "a"] * 30, "has both 'A' and 'a', which differ only by blanks, case or a full stop"),
    ],
)
def test_targets_that_cannot_be_are_refused(values: list[Any], message: str | None) -> None:
    table = {"x": [row % 7 for row in range(60)], "y": values}
    if message is None:
        assert load(table, target="y").outputs == ("1", "2", "x")
        return
    with pytest.raises(DataError, match=message):
        load(table, target="y")


def test_ten_thousand_classes_are_refused() -> None:
    table = {"x": [row % 7 for row in range(30_000)], "y": [f"w{row % 10_000}" for row in range(30_000)]}
    with pytest.raises(DataError, match="10,000 different values in 30,000 rows, such as 'w0': too many classes"):
        load(table, target="y")


def test_whole_numbers_beyond_those_of_float64_stay_apart() -> None:
    data = load({"x": [row % 7 for row in range(60)], "y": [str(2**53 + row % 2) for row in range(60)]}, target="y")
    assert data.outputs == (str(2**53), str(2**53 + 1))


def test_classes_of_a_further_split_are_not_rounded() -> None:
    train = {"x": [row % 7 for row in range(60)], "y": [row % 3 for row in range(60)]}
    with pytest.raises(DataError, match=r"table, row 1: the target y is 1\.5, which training has not"):
        load({"train": train, "test": {"x": [1, 2], "y": [1, 1.5]}}, target="y")


@pytest.mark.parametrize("setting", ["target", "ignore", "text", "columns"])
def test_an_unknown_column_is_refused_with_one_that_is_meant(tmp_path: Path, setting: str) -> None:
    table = csv_of(people(), tmp_path / "people.csv")
    options: dict[str, Any] = {"target": "income"} | {setting: {"jbo": "category"} if setting == "columns" else "jbo"}
    with pytest.raises(DataError, match=r"people\.csv has no column 'jbo'\.\nDid you mean 'job'"):
        load(table, **options)


def test_decimal_commas_are_not_taken_for_separators(tmp_path: Path) -> None:
    rows = [f"{row % 9},5;{row},25;{row % 28 + 1:02}.03.2024;{'gut' if row % 3 else 'schlecht'}" for row in range(80)]
    file = tmp_path / "excel.csv"
    file.write_bytes("\r\n".join(["\ufeffGröße;Preis;Datum;Klasse", *rows, ""]).encode())
    data = load(file, target="Klasse")
    assert data.outputs == ("gut", "schlecht")
    assert isinstance(data.input, TableRule)
    assert data.input.names == ("Größe", "Preis", "Datum")


def test_a_header_is_known_where_columns_are_named(tmp_path: Path) -> None:
    rows = ["red,small\n", "blue,big\n", "red,big\n"]
    train = tmp_path / "train.csv"
    # Taken by themselves, the names could be values, and those of the small files the other way round.
    train.write_text("colour,size\n" + "colour,size\n".join("".join(rows) * 5 for _ in range(4)))
    data = load(train, target="size")
    assert data.outputs == ("big", "size", "small")
    few, headless = tmp_path / "few.csv", tmp_path / "headless.csv"
    few.write_text("colour,size\nred,small\ncolour,big\n")
    assert len(load(few, like=data.spec).train) == 2
    assert len(load(train, target="size", test_data=few).test or ()) == 2
    headless.write_text("".join(rows))
    with pytest.raises(DataError, match=r"headless\.csv lacks 1 of the 1 column .*: colour\.\nGive it the same columns, and a header"):
        load(headless, like=data.spec)
    # And where those of training had no header, other files have none.
    data = load(headless, target="1", columns={"0": "category"})
    assert len(data.train) == 3
    few.write_text("red,small\nblue,big\n")
    assert len(load(few, like=data.spec).train) == 2


def _frames() -> list[Any]:
    columns = {name: values for name, values in people().items() if name in ("age", "job", "born")}
    found: list[Any] = [np.array([*zip(*columns.values(), strict=True)], dtype=object)]
    for library in ("pandas", "polars", "pyarrow"):
        try:
            module = __import__(library)
        except ImportError:
            continue
        found.append(module.table(columns) if library == "pyarrow" else module.DataFrame(columns))
    return found


@pytest.mark.parametrize("x", _frames(), ids=lambda x: type(x).__module__.split(".")[0])
def test_inputs_and_targets_as_in_scikit_learn(x: Any) -> None:
    """`pip install pandas polars` tries those, too."""
    y = people()["income"]
    wanted = load({name: values for name, values in people().items() if name in ("age", "job", "born", "income")}, target="income")
    data = load((x, np.array(y)))
    assert data.outputs == ("high", "low")
    assert [column.kind for column in rule_of(data).columns] == ["number", "category", "date"]
    assert rule_of(data).target == ("target",)
    rows = wanted.train.inputs[torch.arange(ROWS)].nan_to_num()
    assert data.train.inputs[torch.arange(ROWS)].nan_to_num().equal(rows)
    assert load({"train": (x, y), "test": (x, y)}).test is not None
    again = load((x, y), like=data.spec)
    assert again.train.targets.equal(data.train.targets)
    assert rule_of(data).accept(x).nan_to_num().equal(rows)


def test_labels_of_other_files_are_joined_when_asked(tmp_path: Path) -> None:
    train = csv_of(people(), tmp_path / "a.csv")
    other = people()
    other["income"] = [f"{word.title()}." for word in other["income"]]
    test = csv_of(other, tmp_path / "b.csv")
    with pytest.raises(DataError) as raised:
        load(train, target="income", test_data=test)
    assert "b.csv, line 2: the target income is '" in str(raised.value)
    assert "they differ only by blanks, case or a full stop.\nIf they are one class, train with --column income=joined" in str(raised.value)
    data = load(train, target="income", test_data=test, columns={"income": "joined"})
    assert data.outputs == ("high", "low")
    assert data.test is not None
    assert data.test.targets.equal(data.train.targets)
    # A model that was trained so reads other files so.
    again = load(test, like=data.spec)
    assert again.train.targets.equal(data.train.targets)
    other["income"][0] = "unknown"
    with pytest.raises(DataError, match=r"b\.csv, line 2: the target income is 'unknown', which training has not"):
        load(train, target="income", test_data=csv_of(other, tmp_path / "b.csv"), columns={"income": "joined"})


def test_other_tables_are_read_as_in_training(tmp_path: Path) -> None:
    data = load(people(), target="income")
    reordered = dict(reversed(people().items()))
    del reordered["born"]
    reordered["shoe"] = [42] * ROWS
    reordered["job"][0] = "baker"
    again = load(reordered, like=data.spec)
    assert again.input == data.spec.input
    assert again.notes == (
        "columns that are not there count as missing values: born",
        "columns that the model does not use: remark, country, id, shoe",
        "inputs of train have other words in job (1 row) than those that the model was trained on",
    )
    assert again.train.input(5)[:2].nan_to_num().equal(data.train.input(5)[:2].nan_to_num())
    assert again.train.input(0)[1] == 0
    assert again.train.input(0)[2].isnan()
    with pytest.raises(DataError, match="has no column 'income', the target"):
        load({name: values for name, values in people().items() if name != "income"}, like=data.spec)
    with pytest.raises(DataError, match="lacks 2 of the 3 columns that the model was trained on: job, born"):
        load({name: values for name, values in people().items() if name not in ("job", "born")}, like=data.spec)


def test_numbers_beyond_those_of_training_are_reported() -> None:
    data = load(people(), target="income")
    other = people()
    other["age"] = [age and age + 40 for age in other["age"]]
    other["job"][3:5] = ["baker", "smith"]
    (note,) = (note for note in load(other, like=data.spec).notes if "than those" in note)
    assert note.startswith("inputs of train have other words in job (2 rows) and larger or smaller numbers in age (")
    # A few that are beyond are no surprise.
    few = people()
    few["age"][:9] = [100] * 9
    assert not any("than those" in note for note in load(few, like=data.spec).notes)


def test_measured_values_are_those_of_training_examples() -> None:
    data = load(people(), target="income").split(0.2, 0.2, 1)
    spec = data.spec
    rule = spec.input
    assert isinstance(rule, TableRule)
    rows = data.train.inputs[torch.arange(len(data.train))]
    ages = rows[:, 0][~rows[:, 0].isnan()]
    assert rule.columns[0].knots[0] == ages.min()
    assert rule.columns[0].knots[-1] == ages.max()
    assert rule.columns[0].missing == pytest.approx(float(rows[:, 0].isnan().float().mean()))
    assert DataSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.fixture
def scaled() -> tuple[TableRule, torch.Tensor, torch.Tensor]:
    data = load(people(2000), target="income")
    rule = data.spec.input
    assert isinstance(rule, TableRule)
    rows = data.train.inputs[torch.arange(2000)]
    return rule, rows, rule.preprocess()(rows)


def test_the_layer_leaves_no_gaps_and_scales_numbers(scaled: tuple[TableRule, torch.Tensor, torch.Tensor]) -> None:
    rule, rows, features = scaled
    assert features.shape == (2000, *rule.features)
    assert features.isfinite().all()
    # age and born are scores, then comes the flag of age, then codes: of job, and of the numbers that repeat.
    assert features[:, :2].mean(0).abs().max() < 0.1
    assert (features[:, :2].std(0) - 1).abs().max() < 0.1
    assert features[:, 2].equal(rows[:, 0].isnan().float())
    assert features[:, 3].equal(rows[:, 1])
    order = rows[:, 2].argsort()
    assert (features[order, 1].diff() >= 0).all()
    values, places = rows[:, 2].unique(return_inverse=True)
    assert len(values) < 256
    assert features[:, 5].equal(places.float() + 1)
    # Unseen: codes are 0, numbers beyond all others count as the last.
    strange = torch.tensor([[1e9, 0.0, -1e9]])
    found = rule.preprocess()(strange)[0]
    assert found[3:].tolist() == [0, 0, 0]
    assert found[0] == features[:, 0].max()
    assert found[1] == features[:, 1].min()


def test_a_row_alone_gives_the_same_bits(scaled: tuple[TableRule, torch.Tensor, torch.Tensor]) -> None:
    rule, rows, features = scaled
    layer = rule.preprocess()
    assert torch.cat([layer(row[None]) for row in rows[:50]]).equal(features[:50])


def test_it_is_checked() -> None:
    table = people()
    table["copy"] = table["age"]
    table["code"] = [{"high": 11, "low": 22}[word] for word in table["income"]]
    found = str(check(table, target="income"))
    assert "note: copy is the same as age" in found
    assert "warning: column code alone tells the class of 100 % of the rows" in found
    assert "column job alone" not in found
    amounts = {"x": [row % 9 for row in range(200)], "y": [float(row % 9) * 2.5 + 0.001 * (row % 4) for row in range(200)]}
    assert "column x alone tells 100 % of the target's variance" in str(check(amounts, target="y"))


def test_a_sample_is_checked_of_what_is_not_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epochal.checks.tables.SAMPLED", 400)
    table = people()
    table["copy"] = table["age"]
    table["code"] = [{"high": 11, "low": 22}[word] for word in table["income"]]
    path = csv_of(table, tmp_path / "people.csv")
    whole, streamed = (str(check(load(path, target="income", memory=memory))) for memory in (None, 1e-7))
    assert "rows)" not in whole
    for finding in ("note: copy is the same as age", "warning: column code alone tells the class of 100 % of the rows"):
        assert f"{finding}\n" in f"{whole}\n"
        assert f"{finding} (in 80 of 200 rows)" in streamed


def test_very_many_different_numbers_are_not_kept_as_words(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).normal(0, 1, 70_000).round(6).tolist()
    columns: dict[str, list[Any]] = {"x": [row % 13 for row in range(70_000)], "y": numbers}
    data, same = load(csv_of(columns, tmp_path / "t.csv"), target="y"), load(columns, target="y")
    assert data.task.name == "regression"
    assert torch.equal(data.train.targets, same.train.targets)
    assert load(tmp_path / "t.csv", target="y", like=data.spec).train.targets.equal(data.train.targets)
    whole = load({**columns, "y": list(range(70_000))}, target="y")
    assert "y has 70,000 whole numbers, taken as quantities; --task single-label if they are classes" in whole.notes
    for word, message in (("", "line 69001: the target y is missing."), ("high", "line 69001: 'high' is not a number")):
        strange = {**columns, "y": [*numbers[:68_999], word, *numbers[69_000:]]}
        with pytest.raises(DataError, match=message):
            load(csv_of(strange, tmp_path / "strange.csv"), target="y")
    with pytest.raises(DataError, match="70,000 different values in 70,000 rows, such as 'w0': too many classes"):
        load(csv_of({**columns, "y": [f"w{row}" for row in range(70_000)]}, tmp_path / "words.csv"), target="y")


def test_hostile_descriptions_are_refused() -> None:
    spec = load(people(), target="income").spec
    described = spec.model_dump()
    for change in ({"knots": (1.0, 0.0), "scores": (0.0, 1.0)}, {"scores": (1.0,)}, {"common": (float("nan"),)}):
        columns = [{**column, **change} if place == 0 else column for place, column in enumerate(described["input"]["columns"])]
        with pytest.raises(ValueError, match=r"ascend|scores|finite"):
            DataSpec.model_validate({**described, "input": {**described["input"], "columns": columns}})
    columns = [{**column, "common": (7.0,)} if column["name"] == "job" else column for column in described["input"]["columns"]]
    with pytest.raises(ValueError, match="codes of other words"):
        DataSpec.model_validate({**described, "input": {**described["input"], "columns": columns}})


def test_rows_in_words() -> None:
    columns = {
        **people(),
        "seconds": [1.7e9 + number / 4 for number in range(ROWS)],
        "when": ["2024-02-29 12:30", "1999-12-31"] * (ROWS // 2),
    }
    data = load(columns, target="income", ignore=["born"])
    examples = data.train
    assert [(cell.name, cell.words, cell.is_quantity) for cell in data.input.cells(examples.input(0))] == [
        ("age", str(columns["age"][0]), True),
        ("job", columns["job"][0], False),
        ("seconds", "1700000000", True),
        ("when", "2024-02-29 12:30", True),
    ]
    assert data.input.cells(examples.input(1))[3].words == "1999-12-31"
    assert data.input.cells(examples.input(3))[0].words == "missing"
    new = data.input.read({"age": [1e30], "job": ["diver"], "seconds": [None], "when": [None]})[0]
    assert [cell.words for cell in data.input.cells(new)] == ["1e+30", "not in training data", "missing", "missing"]


@pytest.mark.parametrize(
    ("words", "note"),
    [
        (["-" if row == 7 else str(row / 4) for row in range(60)], "x is not taken as numbers because of '-' (1 row): leave these empty"),
        (["no" if row < 3 else str(row / 4) for row in range(60)], "x is not taken as numbers because of 'no' (3 rows): leave"),
        ([f"${row},000.50" for row in range(60)], "x looks like numbers, such as '$59,000.50': write them without units"),
        ([f"{row} kg" for row in range(60)], "x looks like numbers, such as '59 kg'"),
        ([f"{row % 12 + 1}/{row % 28 + 1}/2024" for row in range(60)], "x looks like dates, such as '12/4/2024': write them as 2024-02-29"),
        ([f"w{row % 30}" for row in range(60)], None),
        ([f"{row % 3}-room" for row in range(60)], None),
    ],
)
def test_columns_that_are_nearly_numbers_are_reported(words: list[str], note: str | None) -> None:
    table = {"x": words, "z": [row % 7 for row in range(60)], "y": ["a", "b"] * 30}
    found = [line for line in load(table, target="y").notes if line.startswith("x ")]
    assert [line[: len(note or "")] for line in found] == ([] if note is None else [note])
    if note is not None and len(set(words)) > 56:
        # Where nothing else is left, the error says why.
        with pytest.raises(DataError, match=r"has no column to learn from\.\nleft out, another for each row: x; .*\nx "):
            load({"x": words, "y": table["y"]}, target="y")


def test_a_row_of_a_frame_and_columns_of_one_name() -> None:
    data = load({"age": [1.5, 2, 3] * 20, "job": ["a", "b", "c"] * 20, "y": ["m", "n", "n"] * 20}, target="y")
    assert rule_of(data).accept({"age": np.float64(2), "job": np.str_("b")}).tolist() == [[2, 2]]

    class Frame:
        columns = ("age", "age", "y")

    with pytest.raises(DataError, match="Two columns of the table are named 'age'"):
        load(Frame(), target="y")
