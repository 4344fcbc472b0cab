"""Recipes in files: presets and TOML; what people write in them comes back as it was."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epochal.errors import RecipeError
from epochal.recipe import DEFAULT, Recipe, load_recipe, presets, tutorials


def test_the_recipes_of_tutorials_are_listed_apart() -> None:
    assert list(presets()) == ["cifar10", "few-shot", "mnist", "mnist-fast", "photos", "sound", "table", "text"]
    assert tutorials()
    assert all(name.startswith("tutorial-") for name in tutorials())


@pytest.mark.parametrize("name", presets() | tutorials())
def test_every_preset_loads_and_says_what_it_is(name: str) -> None:
    recipe = load_recipe(name)
    description = (presets() | tutorials())[name]
    assert description
    assert "=" not in description.split(" ")[0]
    assert {recipe.origin(setting) for setting in recipe.flat()} == {DEFAULT, f"recipe {name}"}
    for setting, value in recipe.flat().items():
        assert recipe.origin(setting) != DEFAULT or value == Recipe().flat()[setting]


def test_tutorial_mlp_is_the_tutorial() -> None:
    recipe = load_recipe("tutorial-mlp")
    assert (recipe.epochs, recipe.batch_size, recipe.schedule.name) == (5, 64, "constant")
    assert (recipe.model.name, recipe.optimizer.name, recipe.optimizer.lr) == ("tutorial-mlp", "adam", 0.001)
    assert (recipe.data.mean, recipe.data.std, recipe.data.valid) == (0.1307, 0.3081, 0.0)


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
    ("content", "reported"),
    [
        (b"\xff\xfea", "Cannot read the recipe {path}: it is not text in UTF-16."),
        (b"epochs = ", "{path} is not valid TOML: Invalid value (at end of document).\nFix that line."),
        (b"epoch = 3", "{path}: Unknown setting 'epoch'.\nDid you mean 'epochs'?"),
        (b"epochs = 0", "The setting epochs = 0 ({path}) cannot be used: it should be greater than or equal to 1."),
        (b"\xff", "Cannot read the recipe {path}: it is not text in UTF-8."),
    ],
)
def test_wrong_recipe_files(tmp_path: Path, content: bytes, reported: str) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as raised:
        load_recipe(str(path))
    assert str(raised.value).startswith(reported.format(path=path))


def test_missing_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"Cannot read the recipe .*none\.toml: .*No such file.*\nCheck the path\."):
        load_recipe(tmp_path / "none.toml")
    with pytest.raises(RecipeError) as raised:
        load_recipe("tutorial-mpl")
    assert str(raised.value) == (
        "Unknown recipe 'tutorial-mpl'.\nDid you mean 'tutorial-mlp'? `epochal recipes` lists them; a TOML file works too."
    )
    with pytest.raises(RecipeError, match=r"\nKnown: cifar10, few-shot, mnist, mnist-fast, photos, sound, table, text\. "):
        load_recipe("qqqqqqq")
