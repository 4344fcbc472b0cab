"""A `Recipe`: the settings of one experiment, built in layers, each value with the origin that it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pydantic
from pydantic import PrivateAttr

from epochal.errors import RecipeError, suggest
from epochal.recipe.elsewhere import ELSEWHERE
from epochal.recipe.settings import AllSettings, fields, short_names

DEFAULT = "default"

_LISTS = "`epochal recipes mnist` shows all of them, and `epochal train --help` explains them."


class Recipe(AllSettings):
    """All settings of one experiment, each with its origin."""

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def examples_per_step(self) -> int:
        """The batch size of a recipe in which it is no longer "auto"."""
        assert self.batch_size != "auto", 'resolve "auto" first'
        return self.batch_size

    @property
    def threads_per_step(self) -> int:
        """The CPU threads of a recipe in which their number is no longer "auto"."""
        assert self.threads != "auto", 'resolve "auto" first'
        return self.threads

    @property
    def split_seed(self) -> int:
        """The seed by which validation and test examples are split off."""
        return self.seed if self.data.split_seed is None else self.data.split_seed

    def origin(self, setting: str) -> str:
        """Where the value of a setting such as "optimizer.lr" came from: "default", a preset's name, "command line", "measured", ..."""
        return self._origins.get(setting, DEFAULT)

    def origins(self) -> dict[str, str]:
        """The origin of every setting by its dotted name."""
        return {name: self.origin(name) for name in self.flat()}

    def with_origins(self, origins: Mapping[str, str]) -> Recipe:
        """Return the same settings with other origins, by their dotted names."""
        recipe = self.model_copy()
        recipe._origins = {name: origin for name, origin in origins.items() if origin != DEFAULT}
        return recipe

    def flat(self) -> dict[str, Any]:
        """Every setting by its dotted name, in the order of definition."""
        return dict(_flatten(self.model_dump()))

    def updated(self, changes: Mapping[str, Any], origin: str = "given") -> Recipe:
        """Return a recipe with `changes` on top, each remembering its `origin`.

        `changes` may be nested or dotted, and use short names: `{"lr": 0.1}` is `{"optimizer.lr": 0.1}`. Choosing another
        model drops the options of the previous one. Raises `RecipeError` for an unknown name, a wrong type, or a value out of range.
        """
        values, origins = self.flat(), dict(self._origins)
        flat = {full_name(name): value for name, value in _flatten(changes)}
        # Options given while the model is "auto" belong to the model that the data choose.
        if "model.name" in flat and self.model.name not in ("auto", flat["model.name"]):
            for option in self.model.options:
                values.pop(f"model.{option}")
                origins.pop(f"model.{option}", None)
        for name, value in flat.items():
            values[name] = value
            origins[name] = origin
        return _validated(_nest(values), origin).with_origins(origins)

    def __repr__(self) -> str:
        chosen = ", ".join(f"{name} = {value!r}" for name, value in self.flat().items() if self.origin(name) != DEFAULT)
        return f"Recipe({chosen or 'all defaults'})"

    __str__ = __repr__

    def to_toml(self, *, only_given: bool = False) -> str:
        """Return the recipe as TOML, each value followed by its origin as a comment. Settings that are `None` are left out, and with
        `only_given` so are defaults."""
        import tomlkit

        document = tomlkit.document()
        for name, value in self.flat().items():
            if value is None or value == {} or (only_given and self.origin(name) == DEFAULT):
                continue
            *groups, last = name.split(".")
            table: Any = document
            for group in groups:
                if group not in table:
                    table.add(group, tomlkit.table())
                table = table[group]
            item = tomlkit.item(list(value) if isinstance(value, tuple) else value)
            item.comment(self.origin(name))
            table.add(last, item)
        return tomlkit.dumps(document)


def full_name(name: str) -> str:
    """Return the dotted name of a setting that is given by it, by its short name, or by the name of its group. Raises `RecipeError`."""
    known = dict(fields())
    if name in known or name.startswith("model."):
        return name
    short = short_names()
    if name in short:
        return short[name]
    if matches := [full for full in known if full.endswith(f".{name}")]:
        raise RecipeError(f"The setting '{name}' could be any of {', '.join(matches)}.", "Write out its full name.")
    meant = ELSEWHERE.get(name)
    raise RecipeError(
        f"Unknown setting '{name}'.", f"Did you mean '{meant}'?" if meant else suggest(name, {*known, *short}, otherwise=_LISTS)
    )


def type_of(setting: str) -> Any:
    """Return the type of a setting by its name, full or short; for a model's option, which only the model knows, `Any`.

    Raises `RecipeError` for an unknown name.
    """
    field = dict(fields()).get(full_name(setting))
    return Any if field is None else field.annotation


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        # optimizer.options and data.columns are mappings themselves: each is one value.
        if isinstance(value, Mapping) and name.rpartition(".")[2] not in ("options", "columns"):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _nest(values: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in values.items():
        group, dot, inner = name.partition(".")
        if dot:
            nested.setdefault(group, {})[inner] = value
        else:
            nested[name] = value
    return nested


def _validated(values: dict[str, Any], origin: str) -> Recipe:
    try:
        # TOML and JSON have lists where the settings are tuples.
        return Recipe.model_validate(_tuples(values))
    except pydantic.ValidationError as error:
        # If a setting may be of several types, the deepest error is that of the type that was meant.
        first = max(error.errors(), key=lambda found: len(found["loc"]))
        described = dict(fields())
        words = {word for name in described for word in name.split(".")}
        name = ".".join(str(part) for part in first["loc"] if isinstance(part, str) and part in words)
        fix = f"{name}: {described[name].description}." if name in described else ""
        message = first["msg"].removeprefix("Input should be ")
        raise RecipeError(f"The setting {name} = {first['input']!r} ({origin}) cannot be used: it should be {message}.", fix) from error


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {name: _tuples(item) for name, item in value.items()}
    return value
