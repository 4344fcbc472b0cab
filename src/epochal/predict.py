"""Predictions, and reading the inputs for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy
import torch
from PIL import Image
from torch import Tensor

from epochal.data.inputs.base import InputRule
from epochal.data.inputs.table.files import is_table
from epochal.data.inputs.text.read import is_file
from epochal.data.sources.manifest import listed_files
from epochal.data.walk import PICTURES, SOUNDS, TEXTS
from epochal.errors import DataError
from epochal.progress import progress
from epochal.tasks.base import Prediction

# A tuple is a sound: its samples, and how many there are per second.
Input: TypeAlias = str | Path | Image.Image | numpy.ndarray[Any, Any] | Tensor | tuple[Any, int] | Mapping[str, Any]


# Says by its name whether a file is of a kind.
_KINDS: dict[str, Callable[[str], bool]] = {
    "picture": PICTURES.matches,
    "sound": SOUNDS.matches,
    "text": TEXTS.matches,
    "table": lambda name: is_table(Path(name)),
}


class Predictions(list[Prediction]):
    """Predictions in the order of their inputs.

    `names` are those of the inputs: FILE, FILE[NUMBER] if a file has several, or [INDEX] in a list. `unreadable` maps the names of
    unreadable inputs to their errors; `notes` say what else was skipped in folders, or cut off.
    """

    def __init__(
        self,
        predictions: Iterable[Prediction],
        names: Sequence[str] = (),
        unreadable: Mapping[str, DataError] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(predictions)
        self.names = tuple(names)
        self.unreadable = dict(unreadable or {})
        self.notes = tuple(notes)


class Read(NamedTuple):
    """Raw inputs [n, *spec.shape], or [0] if there are none; `names`, `unreadable` and `notes` as in `Predictions`."""

    inputs: Tensor
    names: tuple[str, ...]
    unreadable: Mapping[str, DataError]
    notes: tuple[str, ...]


class FoundItems(NamedTuple):
    """Items to predict, each of which has one input or several, and notes on what was skipped."""

    items: list[Any]
    notes: tuple[str, ...]


def find_items(what: Any, rule: InputRule, column: str = "") -> FoundItems:
    """Return the items in everything passed to `predict`: the files of folders, and of lists of files.

    If training had its files in this `column` of a table, tables stand for the files that they list.
    """
    found = [rule.items(one) for item in _items(what, rule) for one in _listed(item, column)]
    return FoundItems([item for one in found for item in one.items], tuple(note for one in found for note in one.notes))


def name_of(item: Any, place: int, rule: InputRule) -> str:
    """Return what the item at a place is called in predictions."""
    return rule.title(item) or f"[{place}]"


def read_item(item: Any, name: str, rule: InputRule) -> tuple[Tensor, list[str]]:
    """Return the raw inputs [n, *spec.shape] of an item, and their names. Raises `DataError` if it cannot be read."""
    _check_kind(item, rule)
    read = rule.read(item)
    return read, [name] if len(read) == 1 else [f"{name}[{number}]" for number in range(len(read))]


def read_items(what: Any, rule: InputRule, unreadable: Literal["stop", "count"], column: str = "") -> Read:
    """Return the raw inputs of everything passed to `predict`, read by `rule`, and what cannot be read; see `find_items`.

    Raises `DataError` for unreadable inputs if `unreadable` is "stop", or if there are no others.
    """
    items, found = find_items(what, rule, column)
    inputs: list[Tensor] = []
    names: list[str] = []
    wrong: dict[str, DataError] = {}
    with progress("Reading" if len(items) > 1 else "", len(items)) as advance:
        for place, item in enumerate(items):
            name = name_of(item, place, rule)
            try:
                read, those = read_item(item, name, rule)
            except DataError as error:
                if unreadable == "stop":
                    raise
                wrong[name] = error
            else:
                inputs.append(read)
                names += those
            advance()
    if wrong and not inputs:
        first = next(iter(wrong.values()))
        raise first if len(wrong) == 1 else DataError(f"None of {len(wrong):,} files can be read. {first.problem}", first.fix)
    return Read(torch.cat(inputs) if inputs else torch.empty(0), tuple(names), wrong, (*found, *rule.lost(items)))


def _check_kind(item: Any, rule: InputRule) -> None:
    """Raise `DataError` for a file whose suffix says that it is of another kind than the model takes."""
    if rule.kind not in _KINDS or not (isinstance(item, Path) or (isinstance(item, str) and is_file(item))):
        return
    found = [kind for kind, is_so in _KINDS.items() if is_so(str(item))]
    if found and rule.kind not in found:
        raise DataError(f"{item} is a {found[0]}: this model takes {rule.kind}s.", f"Give {rule.kind}s, or ask a model of {found[0]}s.")


def _listed(item: Any, column: str) -> Sequence[Any]:
    """Return the files that a table lists in a column, or the item itself."""
    if column and isinstance(item, str | Path) and is_table(Path(item)) and Path(item).is_file():
        return [Path(file) for file in listed_files(item, column)]
    return [item]


def _items(what: Any, rule: InputRule) -> list[Any]:
    """Return the items passed to `predict`, each of which has one input or several."""
    if rule.is_item(what):
        return [what]
    if isinstance(what, Mapping):
        raise DataError(
            "A dict of inputs cannot be used: the model identifies numbers by their order.", "Pass them in the order of training."
        )
    if isinstance(what, str | Path | Image.Image | Tensor) or hasattr(what, "__array__") or not isinstance(what, Iterable):
        return [what]
    items = list(what)
    if items and rule.is_item(items[0]):
        return items
    # A list contains paths, pictures and arrays; or it is an array itself.
    holds = bool(items) and (isinstance(items[0], str | Path | Image.Image) or bool(numpy.ndim(items[0])))
    return items if holds and not isinstance(items[0], list | tuple) else [items] if items else []
