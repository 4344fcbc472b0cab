"""Groups of examples that stay in one split (people, patients, speakers), recognized by the names of files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from epochal.data.examples import Found
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
                "Leave it out.",
            )
        parts[split] = replace(part, groups=groups_of(part.files, pattern))
    return replace(found, parts=parts, listing=found.listing.model_copy(update={"group": pattern}))


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
