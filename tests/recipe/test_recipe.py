"""Settings: known, of the right type, in range, with an origin, and never changed behind the user's back."""

from __future__ import annotations

import math
from typing import Any

import pytest

from epochal.errors import RecipeError
from epochal.recipe import Recipe, fields


def _refused(changes: dict[str, Any]) -> str:
    with pytest.raises(RecipeError) as raised:
        Recipe().updated(changes, "command line")
    return str(raised.value)


def test_layers_and_origins() -> None:
    recipe = Recipe()
    assert recipe.origin("optimizer.lr") == "default"
    first = recipe.updated({"lr": 0.1, "epochs": 3}, "recipe a")
    second = first.updated({"optimizer": {"lr": 0.2}}, "command line")
    assert (second.optimizer.lr, second.epochs, second.batch_size) == (0.2, 3, 64)
    assert [second.origin(name) for name in ("optimizer.lr", "epochs", "batch_size")] == ["command line", "recipe a", "default"]
    # The ones before are as they were.
    assert (first.optimizer.lr, first.origin("optimizer.lr")) == (0.1, "recipe a")
    assert (recipe.optimizer.lr, recipe.origin("optimizer.lr")) == (0.002, "default")
    # An origin belongs to a value that was given, even where it is the default's.
    assert recipe.updated({"lr": 0.002}).origin("optimizer.lr") == "given"


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Recipe().epochs = 3  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        Recipe().optimizer.lr = 3.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value", "reported"),
    [
        ("epochs", 0, "The setting epochs = 0 (command line) cannot be used: it should be greater than or equal to 1."),
        ("epochs", 2.5, "The setting epochs = 2.5 (command line) cannot be used: it should be a valid integer."),
        ("epochs", "3", "The setting epochs = '3' (command line) cannot be used: it should be a valid integer."),
        ("epochs", True, "The setting epochs = True (command line) cannot be used: it should be a valid integer."),
        ("lr", 0.0, "The setting optimizer.lr = 0.0 (command line) cannot be used: it should be greater than 0."),
        ("lr", True, "The setting optimizer.lr = True (command line) cannot be used: it should be a valid number."),
        ("valid", 1, "The setting data.valid = 1 (command line) cannot be used: it should be less than 1."),
        ("ema", -0.1, "The setting ema = -0.1 (command line) cannot be used: it should be greater than or equal to 0."),
        ("seed", -1, "The setting seed = -1 (command line) cannot be used: it should be greater than or equal to 0."),
        ("precision", "fp8", "The setting precision = 'fp8' (command line) cannot be used: it should be 'auto', 'fp32', 'bf16' or 'fp16'."),
        ("flip", 1, "The setting augment.flip = 1 (command line) cannot be used: it should be a valid boolean."),
        ("optimizer", 3, "The setting optimizer.name = 3 (command line) cannot be used: it should be a valid string."),
        ("size", [0, 3], "The setting data.size = 0 (command line) cannot be used: it should be greater than or equal to 1."),
        ("class_weights", [1, -1], "The setting loss.class_weights = -1 (command line) cannot be used: it should be greater than 0."),
        ("at", [3, 0], "The setting schedule.at = 0 (command line) cannot be used: it should be greater than or equal to 1."),
    ],
)
def test_wrong_value(name: str, value: Any, reported: str) -> None:
    full, fix = _refused({name: value}).split("\n")
    assert full == reported
    # The fix is the setting's own description.
    described = reported.split(" ")[2]
    assert fix == f"{described}: {dict(fields())[described].description}."


@pytest.mark.parametrize("name", [name for name, field in fields() if "float" in str(field.annotation)])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number_is_refused_everywhere(name: str, value: float) -> None:
    given = {"betas": (value, 0.9)} if name == "optimizer.options" else value
    assert f"The setting {name} = " in _refused({name: given})
    assert "cannot be used: it should be " in _refused({name: given})


@pytest.mark.parametrize("name", ["loss.smoothing", "data.valid", "optimizer.weight_decay", "schedule.warmup", "ema"])
def test_whole_number_for_a_fraction(name: str) -> None:
    assert Recipe().updated({name: 0}).flat()[name] == 0.0


def test_group_by_its_name() -> None:
    changes = {"model": "conv", "optimizer": "sgd", "loss": "nll", "schedule": "cosine"}
    recipe = Recipe().updated(changes)
    assert (recipe.model.name, recipe.optimizer.name, recipe.loss.name, recipe.schedule.name) == ("conv", "sgd", "nll", "cosine")
    assert recipe.optimizer.lr == Recipe().optimizer.lr
    assert recipe.origin("model.name") == "given"
    assert Recipe(model="conv").model.name == "conv"  # type: ignore[arg-type]


def test_model_options_go_with_the_model() -> None:
    recipe = Recipe().updated({"model": {"name": "mlp", "widths": [8, 4]}, "model.dropout": 0.5}, "a")
    assert recipe.model.options == {"widths": (8, 4), "dropout": 0.5}
    assert recipe.origin("model.widths") == "a"
    same = recipe.updated({"model": "mlp"}, "b")
    assert same.model.options == recipe.model.options
    other = recipe.updated({"model": {"name": "conv", "widths": [4]}}, "b")
    assert other.model.options == {"widths": (4,)}
    assert (other.origin("model.widths"), other.origin("model.dropout")) == ("b", "default")
    assert recipe.model.options == {"widths": (8, 4), "dropout": 0.5}


@pytest.mark.parametrize("changes", [{"optimizer.options": {"betas": [0.5, 0.9]}}, {"optimizer": {"options": {"betas": (0.5, 0.9)}}}])
def test_optimizer_options_are_one_value(changes: dict[str, Any]) -> None:
    recipe = Recipe().updated(changes, "a")
    assert recipe.optimizer.options == {"betas": (0.5, 0.9)}
    assert recipe.origin("optimizer.options") == "a"
    assert Recipe().optimizer.options == {}


def test_what_is_left_open() -> None:
    recipe = Recipe().updated({"batch_size": "auto"})
    assert (recipe.batch_size, recipe.threads, recipe.device) == ("auto", "auto", "auto")
    for wrong in ("many", 0, 1.5):
        assert "The setting batch_size" in _refused({"batch_size": wrong})
    settled = recipe.updated({"batch_size": 32, "threads": 2}, "measured")
    assert (settled.examples_per_step, settled.threads_per_step) == (32, 2)
