"""How data are to be read: what the user asked for, as one value from `load` to the sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from epochal.data.exclude import NOTHING, Exclusion
from epochal.data.inputs.base import InputRule
from epochal.data.inputs.picture.rule import ResizeMode
from epochal.data.inputs.text.rule import Tokens
from epochal.data.spec import DataSpec
from epochal.errors import RecipeError

Unreadable = Literal["stop", "count"]


# The settings for attributes of `TableOptions` that have other names.
_SETTINGS = {
    "targets": "target",
    "texts": "text",
    "kinds": "columns",
    "valid": "valid_data",
    "test": "test_data",
    "split": "split_column",
}


@dataclass(frozen=True)
class TableOptions:
    """What columns of a table mean: `targets` to predict, `texts` to learn from, those to `ignore`, and kinds by name.

    `file` is the column with names of pictures or sounds, `split` that with each row's split. `valid` and `test` are the files of further
    splits.
    """

    targets: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    kinds: Mapping[str, str] = field(default_factory=dict)
    valid: str | None = None
    test: str | None = None
    file: str | None = None
    split: str | None = None

    def given(self) -> dict[str, object]:
        """Return what the user asked for, by the names of the settings."""
        return {_SETTINGS.get(name, name): value for name, value in vars(self).items() if value}


@dataclass(frozen=True)
class ReadOptions:
    """The options of `load`, checked. `memory` is in bytes; `None` leaves a choice to the source.

    `vocabulary` is one of pieces of words, packed. `group` is a column, or a pattern in file names: examples in which it is the same stay
    in one split. `pretrained` is whether pictures are read for the pre-trained model, or the size that another takes them
    at; `None`: where they are few photographs.
    """

    size: int | tuple[int, int] | None = None
    fit: ResizeMode | None = None
    memory: float | None = None
    like: DataSpec | None = None
    exclusion: Exclusion = field(default=NOTHING)
    unreadable: Unreadable = "stop"
    input: InputRule | str | None = None
    table: TableOptions = field(default=TableOptions())
    rate: int | None = None
    seconds: float | None = None
    tokens: Tokens | None = None
    group: str | None = None
    windows: int | None = None
    vocabulary: str = ""
    pretrained: bool | int | tuple[int, int] | None = None


def refuse_options(options: ReadOptions, names: Sequence[str], what: str, kind: str) -> None:
    """Raise `RecipeError` for options of these names, which are only for a `kind` of data."""
    for name in names:
        setting = getattr(options, name)
        if setting is not None:
            raise RecipeError(f"The setting data.{name} = {setting} does not work with {what}: it is for {kind}.", "Leave it out.")


def refuse_table_options(options: ReadOptions, name: str) -> None:
    """Raise `RecipeError` for settings about columns of data that have none."""
    for setting, value in options.table.given().items():
        written = ", ".join(value) if isinstance(value, tuple) else value
        raise RecipeError(f"The setting data.{setting} = {written} does not work with {name}: it is for tables.", "Leave it out.")


NO_OPTIONS = ReadOptions()
