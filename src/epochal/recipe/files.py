"""Recipes in files: presets, TOML files that people write, and the recipe.toml of a run."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epochal.errors import RecipeError, reason_of, suggest
from epochal.io.checksums import text_with_checksum, verified_text
from epochal.io.files import as_text, write_text
from epochal.io.safe_read import MAX_TOML, open_file, text_of
from epochal.recipe.recipe import Recipe

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_PRESETS = resources.files("epochal.recipe") / "presets"
_TUTORIALS = _PRESETS / "tutorials"

_DEEPEST_NAME = 100


def presets() -> dict[str, str]:
    """Return the names of the presets, each with its one-line description (the first line of its file)."""
    return _listed(_PRESETS)


def tutorials() -> dict[str, str]:
    """Return the names of the presets that train as a well-known tutorial does, each with its one-line description."""
    return _listed(_TUTORIALS)


def _listed(folder: Traversable) -> dict[str, str]:
    found = {file.name.removesuffix(".toml"): file for file in folder.iterdir() if file.name.endswith(".toml")}
    return {name: found[name].read_text("utf-8").split("\n", 1)[0].lstrip("# ") for name in sorted(found)}


def load_recipe(name: str | Path) -> Recipe:
    """Return a preset by its name (see `presets`) or a recipe from the path of a TOML file.

    Raises `RecipeError` when there is neither, or when the file is not TOML or holds an unknown or wrong setting.
    """
    if Path(name).suffix == ".toml":
        return _from_toml(_read(Path(name), text_of), str(name))
    for folder in (_PRESETS, _TUTORIALS):
        if str(name) in _listed(folder):
            return _from_toml((folder / f"{name}.toml").read_text("utf-8"), f"recipe {name}")
    known = suggest(str(name), presets(), also=tutorials())
    raise RecipeError(f"Unknown recipe '{name}'.", f"{known} `epochal recipes` lists them; a TOML file works too.")


def as_recipe(recipe: Recipe | str | Path | Mapping[str, Any] | None) -> Recipe:
    """Return the recipe that a Python program means: a `Recipe`, a preset's name or a TOML file, a mapping of settings, or none."""
    if recipe is None or isinstance(recipe, Recipe):
        return recipe or Recipe()
    if isinstance(recipe, Mapping):
        return Recipe().updated(recipe)
    if isinstance(recipe, str | Path):
        return load_recipe(recipe)
    fix = "Pass a Recipe, a preset's name, a TOML file, or a mapping of settings."
    raise RecipeError(f"The recipe is of type {type(recipe).__name__}.", fix)


def save_recipe(path: Path, recipe: Recipe) -> None:
    """Write a recipe so that `restore_recipe` gives it back, whole or not at all. Raises `OutputError`."""
    write_text(path, text_with_checksum(recipe.to_toml()))


def restore_recipe(path: Path) -> Recipe:
    """Return the recipe that `save_recipe` wrote, each value with the origin that is noted beside it. Raises `RecipeError`."""
    import tomlkit

    text = _read(path, as_text)
    recipe = _from_toml(text, str(path))
    try:
        document = tomlkit.parse(verified_text(text))
    except ValueError as error:
        fix = "Restore it as it was; to train again with what it says now, pass it as --recipe."
        raise RecipeError(f"{path} cannot be used: {error}.", fix) from error
    origins = recipe.origins()
    for name in origins:
        *groups, last = name.split(".")
        table: Any = document
        for group in groups:
            table = table.get(group, {})
        # A group in several pieces, which `to_toml` does not write, has no comments to read.
        if last in table and hasattr(table, "item"):
            origins[name] = table.item(last).trivia.comment.removeprefix("# ")
    return recipe.with_origins(origins)


def _from_toml(text: str, where: str) -> Recipe:
    try:
        changes = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # An integer with very many digits is a plain ValueError.
        raise RecipeError(f"{where} is not valid TOML: {error}.", "Fix that line.") from error
    try:
        return Recipe().updated(changes, where)
    except RecipeError as error:
        if where in error.problem:
            raise
        raise RecipeError(f"{where}: {error.problem}", error.fix) from error


def _read(path: Path, decode: Callable[[bytes], str]) -> str:
    try:
        with open_file(path) as file:
            content = file.read(MAX_TOML + 1)
        if len(content) > MAX_TOML:
            raise ValueError(f"it has more than {MAX_TOML:,} bytes")
        text = decode(content)
        # TOML parsers take time quadratic in the depth of a dotted name.
        if any(piece.count(".") > _DEEPEST_NAME for piece in re.split(r"[^\w.\"'\s-]|\n", text)):
            raise ValueError("a name in it is too deeply nested")
        return text
    except (OSError, ValueError) as error:
        raise RecipeError(f"Cannot read the recipe {path}: {reason_of(error)}.", "Check the path.") from error
