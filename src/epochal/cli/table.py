"""The table of settings that command-line options are made from, and the names that shells complete.

They repeat what the recipe's fields and the tables of models, recipes and data sets say, so that --help and completion need not import
these, which would take longer than everything else they do. A test fails where the two differ; `python -m epochal.cli.table` rewrites both.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

TABLE = Path(__file__).with_name("settings.json")
NAMES = Path(__file__).with_name("names.json")


class Row(NamedTuple):
    """A setting: its dotted name, its option, what a value looks like, its default, whether it is in `RUNTIME_SETTINGS`, and its help."""

    name: str
    option: str
    kind: str
    default: str
    is_runtime: bool
    description: str


@functools.cache
def read_table() -> tuple[Row, ...]:
    """Return the settings that are options, in the order of the recipe's fields."""
    return tuple(Row(*row) for row in json.loads(TABLE.read_text("utf-8")))


@functools.cache
def read_names() -> dict[str, dict[str, str]]:
    """Return the names of "datasets", "models" and "recipes", each with what it is."""
    found: dict[str, dict[str, str]] = json.loads(NAMES.read_text("utf-8"))
    return found


def made_from_tables() -> dict[str, dict[str, str]]:
    """Return what the names should be."""
    from epochal.data.sources import SOURCES
    from epochal.models.build import MODELS
    from epochal.recipe import presets, tutorials

    return {
        "datasets": {name: source.about for name, source in SOURCES.items()},
        "models": {name: entry.description for name, entry in MODELS.items()},
        "recipes": presets() | tutorials(),
    }


def made_from_fields() -> tuple[Row, ...]:
    """Return what the table should contain."""
    from epochal.recipe import RUNTIME_SETTINGS, fields, short_names

    short = {full: name for name, full in short_names().items()}
    return tuple(
        Row(
            name,
            "--" + re.sub(r"[._]", "-", short.get(name, name)),
            _kind(field.annotation),
            _words(field.get_default(call_default_factory=True)),
            name in RUNTIME_SETTINGS,
            field.description or "",
        )
        for name, field in fields()
        if get_origin(field.annotation) is not dict  # a table is written --set NAME={...}
    )


def _kind(annotation: Any) -> str:
    """Return what a value looks like, for --help."""
    if get_origin(annotation) is Literal:
        return "|".join(map(str, get_args(annotation)))
    if annotation in (int, float, str, bool):
        return {int: "INT", float: "NUMBER", str: "TEXT", bool: "BOOL"}[annotation]
    inner = [argument for argument in get_args(annotation) if argument is not type(None)]
    if get_origin(annotation) in (Union, UnionType):
        # Where a list may be given too, the description says so.
        return "|".join(_kind(argument) for argument in inner if get_origin(argument) is not tuple)
    return _kind(inner[0]) if inner else "VALUE"


def _words(default: Any) -> str:
    return "" if default is None or default in ((), {}) else str(default)


def _write() -> None:
    rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in made_from_fields())
    TABLE.write_text(f"[\n{rows}\n]\n", "utf-8", newline="\n")
    NAMES.write_text(json.dumps(made_from_tables(), ensure_ascii=False, indent=0) + "\n", "utf-8", newline="\n")


if __name__ == "__main__":
    _write()
