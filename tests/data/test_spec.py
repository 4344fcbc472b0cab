"""The description of data: frozen, complete, and strict about what it holds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from epochal.data.spec import DataSpec, PictureRule

SpecMaker = Callable[..., DataSpec]


def test_pictures_and_numbers(make_spec: SpecMaker) -> None:
    picture = make_spec(shape=(3, 4, 5), mean=(0.5,) * 3, std=(1.0,) * 3)
    assert (picture.is_image, picture.size) == (True, 60)
    assert (make_spec().is_image, make_spec().size) == (False, 2)


def test_one_line_for_people(make_spec: SpecMaker) -> None:
    spec = make_spec(name="digits", shape=(1, 8, 8), dtype="uint8", counts={"train": 1200, "test": 300})
    assert spec.describe() == "digits: 1×8×8 uint8, 3 classes; 1,200 train, 300 test"
    assert make_spec(task="multi-label").describe() == "made: 2 float32, 3 labels; 6 train"
    assert make_spec(task="regression", outputs=("y",)).describe() == "made: 2 float32, 1 outputs; 6 train"


def test_frozen_and_strict(make_spec: SpecMaker) -> None:
    with pytest.raises(ValueError, match="frozen"):
        make_spec().name = "other"  # type: ignore[misc]
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        make_spec(color="red")
    with pytest.raises(ValueError, match="finite number"):
        make_spec(mean=(float("nan"), 0.0))
    with pytest.raises(ValueError, match="Input should be 'uint8', 'int64' or 'float32'"):
        make_spec(dtype="float64")


def test_json_there_and_back(make_spec: SpecMaker) -> None:
    spec = make_spec(picture=PictureRule(mode="RGB", size=(4, 5), fit="crop"), mean=(0.1, 1 / 3))
    assert DataSpec.model_validate_json(spec.model_dump_json()) == spec
