"""Settings: known, of the right type, in range, with an origin, and never changed behind the user's back."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epochal.errors import RecipeError
from epochal.recipe import Recipe, fields, load_recipe, presets


def _refused(changes: dict[str, Any]) -> str:
    with pytest.raises(RecipeError) as raised:
        Recipe().updated(changes, "command line")
    return str(raised.value)


@pytest.mark.parametrize("name", presets())
def test_every_preset_loads_and_says_what_it_is(name: str) -> None:
    recipe = load_recipe(name)
    assert presets()[name]
    assert "=" not in presets()[name].split(" ")[0]
    changed = {setting for setting, value in recipe.flat().items() if value != Recipe().flat().get(setting)}
    assert changed
    for setting in changed:
        assert recipe.origin(setting) == f"recipe {name}"


def test_tutorial_mlp_is_the_tutorial() -> None:
    recipe = load_recipe("tutorial-mlp")
    assert (recipe.epochs, recipe.batch_size, recipe.schedule.name) == (5, 64, "constant")
    assert (recipe.model.name, recipe.optimizer.name, recipe.optimizer.lr) == ("tutorial-mlp", "adam", 0.001)
    assert (recipe.data.mean, recipe.data.std, recipe.data.valid) == (0.1307, 0.3081, 0.0)


def test_every_setting_is_documented_and_defaults_are_valid() -> None:
    names = [name for name, _ in fields()]
    assert len(names) == len(set(names))
    for name, field in fields():
        assert field.description, name
        value = Recipe().flat().get(name, {})
        assert Recipe().updated({name: value}).flat() == Recipe().flat()


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
    ("given", "full"),
    [
        ("lr", "optimizer.lr"),
        ("momentum", "optimizer.momentum"),
        ("valid", "data.valid"),
        ("smoothing", "loss.smoothing"),
        ("patience", "patience"),
        ("schedule.patience", "schedule.patience"),
        ("loss", "loss.name"),
        ("schedule", "schedule.name"),
        ("shift", "augment.shift"),
    ],
)
def test_short_names(given: str, full: str) -> None:
    value = {"loss.name": "nll", "schedule.name": "step"}.get(full, 0.5 if "." in full and "patience" not in full else 7)
    value = 3 if full == "augment.shift" else value
    recipe = Recipe().updated({given: value})
    assert recipe.flat()[full] == value
    assert recipe.origin(full) == "given"


def test_ambiguous_name() -> None:
    assert _refused({"name": "conv"}) == (
        "The setting 'name' could be any of model.name, loss.name, optimizer.name, schedule.name.\nWrite it out."
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("epoch", "Unknown setting 'epoch'.\nDid you mean 'epochs'?"),
        ("optimizer.momentun", "Unknown setting 'optimizer.momentun'.\nDid you mean 'optimizer.momentum'?"),
        ("smothing", "Unknown setting 'smothing'.\nDid you mean 'smoothing'?"),
    ],
)
def test_unknown_name(given: str, told: str) -> None:
    assert _refused({given: 1}) == told


def test_unknown_name_without_a_likely_one() -> None:
    told = _refused({"qqqqqqq": 1})
    assert told.startswith("Unknown setting 'qqqqqqq'.\nKnown: accumulate, ")
    assert "optimizer.lr" in told


@pytest.mark.parametrize(
    ("name", "value", "told"),
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
def test_wrong_value(name: str, value: Any, told: str) -> None:
    full, fix = _refused({name: value}).split("\n")
    assert full == told
    # The fix is the setting's own description.
    described = told.split(" ")[2]
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


_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "epochs": st.integers(1, 10**6),
    "seed": st.integers(0, 2**63 - 1),
    "device": st.text(max_size=10),
    "keep": st.sampled_from(["best", "last"]),
    "max_steps": st.none() | st.integers(1, 9),
    "max_seconds": st.none() | st.floats(1e-300, 1e300),
    "data.valid": st.floats(0, 0.999),
    "data.size": st.none() | st.integers(1, 9) | st.tuples(st.integers(1, 9), st.integers(1, 9)),
    "data.mean": st.none() | st.floats(-1e9, 1e9) | st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=3).map(tuple),
    "augment.flip": st.booleans(),
    "model.name": st.text(max_size=10),
    "model.widths": st.lists(st.integers(1, 9), max_size=3).map(tuple),
    "loss.class_weights": st.sampled_from(["equal", "balanced"]) | st.lists(st.floats(0.1, 9), min_size=1, max_size=3).map(tuple),
    "optimizer.lr": st.floats(1e-30, 1e30),
    "optimizer.options": st.dictionaries(
        st.sampled_from(["betas", "eps", "amsgrad"]), st.booleans() | st.floats(0, 1) | st.just((0.5, 0.9))
    ),
    "schedule.at": st.lists(st.integers(1, 9), max_size=3).map(tuple),
}


@given(st.fixed_dictionaries({}, optional=_VALUES))
def test_given_values_are_never_changed_and_survive_toml(tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any]) -> None:
    recipe, defaults = Recipe().updated(changes, "command line"), Recipe().flat()
    for name, value in recipe.flat().items() if changes else ():
        if name in changes:
            assert (value, recipe.origin(name)) == (changes[name], "command line")
        else:
            assert (value, recipe.origin(name)) == (defaults[name], "default")
    path = tmp_path_factory.getbasetemp() / "recipe.toml"
    path.write_text(recipe.to_toml(), "utf-8")
    again = load_recipe(path)
    assert again.flat() == recipe.flat()
    assert again.origin("epochs") == str(path)


def test_toml_shows_origins() -> None:
    lines = Recipe().updated({"lr": 0.5}, "command line").to_toml().splitlines()
    assert "lr = 0.5 # command line" in lines
    assert "epochs = 10 # default" in lines
    # What is none has no place in TOML.
    assert not any(line.startswith("max_steps") for line in lines)
    assert tomllib.loads("\n".join(lines))["optimizer"]["lr"] == 0.5


def test_recipe_files(tmp_path: Path) -> None:
    good = tmp_path / "a.toml"
    good.write_text('model = "mlp"\nschedule = "constant"\n[data]\nvalid = 0\n', "utf-8")
    recipe = load_recipe(good)
    assert (recipe.model.name, recipe.schedule.name, recipe.data.valid) == ("mlp", "constant", 0)
    assert recipe.origin("data.valid") == str(good)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_recipe_files_as_windows_writes_them(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes('# 配方\r\nepochs = 3\r\n\r\n[data]\r\nexclude = "猫.txt"\r\n'.encode(encoding))
    recipe = load_recipe(path)
    assert (recipe.epochs, recipe.data.exclude) == (3, "猫.txt")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\xff\xfea", "Cannot read the recipe {path}: it is not text in UTF-16."),
        (b"epochs = ", "{path} is not valid TOML: Invalid value (at end of document).\nFix that line."),
        (b"epoch = 3", "{path}: Unknown setting 'epoch'.\nDid you mean 'epochs'?"),
        (b"epochs = 0", "The setting epochs = 0 ({path}) cannot be used: it should be greater than or equal to 1."),
        (b"\xff", "Cannot read the recipe {path}: it is not text in UTF-8."),
    ],
)
def test_wrong_recipe_files(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as raised:
        load_recipe(str(path))
    assert str(raised.value).startswith(told.format(path=path))


def test_missing_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"Cannot read the recipe .*none\.toml: .*No such file.*\nCheck the path\."):
        load_recipe(tmp_path / "none.toml")
    with pytest.raises(RecipeError) as raised:
        load_recipe("tutorial-mpl")
    assert str(raised.value) == (
        "Unknown recipe 'tutorial-mpl'.\nDid you mean 'tutorial-mlp'? `epochal recipes` lists them; a TOML file works too."
    )


def test_what_is_left_open() -> None:
    recipe = Recipe().updated({"batch_size": "auto"})
    assert (recipe.batch_size, recipe.threads, recipe.device) == ("auto", "auto", "auto")
    for wrong in ("many", 0, 1.5):
        assert "The setting batch_size" in _refused({"batch_size": wrong})
    settled = recipe.updated({"batch_size": 32, "threads": 2}, "measured")
    assert (settled.examples_per_step, settled.threads_per_step) == (32, 2)
