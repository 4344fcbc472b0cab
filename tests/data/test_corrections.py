"""Lists of corrected labels: read as tables, compared with the data, and followed after these are split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from epochal.data.corrections import correct, corrected_by, read_corrections
from epochal.data.examples import Correction
from epochal.data.load import Data, load
from epochal.errors import DataError
from epochal.evaluation.label_errors import LabelErrors, Suspect

HEADER = "rank,example,label,remove,given,suggested\n"
NAMES = ("cat", "dog", "cow")


@pytest.fixture(scope="module")
def data() -> Data:
    """Thirty points of three classes, split."""
    return load((torch.arange(60.0).reshape(30, 2), [NAMES[place % 3] for place in range(30)])).split(seed=1)


def _list(folder: Path, *rows: str, header: str = HEADER) -> Path:
    (folder / "labels.csv").write_text(header + "".join(f"{row}\n" for row in rows), "utf-8")
    return folder / "labels.csv"


def _by_name(data: Data) -> dict[str, str]:
    return {
        examples.where(place): data.outputs[int(target)]
        for examples in data.splits.values()
        for place, target in enumerate(examples.targets)
    }


def test_labels_are_changed_and_examples_left_out_in_whatever_split_they_are(data: Data, tmp_path: Path) -> None:
    assert data.test is not None
    train, test = data.train.where(0), data.test.where(1)
    was = _by_name(data)
    new = next(name for name in NAMES if name != was[train])
    other = data.train.where(5)
    path = _list(
        tmp_path, f"1,{train},{new},,{was[train]},dog", f"2,{test},{was[test]},yes,{was[test]},", f"3,{other},{was[other]},no,{was[other]},"
    )
    found = corrected_by(data, path)
    assert _by_name(found) == {name: new if name == train else label for name, label in was.items() if name != test}
    assert {split: len(examples) for split, examples in found.splits.items()} == {"train": 21, "valid": 3, "test": 5}
    assert found.spec.counts == {"train": 21, "valid": 3, "test": 5}
    assert found.corrected == ((train, was[train], new, ""), (test, was[test], None, ""))
    assert found.notes[-1] == "labels.csv: 1 label is corrected, 1 example left out"
    assert found.fingerprint != data.fingerprint
    assert corrected_by(data, path).fingerprint == found.fingerprint
    assert _by_name(data) == was
    assert correct(data, found.corrected).fingerprint == found.fingerprint


def test_a_list_in_which_nothing_was_changed(data: Data, tmp_path: Path) -> None:
    found = corrected_by(data, _list(tmp_path, f"1,train[3],{NAMES[0]},,{NAMES[0]},"))
    assert (found.fingerprint, found.corrected) == (data.fingerprint, ())
    assert found.notes[-1] == "labels.csv: 0 labels are corrected, 0 examples left out"


def test_lists_follow_each_other(data: Data) -> None:
    once = correct(data, [Correction("train[3]", "cat", "dog")])
    twice = correct(once, [Correction("train[3]", "dog", "cow")])
    assert _by_name(twice)["train[3]"] == "cow"
    assert twice.corrected == (("train[3]", "cat", "dog", ""), ("train[3]", "dog", "cow", ""))
    with pytest.raises(DataError, match=r"'train\[3\]' has the label 'cow' now, and not 'cat', as when the list was written\."):
        correct(twice, [Correction("train[3]", "cat", "dog")])


@pytest.mark.parametrize(
    ("rows", "header", "reported"),
    [
        (["1,train[99],dog,,cat,"], HEADER, r"line 2: there is no example 'train\[99\]' in .*\nIs that list of a run on other data\?"),
        (["1,train[3],dgo,,cat,"], HEADER, r"line 2: 'dgo' is not a class of .*\nDid you mean 'dog'\?"),
        (["1,train[0],cat,,cat,", "2,train[4],cat,,cow,"], HEADER, r"line 3: 'train\[4\]' has the label 'dog' now, and not 'cow'"),
        (["1,train[3],,,cat,"], HEADER, r"line 2: there is no label\.\nFill in the right one; to leave the example out, write yes"),
        (["1,train[3],cat,x,cat,"], HEADER, r"line 2: remove is 'x'\.\nWrite yes"),
        (["1,train[3],dog,,cat,", "2,train[3],cow,,cat,"], HEADER, r"line 3: 'train\[3\]' is listed twice; first in .*line 2"),
        (["1,train[3],dog,,cat"], HEADER, r"line 2: the row has 5 values; there are 6 columns"),
        (["train[3],dog"], "example,label\n", r"has no column given, which a list of corrected labels needs\.\nCorrect the labels.csv"),
    ],
)
def test_a_row_that_does_not_fit(data: Data, tmp_path: Path, rows: Sequence[str], header: str, reported: str) -> None:
    with pytest.raises(DataError, match=reported):
        corrected_by(data, _list(tmp_path, *rows, header=header))


def test_a_list_that_is_not_there(data: Data, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"The list of corrected labels, .*none.csv, does not exist\.\nCheck the setting data.labels"):
        corrected_by(data, tmp_path / "none.csv")


def test_something_must_remain(data: Data) -> None:
    def without(names: Sequence[str]) -> list[Correction]:
        return [Correction(name, _by_name(data)[name], None) for name in names]

    assert data.test is not None
    with pytest.raises(DataError, match="leaves out all of test"):
        correct(data, without([data.test.where(place) for place in range(len(data.test))]))
    cows = [data.train.where(place) for place, target in enumerate(data.train.targets) if data.outputs[int(target)] == "cow"]
    with pytest.raises(DataError, match="leaves no example of 'cow' to train on"):
        correct(data, without(cows))


def test_quantities_are_corrected_by_their_names() -> None:
    numbers = load((torch.arange(60.0).reshape(30, 2), torch.arange(60.0).reshape(30, 2) / 10)).split()
    name = numbers.outputs[1]
    place = numbers.train.where(2)
    given = f"{float(numbers.train.targets[2, 1]):.1f}"
    found = correct(numbers, [Correction(place, given, "-3.5", name), Correction(numbers.train.where(0), "0.0", None, name)][:1])
    assert float(found.train.targets[2, 1]) == -3.5
    assert float(found.train.targets[2, 0]) == float(numbers.train.targets[2, 0])
    for wrong, reported in (
        (Correction(place, given, "x", name), "'x' is not a number.\nWrite the right value, with a point"),
        (Correction(place, given, "inf", name), "'inf' is not a number"),
        (Correction(place, "77", "1", name), f"has the label '{given}' now, and not '77'"),
        (Correction(place, given, "1", "other"), "the column target has 'other', which is no output of"),
    ):
        with pytest.raises(DataError, match=reported):
            correct(numbers, [wrong])


def test_labels_of_several_are_corrected_by_their_names(tmp_path: Path) -> None:
    table = (torch.arange(90).reshape(30, 3) % 4 == 0).float()
    several = load((torch.arange(60.0).reshape(30, 2), table)).split()
    place, targets = several.train.where(0), several.train.targets[0]
    now = [str(int(value)) for value in targets]
    path = _list(
        tmp_path,
        f"{place},1,{1 - int(targets[1])},,{now[1]}",
        f"{place},0,{now[0]},,{now[0]}",
        f"{several.train.where(1)},1,,yes,{int(several.train.targets[1, 1])}",
        f"{several.train.where(1)},0,,yes,{int(several.train.targets[1, 0])}",
        header="example,target,label,remove,given\n",
    )
    found = corrected_by(several, path)
    assert [str(int(value)) for value in found.train.targets[0]] == [now[0], str(1 - int(targets[1])), now[2]]
    assert len(found.train) == len(several.train) - 1
    with pytest.raises(DataError, match="'maybe' is neither 0 nor 1"):
        correct(several, [Correction(place, now[1], "maybe", "1")])


def test_pictures_are_named_by_their_files(save_picture: Callable[..., Path], tmp_path: Path) -> None:
    for seed, name in enumerate(f"{kind}/{number}.png" for kind in ("cat", "dog") for number in range(8)):
        save_picture(f"photos/{name}", seed=seed)
    photos = load(tmp_path / "photos").split()
    found = corrected_by(photos, _list(tmp_path, "1,cat/3.png,dog,,cat,", "2,dog/5.png,dog,yes,dog,"))
    wanted = {**_by_name(photos), "cat/3.png": "dog"}
    del wanted["dog/5.png"]
    assert _by_name(found) == wanted


@pytest.mark.parametrize(("separator", "encoding"), [(";", "utf-8-sig"), ("\t", "utf-16"), (",", "cp1252")])
def test_as_spreadsheets_write_it(data: Data, tmp_path: Path, separator: str, encoding: str) -> None:
    text = HEADER.replace("\n", ",näher\r\n") + '1,train[3],dog,YES,cat,,ä\r\n"2",train[4],cow,,dog,,ö\r\n'
    (tmp_path / "labels.csv").write_bytes(text.replace(",", separator).encode(encoding))
    assert corrected_by(data, tmp_path / "labels.csv").corrected == (("train[3]", "cat", None, ""), ("train[4]", "dog", "cow", ""))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from(',;"\n')), min_size=1, max_size=5, unique=True))
def test_what_a_run_lists_is_read_back(tmp_path: Path, names: list[str]) -> None:
    names = [f"a{name}.jpg" for name in names]
    suspects = tuple(Suspect(rank, rank, name, "c, d", "e", 0.1, likely=True) for rank, name in enumerate(names, 1))
    (tmp_path / "labels.csv").write_text(LabelErrors(9, 1, suspects).to_csv(), "utf-8", newline="")
    assert [one.example for one in read_corrections(tmp_path / "labels.csv")[0]] == names
