"""The description of data: frozen, complete, and strict about what it holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from epochal.data.inputs.numbers import NumbersRule
from epochal.data.inputs.picture.ink import Ink
from epochal.data.inputs.picture.rule import PictureRule
from epochal.data.spec import DataSpec

SpecMaker = Callable[..., DataSpec]


def test_pictures_and_numbers(make_spec: SpecMaker) -> None:
    picture = make_spec(shape=(3, 4, 5), mean=(0.5,) * 3, std=(1.0,) * 3)
    assert (picture.input.kind, picture.features) == ("picture", (3, 4, 5))
    assert (make_spec().input.kind, make_spec().features) == ("numbers", (2,))


def test_one_line_for_people(make_spec: SpecMaker) -> None:
    spec = make_spec(name="digits", shape=(1, 8, 8), dtype="uint8", mean=(0.5,), std=(0.5,), counts={"train": 1200, "test": 300})
    assert spec.describe() == "digits: 1×8×8 uint8, 3 classes; 1,200 train, 300 test"
    assert make_spec(task="multi-label").describe() == "made: 2 float32, 3 labels; 6 train"
    assert make_spec(task="regression", outputs=("y",)).describe() == "made: 2 float32, 1 output; 6 train"


def test_frozen_and_strict(make_spec: SpecMaker) -> None:
    with pytest.raises(ValueError, match="frozen"):
        make_spec().name = "other"  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        make_spec().input.shape = (3,)  # type: ignore[misc]
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        make_spec(color="red")
    with pytest.raises(ValueError, match="finite number"):
        make_spec(mean=(float("nan"), 0.0))
    with pytest.raises(ValueError, match="Input should be 'uint8', 'int64', 'float32' or 'float64'"):
        make_spec(dtype="float16")


@pytest.mark.parametrize(
    "rule",
    [
        PictureRule(shape=(3, 4, 5), fit="crop", mean=(0.1, 1 / 3, 0.5), std=(1.0,) * 3, edge_colour=(255, 0, 1)),
        PictureRule(shape=(1, 28, 28), ink=Ink(size=20, pen=2.1, centred="mass", centre=(14.5, 1 / 3))),
        NumbersRule(shape=(2, 7), dtype="int64", mean=(1 / 3,), std=(2.0,)),
    ],
)
def test_json_there_and_back(make_spec: SpecMaker, rule: Any) -> None:
    spec = make_spec(input=rule)
    assert DataSpec.model_validate_json(spec.model_dump_json()) == spec
    assert DataSpec.model_validate(spec.model_dump(mode="json")).input == rule


@pytest.mark.parametrize("rule", [{"kind": "smell", "shape": [2]}, {"shape": [2]}])
def test_a_kind_that_is_not_known_is_refused(make_spec: SpecMaker, rule: dict[str, Any]) -> None:
    described = make_spec().model_dump(mode="json")
    with pytest.raises(ValueError, match=r"the kind .* is not one of numbers, picture"):
        DataSpec.model_validate(described | {"input": rule})


_PICTURE = {"shape": (3, 4, 5), "dtype": "uint8", "mean": (0.5,) * 3, "std": (1.0,) * 3}


@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        ({"outputs": ("a",)}, "there is 1 output, but single-label takes at least 2"),
        ({"outputs": (), "task": "regression"}, "there are 0 outputs, but regression takes at least 1"),
        ({"outputs": ("a", "b", "a")}, "some outputs have the same name"),
        ({"shape": ()}, "shape is empty"),
        ({"shape": (0,)}, "greater than 0"),
        ({"shape": (100_000, 100_000)}, "an input of 10,000,000,000 numbers is larger than the limit of 100,000,000"),
        ({"mean": (0.0,)}, "mean and std must have 2 numbers, or one for all, for inputs of shape"),
        ({"mean": (1.0,) * 3, "std": (1.0,) * 3}, "mean and std must have 2 numbers"),
        ({"shape": (4, 5)}, "mean and std must have 1 numbers"),
        ({"std": (1.0, 0.0)}, "greater than 0"),
        ({"target_mean": (0.0,) * 3, "target_std": (1.0,) * 3}, "mean\n  Extra inputs are not permitted"),
        ({"task": "regression", "target_mean": (0.0,), "target_std": (1.0,)}, "do not fit regression with 3 outputs"),
        ({"task": "regression", "target_mean": (0.0,) * 3}, "do not fit regression with 3 outputs"),
        ({"counts": {"train": -1}}, "greater than or equal to 0"),
        (_PICTURE | {"shape": (3, 0, 5)}, "greater than 0"),
        (_PICTURE | {"fit": "stretch"}, "Input should be 'pad', 'crop' or 'squash'"),
        (_PICTURE | {"edge_colour": (256, 0, 0)}, "less than or equal to 255"),
        (_PICTURE | {"edge_colour": (255,)}, "edge_colour does not fit uint8 inputs"),
        (_PICTURE | {"edge_colour": (255, 0, 0), "dtype": "float32"}, "edge_colour does not fit float32 inputs"),
    ],
)
def test_contradictions_are_refused(make_spec: SpecMaker, changes: dict[str, Any], reported: str) -> None:
    with pytest.raises(ValueError, match=reported):
        make_spec(**changes)


def test_a_picture_has_three_sides() -> None:
    for shape in ((4, 5), (1, 3, 4, 5)):
        with pytest.raises(ValueError, match="shape"):
            PictureRule(shape=shape)
