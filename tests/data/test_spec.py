"""The description of data: frozen, complete, and strict about what it holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from epochal.data.spec import DataSpec, PictureRule

SpecMaker = Callable[..., DataSpec]


def test_pictures_and_numbers(make_spec: SpecMaker) -> None:
    picture = make_spec(shape=(3, 4, 5), mean=(0.5,) * 3, std=(1.0,) * 3)
    assert (picture.is_image, picture.size) == (True, 60)
    assert (make_spec().is_image, make_spec().size) == (False, 2)


def test_one_line_for_people(make_spec: SpecMaker) -> None:
    spec = make_spec(name="digits", shape=(1, 8, 8), dtype="uint8", mean=(0.5,), std=(0.5,), counts={"train": 1200, "test": 300})
    assert spec.describe() == "digits: 1×8×8 uint8, 3 classes; 1,200 train, 300 test"
    assert make_spec(task="multi-label").describe() == "made: 2 float32, 3 labels; 6 train"
    assert make_spec(task="regression", outputs=("y",)).describe() == "made: 2 float32, 1 output; 6 train"


def test_frozen_and_strict(make_spec: SpecMaker) -> None:
    with pytest.raises(ValueError, match="frozen"):
        make_spec().name = "other"  # type: ignore[misc]
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        make_spec(color="red")
    with pytest.raises(ValueError, match="finite number"):
        make_spec(mean=(float("nan"), 0.0))
    with pytest.raises(ValueError, match="Input should be 'uint8', 'int64', 'float32' or 'float64'"):
        make_spec(dtype="float16")


def test_json_there_and_back(make_spec: SpecMaker) -> None:
    picture = PictureRule(mode="RGB", size=(4, 5), fit="crop")
    spec = make_spec(shape=(3, 4, 5), dtype="uint8", picture=picture, mean=(0.1, 1 / 3, 0.5), std=(1.0,) * 3)
    assert DataSpec.model_validate_json(spec.model_dump_json()) == spec


_PICTURE = {"shape": (3, 4, 5), "dtype": "uint8", "mean": (0.5,) * 3, "std": (1.0,) * 3}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"outputs": ("a",)}, "there are 1 outputs, but single-label takes at least 2"),
        ({"outputs": (), "task": "regression"}, "there are 0 outputs, but regression takes at least 1"),
        ({"outputs": ("a", "b", "a")}, "some outputs have the same name"),
        ({"shape": ()}, "shape has no sides"),
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
        (_PICTURE | {"picture": PictureRule(mode="L", size=(4, 5), fit="pad")}, "the picture rule does not make uint8 inputs"),
        (_PICTURE | {"picture": PictureRule(mode="RGB", size=(5, 4), fit="pad")}, "the picture rule does not make uint8 inputs"),
        (
            _PICTURE | {"picture": PictureRule(mode="RGB", size=(4, 5), fit="pad"), "dtype": "float32"},
            "the picture rule does not make float32 inputs",
        ),
        ({"picture": {"mode": "L", "size": (0, 4), "fit": "pad"}}, "greater than 0"),
        (_PICTURE | {"ground": (256, 0, 0)}, "less than or equal to 255"),
        (_PICTURE | {"ground": (255,)}, "ground does not fit uint8 inputs"),
    ],
)
def test_contradictions_are_refused(make_spec: SpecMaker, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make_spec(**changes)
