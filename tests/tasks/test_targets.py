"""The task is inferred from the dtype and shape of targets; what is ambiguous or cannot be used is refused with its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from epochal.data.examples import address
from epochal.data.spec import DataSpec
from epochal.errors import DataError
from epochal.tasks.base import Encoded
from epochal.tasks.targets import encode, natural

SpecMaker = Callable[..., DataSpec]


def _encode(
    train: Tensor | Sequence[str], task: str | None = None, classes: tuple[str, ...] | None = None, **more: Tensor | Sequence[str]
) -> Encoded:
    return encode({"train": train, **more}, classes, task, address)


def _refused(
    train: Tensor | Sequence[str], task: str | None = None, classes: tuple[str, ...] | None = None, **more: Tensor | Sequence[str]
) -> str:
    with pytest.raises(DataError) as raised:
        _encode(train, task, classes, **more)
    return str(raised.value)


def _t(*values: float) -> Tensor:
    return torch.tensor(values)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_whole_numbers_are_labels(dtype: torch.dtype) -> None:
    encoded = _encode(torch.tensor([3, 1, 3, 10], dtype=dtype), test=torch.tensor([10, 1], dtype=dtype))
    assert (encoded.task.name, encoded.task.outputs) == ("single-label", ("1", "3", "10"))
    assert encoded.targets["train"].tolist() == [1, 0, 1, 2]
    assert encoded.targets["test"].tolist() == [2, 0]
    assert encoded.targets["train"].dtype == torch.int64


def test_a_column_is_a_list() -> None:
    assert _encode(torch.tensor([[3], [1]])).targets["train"].tolist() == [1, 0]


def test_truth_values_are_labels() -> None:
    encoded = _encode(torch.tensor([True, False, True]))
    assert (encoded.task.outputs, encoded.targets["train"].tolist()) == (("False", "True"), [1, 0, 1])


def test_words_are_labels_in_natural_order() -> None:
    encoded = _encode(["cat10", "cat2", "Ape", "cat2"], valid=["Ape", "cat10"])
    assert (encoded.task.name, encoded.task.outputs) == ("single-label", ("Ape", "cat2", "cat10"))
    assert encoded.targets["train"].tolist() == [2, 1, 0, 1]
    assert encoded.targets["valid"].tolist() == [0, 2]


@given(st.lists(st.text("ab12ü ", max_size=5), min_size=1))
def test_natural_order_is_an_order(words: list[str]) -> None:
    ordered = sorted(words, key=natural)
    assert all(natural(first) <= natural(second) for first, second in pairwise(ordered))


def test_natural() -> None:
    assert sorted(["img12", "img2", "2", "10", "a", ""], key=natural) == ["", "2", "10", "a", "img2", "img12"]
    assert sorted(["x10y2", "x10y1", "x9y3"], key=natural) == ["x9y3", "x10y1", "x10y2"]
    # Some characters look like digits and are none.
    assert sorted(["m²", "m", "²", "1"], key=natural) == ["1", "m", "m²", "²"]


def test_given_classes_name_the_labels() -> None:
    encoded = _encode(torch.tensor([0, 1, 0]), classes=("no", "yes", "never"))
    assert encoded.task.outputs == ("no", "yes", "never")
    assert encoded.targets["train"].tolist() == [0, 1, 0]
    # Also where labels came as 0.0 and 1.0.
    assert _encode(_t(0.0, 1.0, 0.0), classes=("no", "yes")).task.name == "single-label"


def test_words_with_given_classes_keep_their_order() -> None:
    assert _encode(["b", "a"], classes=("b", "a")).targets["train"].tolist() == [0, 1]
    reported = _refused(["b", "x"], classes=("b", "a"))
    assert reported == "The target of train[1] is 'x', which is not among the classes b, a.\nFix it."


def test_numbers_with_a_fraction_are_quantities() -> None:
    encoded = _encode(_t(0.5, 2.0, 3.0))
    assert (encoded.task.name, encoded.task.outputs) == ("regression", ("y",))
    assert encoded.targets["train"].tolist() == [[0.5], [2.0], [3.0]]
    assert encoded.targets["train"].dtype == torch.float32
    # Floating point numbers are quantities even where they happen to be whole.
    assert _encode(_t(1.0, 2.0)).task.name == "regression"


def test_several_quantities() -> None:
    encoded = _encode(torch.tensor([[0.5, 1], [2, 3]], dtype=torch.float64), valid=torch.zeros(1, 2))
    assert (encoded.task.name, encoded.task.outputs) == ("regression", ("y0", "y1"))
    assert encoded.targets["valid"].shape == (1, 2)
    assert encoded.targets["train"].dtype == torch.float32
    assert _encode(torch.tensor([[5, 1], [2, 3]])).task.name == "regression"
    assert _encode(torch.rand(3, 2), classes=("width", "height")).task.outputs == ("width", "height")


def test_whole_numbers_as_quantities_when_asked() -> None:
    encoded = _encode(torch.tensor([3, 1, 2]), "regression")
    assert (encoded.task.name, encoded.targets["train"].tolist()) == ("regression", [[3.0], [1.0], [2.0]])


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32])
def test_one_hot_rows_are_one_label(dtype: torch.dtype) -> None:
    encoded = _encode(torch.tensor([[0, 1, 0], [1, 0, 0], [0, 0, 1]], dtype=dtype))
    assert (encoded.task.name, encoded.task.outputs) == ("single-label", ("0", "1", "2"))
    assert encoded.targets["train"].tolist() == [1, 0, 2]
    assert encoded.notes == ("targets are one-hot rows: one label per example",)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
def test_table_of_0_and_1_is_several_labels(dtype: torch.dtype) -> None:
    encoded = _encode(torch.tensor([[0, 1, 1], [0, 0, 0]], dtype=dtype), classes=("a", "b", "c"))
    assert (encoded.task.name, encoded.task.outputs) == ("multi-label", ("a", "b", "c"))
    assert encoded.targets["train"].tolist() == [[0, 1, 1], [0, 0, 0]]
    assert encoded.targets["train"].dtype == torch.float32
    assert encoded.notes == ("targets are a table of 0 and 1: 3 labels that can be true together",)


def test_one_hot_rows_as_several_labels_when_asked() -> None:
    encoded = _encode(torch.tensor([[0, 1], [1, 0]]), "multi-label")
    assert (encoded.task.name, encoded.task.outputs, encoded.notes) == ("multi-label", ("0", "1"), ())


@pytest.mark.parametrize(
    ("targets", "reported"),
    [
        (_t(0.5, float("nan"), 1.0), "The target of train[1] is NaN or infinite.\nFix or remove that example."),
        (torch.tensor([[1.0, 2.0], [0.5, float("inf")]]), "The target of train[1] is NaN or infinite.\nFix or remove that example."),
        (torch.tensor([4, 4]), "All training examples are of one class, '4'.\nProvide examples of at least two classes."),
        (torch.tensor([False, False]), "All training examples are of one class, 'False'.\nProvide examples of at least two classes."),
        (torch.tensor([True, True]), "All training examples are of one class, 'True'.\nProvide examples of at least two classes."),
        (["a", "a"], "All training examples are of one class, 'a'.\nProvide examples of at least two classes."),
        (
            torch.zeros(3, 2, 2),
            "The targets of train have shape (3, 2, 2).\nGive one target per example, or one row of them per example.",
        ),
        (
            torch.arange(500) * 7,
            "The targets are 500 different whole numbers for 500 examples: quantities rather than labels?\n"
            "Say so: data.task = regression, or single-label if each really is a class.",
        ),
    ],
)
def test_refused(targets: Tensor | list[str], reported: str) -> None:
    assert _refused(targets) == reported


def test_nan_in_another_split() -> None:
    assert _refused(_t(0.5, 1.0), test=_t(1.0, float("nan"))).startswith("The target of test[1] is NaN or infinite.")


def test_label_beyond_the_classes() -> None:
    reported = _refused(torch.tensor([0, 1]), classes=("a", "b"), test=torch.tensor([0, 2]))
    assert reported == "The label of test[1] is 2, but there are 2 classes.\nFix or remove that example."
    assert _refused(torch.tensor([0, -1]), classes=("a", "b")).startswith("The label of train[1] is -1, but there are 2 classes.")


@pytest.mark.parametrize("kind", ["words", "numbers"])
def test_class_that_was_never_trained(kind: str) -> None:
    fix = "Add training examples of it, or remove it from the others."
    if kind == "words":
        assert _refused(["a", "b"], test=["a", "c"]) == f"The class 'c' is in test but not in train.\n{fix}"
    else:
        reported = _refused(torch.tensor([0, 1]), valid=torch.tensor([1, 5]))
        assert reported == f"The class '5' is in valid but not in train.\n{fix}"


def test_splits_of_different_kinds() -> None:
    reported = _refused(["a", "b"], test=torch.tensor([0, 1]))
    assert reported == "The targets of train are words, the others are numbers.\nUse the same kind in every split."
    assert _refused(torch.rand(3, 2), test=torch.rand(3, 3)).startswith("The targets of test have shape (3, 3); those of train (3, 2).")


@pytest.mark.parametrize(
    ("targets", "task", "classes", "reported"),
    [
        (
            _t(0.5, 1.5),
            "single-label",
            None,
            "The label of train[0] is 0.5, which has a fraction.\nUse whole numbers or words as labels, or task regression.",
        ),
        (torch.rand(3, 2), "single-label", None, "The targets are a table in which some rows do not have exactly one 1."),
        (torch.tensor([0, 2]), "multi-label", None, "Multi-label targets must be a table of 0 and 1 with a column for each label."),
        (torch.rand(3, 2), "multi-label", None, "Multi-label targets must be a table of 0 and 1 with a column for each label."),
        (torch.ones(3, 2), "multi-label", ("a",), "There is 1 name for 2 columns of targets.\nGive one for each column"),
        (["a", "b"], "regression", None, "There are 2 names for 1 column of targets.\nGive one for each column, or choose another task."),
    ],
)
def test_task_that_does_not_fit(targets: Tensor | list[str], task: str, classes: tuple[str, ...] | None, reported: str) -> None:
    assert _refused(targets, task, classes).startswith(reported)


def test_many_classes_when_asked_or_when_they_repeat() -> None:
    assert len(_encode(torch.arange(500), "single-label").task.outputs) == 500
    assert len(_encode(torch.arange(500).repeat(3)).task.outputs) == 500


@given(st.lists(st.integers(0, 6), min_size=2, max_size=30).filter(lambda labels: len(set(labels)) > 1))
def test_names_undo_the_codes(labels: list[int]) -> None:
    encoded = _encode(torch.tensor(labels))
    assert [int(encoded.task.outputs[code]) for code in encoded.targets["train"].tolist()] == labels


@pytest.mark.parametrize("words", [["1", "01", "001", "0"], ["001", "0", "01", "1"]])
def test_the_order_of_classes_is_never_a_matter_of_chance(words: list[str]) -> None:
    assert _encode(words).task.outputs == ("0", "001", "01", "1")


def test_whole_numbers_written_as_decimals_are_reported() -> None:
    reported = ("targets are whole numbers written as decimals: regression; data.task = single-label if they are labels",)
    assert _encode(_t(0.0, 1.0, 5.0)).notes == reported
    assert _encode(torch.arange(100.0)[:, None]).notes == reported
    assert _encode(torch.arange(101.0)).notes == _encode(_t(0.0, 1.5)).notes == _encode(_t(0.0, 1.0), "regression").notes == ()


def test_one_column_of_0_and_1_may_be_one_of_several_labels() -> None:
    encoded = _encode(torch.tensor([[0], [1]]), "multi-label", ("spam",))
    assert (encoded.task.name, encoded.task.outputs, encoded.targets["train"].tolist()) == ("multi-label", ("spam",), [[0.0], [1.0]])


def test_like_an_earlier_model(make_spec: SpecMaker) -> None:
    spec = make_spec(outputs=("a", "b", "c"))
    encoded = encode({"train": ["c", "c", "a"]}, None, None, address, spec.task)
    assert (encoded.task.outputs, encoded.targets["train"].tolist()) == (("a", "b", "c"), [2, 2, 0])
    named = encode({"train": torch.tensor([0, 1])}, ("b", "a"), None, address, spec.task)
    assert named.targets["train"].tolist() == [1, 0]
    with pytest.raises(DataError) as raised:
        encode({"train": ["a", "x"]}, None, None, address, spec.task)
    assert (
        str(raised.value)
        == "The model does not know the class 'x'; it knows a, b, c.\nRemove those examples, or name the class as in training."
    )


def test_like_an_earlier_model_by_number(make_spec: SpecMaker) -> None:
    spec = make_spec(outputs=("0", "1", "2"))
    assert encode({"train": torch.tensor([2, 2])}, None, None, address, spec.task).targets["train"].tolist() == [2, 2]
    one_hot = torch.tensor([[False, False, True], [False, False, True]])
    assert encode({"train": one_hot}, None, None, address, spec.task).targets["train"].tolist() == [2, 2]


def test_like_an_earlier_regression(make_spec: SpecMaker) -> None:
    spec = make_spec(task="regression", outputs=("width", "height"))
    encoded = encode({"train": torch.tensor([[1, 0]])}, None, None, address, spec.task)
    assert (encoded.task.name, encoded.task.outputs) == ("regression", ("width", "height"))
    with pytest.raises(DataError) as raised:
        encode({"train": torch.rand(2, 3)}, None, None, address, spec.task)
    assert str(raised.value) == "The targets have 3 columns; the model gives 2.\nPass the same columns."


def test_columns_of_labels_for_an_earlier_model(make_spec: SpecMaker) -> None:
    spec = make_spec(outputs=("0", "1", "2"))
    column = torch.tensor([[2], [0]])
    assert encode({"train": column}, None, None, address, spec.task).targets["train"].tolist() == [2, 0]
    with pytest.raises(DataError, match="some rows do not have exactly one 1"):
        encode({"train": torch.tensor([[1, 1, 0], [0, 0, 1]])}, None, None, address, spec.task)
    with pytest.raises(DataError, match=r"The target of train\[1\] is NaN"):
        encode({"train": _t(0.0, float("nan"))}, None, None, address, spec.task)


@pytest.mark.parametrize("task", ["multi-label", "regression"])
def test_columns_for_an_earlier_model_are_matched_by_name(make_spec: SpecMaker, task: str) -> None:
    spec = make_spec(task=task, outputs=("a", "b", "c"))
    table = torch.tensor([[1, 1, 0], [0, 1, 0]])
    assert encode({"train": table}, None, None, address, spec.task).targets["train"].tolist() == table.tolist()
    named = encode({"train": table}, ("c", "a", "b"), None, address, spec.task)
    assert (named.task.outputs, named.targets["train"].tolist()) == (("a", "b", "c"), [[1, 0, 1], [1, 0, 0]])

    def refused(columns: int, classes: tuple[str, ...] | None) -> str:
        with pytest.raises(DataError) as raised:
            encode({"train": table[:, :columns]}, classes, None, address, spec.task)
        return str(raised.value)

    assert refused(3, ("a", "b", "x")) == "The model does not know the output 'x'; it knows a, b, c.\nName the columns as in training."
    assert refused(2, ("a", "c")) == "The targets lack a column 'b', which the model gives.\nPass the same columns."
    assert refused(2, None) == "The targets have 2 columns; the model gives 3.\nPass the same columns."


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (torch.tensor([1, -1, 1]), ("-1", "1")),
        (torch.tensor([-3, -5, -4], dtype=torch.int8), ("-5", "-4", "-3")),
        (torch.tensor([2**62, -(2**62), 0]), (str(-(2**62)), "0", str(2**62))),
    ],
)
def test_labels_below_0_are_classes(labels: Tensor, names: tuple[str, ...]) -> None:
    encoded = _encode(labels)
    assert (encoded.task.name, encoded.task.outputs) == ("single-label", names)
    assert [encoded.task.outputs[code] for code in encoded.targets["train"].tolist()] == [str(label) for label in labels.tolist()]


def test_labels_below_0_beside_others_from_0_are_reported() -> None:
    note = "labels below 0 are classes too (-100): leave their examples out if they mean that there is no label"
    assert _encode(torch.tensor([0, 1, -100])).notes == (note,)
    assert _encode(torch.tensor([-1, 1])).notes == ()


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_long_codes_are_never_rounded_together(dtype: torch.dtype) -> None:
    encoded = _encode(
        torch.tensor([123_456_789, 123_456_790] * 2, dtype=dtype), "single-label", test=torch.tensor([123_456_790.0], dtype=torch.float64)
    )
    assert (encoded.task.outputs, encoded.targets["train"].tolist()) == (("123456789", "123456790"), [0, 1, 0, 1])
    assert encoded.targets["test"].tolist() == [1]


@pytest.mark.parametrize(
    ("labels", "reported"),
    [
        (torch.tensor([1.0, 123_456_789.0]), "The label of train[1] is 123456792, but float32 has not all whole numbers beyond 16777216"),
        (torch.tensor([1.0, 2.0**60], dtype=torch.float64), "The label of train[1] is 1152921504606846976, but float64 has not all"),
        (
            torch.tensor([1.0, 4096.0], dtype=torch.float16),
            "The label of train[1] is 4096, but float16 has not all whole numbers beyond 2048",
        ),
        (
            torch.tensor([1.0, 1e300], dtype=torch.float64),
            "The label of train[1] is 1000000000000000052504760255204420248704468581108159154915",
        ),
    ],
)
def test_codes_that_may_have_been_rounded_are_refused(labels: Tensor, reported: str) -> None:
    assert _refused(labels, "single-label").startswith(reported)
    assert _refused(labels, "single-label").endswith("Give labels as whole numbers (int64) or words from the start.")


def test_splits_of_different_types_keep_their_labels() -> None:
    encoded = _encode(torch.tensor([123_456_789, 123_456_790]), test=torch.tensor([123_456_790], dtype=torch.int32))
    assert encoded.targets["test"].tolist() == [1]
    # True and False beside 0 and 1 are numbers.
    assert _encode(torch.tensor([True, False]), test=torch.tensor([0, 1])).task.outputs == ("0", "1")


def test_names_that_unicode_counts_as_equal_are_one_class() -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    encoded = _encode([composed, apart, "tea"], test=[apart])
    assert encoded.task.outputs == (composed, "tea")
    assert {split: codes.tolist() for split, codes in encoded.targets.items()} == {"train": [0, 0, 1], "test": [0]}
    assert _encode([composed, "tea"], classes=(apart, "tea")).task.outputs == (composed, "tea")
    assert (
        _refused(torch.tensor([0, 1]), classes=(composed, apart))
        == f"Two classes have the name '{composed}'.\nGive each class a name of its own."
    )


def test_words_that_differ_only_in_blanks_are_refused() -> None:
    reported = "The target of test[1] is 'a ', while others are 'a'.\nRemove the blanks around the word."
    assert _refused(["a", "b"], test=["b", "a "]) == reported
    # Where all have them they are part of the name.
    assert _encode(["a ", "b "]).task.outputs == ("a ", "b ")


@pytest.mark.parametrize("word", ["nan", "None", "<NA>", "N/A"])
def test_words_that_programs_write_for_nothing_are_reported(word: str) -> None:
    assert _encode(["a", "b", word]).notes == (f"the class '{word}' may mean missing labels: if so, leave its examples out",)


@pytest.mark.parametrize(
    ("table", "note"),
    [
        (
            torch.tensor([[0.9, 0.1], [0.3, 0.7]]),
            "targets are rows that add up to 1, taken as 2 quantities: regression; if they are probabil",
        ),
        (
            torch.tensor([[1, -1], [-1, -1]]),
            "targets are a table of -1 and 1, taken as 2 quantities: regression; if they are labels, write them",
        ),
        (torch.tensor([[255, 0], [0, 0]], dtype=torch.uint8), "targets are a table of 0 and 255, taken as 2 quantities: regression; if"),
        (
            torch.tensor([[2, 0], [1, 2]]),
            "targets are a table of whole numbers, taken as 2 quantities: regression; if its columns are labels",
        ),
        (_t(1.0, 2.0, 1.0), "targets are whole numbers written as decimals: regression; data.task = single-label if they are labels"),
    ],
)
def test_what_targets_were_taken_for_is_reported(table: Tensor, note: str) -> None:
    (reported,) = _encode(table).notes
    assert reported.startswith(note)
    # Not where it was asked for.
    assert _encode(table, "regression").notes == ()


def test_real_quantities_need_no_note() -> None:
    assert _encode(torch.rand(3, 2)).notes == _encode(_t(0.5, 2.0)).notes == ()
    assert _encode(torch.arange(300).reshape(150, 2)).notes == ()


def test_quantities_keep_what_float32_would_round() -> None:
    encoded = _encode(torch.tensor([1.7e9 + 0.05, 1.7e9], dtype=torch.float64), test=torch.tensor([2.0], dtype=torch.float32))
    assert encoded.targets["train"].tolist() == [[1.7e9 + 0.05], [1.7e9]]
    assert {targets.dtype for targets in encoded.targets.values()} == {torch.float64}


def test_errors_name_examples_as_the_source_does() -> None:
    with pytest.raises(DataError, match=r"^The target of photos/7\.png is NaN"):
        encode({"train": _t(0.5, float("nan"))}, None, None, where=lambda split, index: f"photos/{index + 6}.png")
