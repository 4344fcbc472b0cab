"""What is searched, as users say it."""

import math
from typing import Any

import hypothesis.strategies as some
import pytest
from hypothesis import given, settings

from epochal.cli.tune import _split, _values
from epochal.errors import RecipeError
from epochal.recipe import Recipe
from epochal.search.propose import propose
from epochal.search.space import Axis, Choice, Range, as_space, from_json, to_json

SPACE: dict[str, Axis] = {
    "optimizer.lr": Range(1e-4, 1e-1, log=True),
    "augment.shift": Range(0, 3, whole=True),
    "model.widths": Choice(([8], [8, 8])),
}


def test_settings_as_users_say_them() -> None:
    given = {"lr": "log(1e-4, 1e-1)", "shift": "range(0,3)", "model.widths": [[8], [8, 8]]}
    assert as_space(given, Recipe()) == SPACE
    assert from_json(to_json(SPACE)) == SPACE


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("lrr", "log(1e-4,1)", "Unknown setting 'lrr'"),
        ("lr", "log(0,1)", "two numbers above 0"),
        ("lr", "log(1,1)", "the smaller one first"),
        ("lr", "log(1e-4)", "is not a range"),
        ("lr", "range(a,b)", "is not a range"),
        ("lr", [0.1], "is no choice"),
        ("lr", [0.1, 0.1], "is no choice"),
        ("lr", [0.1, "high"], "should be"),
        ("lr", [0.1, -1], "should be"),
        ("smoothing", "range(0,2)", "should be"),
        ("batch_size", "log(1.5,3)", "is a whole number"),
        ("flip", "range(0,1)", "is not a number"),
        ("seed", [1, 2], "cannot be searched"),
        ("test", [0.1, 0.2], "cannot be searched"),
        ("threads", [1, 2], "cannot be searched"),
        ("loss", ["mse", "l1"], "judged by the validation loss"),
    ],
)
def test_what_cannot_be_searched(name: str, values: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        as_space({name: values}, Recipe())


def test_another_judge_lets_the_loss_differ() -> None:
    assert as_space({"loss": ["mse", "l1"]}, Recipe().updated({"monitor": "mae"})) == {"loss.name": Choice(("mse", "l1"))}


def test_ranges_lists_and_single_values_on_the_command_line() -> None:
    space, fixed = _split(
        ("lr=log(1e-4,1e-1)", "model=conv,mlp", "epochs=3", "metrics=f1,auc", "model.widths=[8],[8,16]", "flip=true,false")
    )
    assert space == {"lr": "log(1e-4,1e-1)", "model": ["conv", "mlp"], "model.widths": [[8], [8, 16]], "flip": [True, False]}
    assert fixed == ("epochs=3", "metrics=f1,auc")
    assert _values("'a,b',[1,2]") == ["'a,b'", "[1,2]"]
    with pytest.raises(RecipeError, match="has no value"):
        _split(("lr",))


@settings(max_examples=15)
@given(some.integers(0, 2**62), some.integers(1, 30), some.lists(some.floats(0, 1) | some.just(math.inf), max_size=14))
def test_proposals_are_a_function_of_seed_number_and_what_is_known(seed: int, trial: int, scores: list[float]) -> None:
    known = [
        ({"optimizer.lr": 0.001 * (1 + place), "augment.shift": place % 4, "model.widths": [8]}, one) for place, one in enumerate(scores)
    ]
    found = propose(SPACE, seed, trial, known)
    assert found == propose(SPACE, seed, trial, known)
    assert all(SPACE[name].holds(value) for name, value in found.items())
    assert isinstance(found["augment.shift"], int)
    assert found != propose(SPACE, seed, trial + 1, known) or found != propose(SPACE, seed, trial + 2, known)
