"""Groups of examples that stay in one split (people, patients, speakers): by the names of files, or as a program passes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from epochal.data.examples import Found, address
from epochal.errors import DataError, RecipeError

_MEANING = (
    "For files, --group is a regular expression that is searched for in the name of each, or in its path if it has a slash; the first "
    "parenthesis is the group: '([a-z]+)_' finds jackson in 7/jackson_12.wav."
)


def group_by_name(found: Found, pattern: str) -> Found:
    """Return what a source found with the group of each file. Raises `RecipeError` for data without files, `DataError` for others."""
    parts = {}
    for split, part in found.parts.items():
        if part.files is None:
            raise RecipeError(
                f"The setting data.group = {pattern} does not work with {found.name}: it is for tables, and folders of files.",
                "Leave it out; or in Python, pass the group of each example: load(data, group=[...]).",
            )
        parts[split] = replace(part, groups=groups_of(part.files, pattern))
    return replace(found.changed(parts), listing=found.listing.model_copy(update={"group": pattern}))


def group_by_value(found: Found, groups: Any) -> Found:
    """Return what a source found with the groups of its examples: a word or a number for each of train, or a mapping from split to these.

    Raises `DataError` for other numbers of them, and for what is missing.
    """
    given = groups if isinstance(groups, Mapping) else {"train": groups}
    if strange := [split for split in given if split not in found.parts]:
        raise DataError(
            f"There are groups of {', '.join(map(str, strange))}, but the data have {', '.join(found.parts)}.", "Leave them out."
        )
    parts = {**found.parts, **{split: replace(found.parts[split], groups=_words(some, split)) for split, some in given.items()}}
    for split, part in parts.items():
        if part.groups is not None and len(part.groups) != len(part.inputs):
            raise DataError(
                f"The {split} data have {len(part.groups):,} groups for {len(part.inputs):,} examples.", "Pass one for each example."
            )
    name = getattr(groups, "name", None)
    return replace(found.changed(parts), listing=found.listing.model_copy(update={"group": name if isinstance(name, str) else ""}))


def _words(groups: Any, split: str) -> list[str]:
    values = groups.tolist() if hasattr(groups, "tolist") else list(groups)
    for place, value in enumerate(values):
        if value is None or value != value or type(value).__name__ == "NAType" or (isinstance(value, str) and not value.strip()):
            fix = "Fill it in: an example that belongs to no other needs a group of its own."
            raise DataError(f"The group of {address(split, place)} is missing.", fix)
        if not isinstance(value, str | int | float):
            raise DataError(f"The group of {address(split, place)} is of type {type(value).__name__}.", "Give a word or a number.")
    return list(map(str, values))


def groups_of(files: Iterable[str], pattern: str) -> list[str]:
    """Return what the pattern's first parenthesis matches in each file's name; in its whole path, if the pattern has a slash.

    Raises `RecipeError` if it is not a regular expression, and `DataError` for a file in which it does not match.
    """
    try:
        search = re.compile(pattern).search
    except re.error as error:
        raise RecipeError(f"The setting data.group = {pattern} is not a regular expression: {error}.", _MEANING) from error
    groups = []
    for file in files:
        match = search(file if "/" in pattern else file.rpartition("/")[2])
        found = match and (match[1] if match.re.groups else match[0])
        if not found:
            raise DataError(f"The pattern --group '{pattern}' finds no group in {file}.", _MEANING)
        groups.append(found)
    return groups
