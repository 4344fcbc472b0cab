"""A model that is not clearly better than the same answer for all is reported, with what to try."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from epochal.data.spec import DataSpec
from epochal.evaluation.advice import advice
from epochal.recipe import Recipe, presets
from epochal.tasks.intervals import share_interval
from epochal.tasks.scores import Baseline, Scores

SpecMaker = Callable[..., DataSpec]


def _reported(spec: DataSpec, right: int, **changes: Any) -> list[str]:
    test = Scores(60, 1.0, right / 60, share_interval(right, 60), baseline=Baseline("c", 0.5))
    return list(advice(test, spec, Recipe().updated(changes)))


def test_a_poor_model_is_reported_with_what_to_try(make_spec: SpecMaker) -> None:
    photos = {"shape": (3, 8, 8), "dtype": "uint8", "mean": (0.5,), "std": (0.5,)}
    head, *options = _reported(make_spec(**photos, class_counts={"train": (10, 10, 30)}), 31, epochs=10)
    assert head == "This is not clearly better than always answering 'c' (50.0 %). What to try:"
    assert [option.split("  ")[1] for option in options] == [
        "--recipe photos",
        "--epochs 30",
        "--class-weights balanced",
        "epochal check DATA",
    ]
    assert "photos" in presets()
    # What is in use already is no advice.
    assert not any("balanced" in line for line in _reported(make_spec(**photos), 31, class_weights="balanced"))
    assert not any("photos" in line for line in _reported(make_spec(**photos), 31, flip=True))
    assert any("--lr 0.0002" in line for line in _reported(make_spec(), 31))


@pytest.mark.parametrize("right", [45, 60])
def test_a_good_model_needs_no_advice(make_spec: SpecMaker, right: int) -> None:
    assert _reported(make_spec(), right) == []


@pytest.mark.parametrize(("r2", "lines"), [(-0.1, True), (0.0, True), (0.3, False)])
def test_quantities_are_compared_with_their_mean(make_spec: SpecMaker, r2: float, lines: bool) -> None:
    spec = make_spec(task="regression", outputs=("y",))
    reported = advice(Scores(60, 1.0, r2=r2), spec, Recipe())
    assert bool(reported) == lines
    assert not reported or reported[0] == "This is no better than always answering the mean. What to try:"
