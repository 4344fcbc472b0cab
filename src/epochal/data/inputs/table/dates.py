"""Dates in tables."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from math import nan

import numpy as np
from numpy.typing import NDArray

from epochal.data.inputs.table.cells import Values

_ISO = re.compile(r"\d{4}([-/])\d{1,2}\1\d{1,2}([ T].+)?")
_GERMAN = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})")


def day(word: str) -> float | None:
    """Return a date, such as 2024-02-29, 2024-02-29 12:30, 2024/2/29 or 29.2.2024, as days since 1970; `None` for anything else."""
    if german := _GERMAN.fullmatch(word):
        word = "-".join(reversed(german.groups()))
    elif not _ISO.fullmatch(word):
        return None
    date, _, time = word.replace("/", "-", 2).replace("T", " ", 1).partition(" ")
    date = "-".join(part.zfill(2) for part in date.split("-"))
    try:
        found = datetime.fromisoformat(f"{date} {time}".strip())
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() / 86_400


def date_of(day: float) -> str:
    """Return days since 1970 as a date, with the time if it is not midnight."""
    try:
        found = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)
    except OverflowError:
        return f"{day:.0f} days after 1970-01-01"
    return found.strftime("%Y-%m-%d") if found.hour == found.minute == 0 else found.strftime("%Y-%m-%d %H:%M")


def days(values: Values) -> NDArray[np.float64] | str:
    """Return words as days since 1970, NaN where missing; or the first word that is not a date."""
    assert values.codes is not None
    found = [day(word) for word in values.words]
    wrong = next((word for word, value in zip(values.words, found, strict=True) if value is None), None)
    return wrong if wrong is not None else np.array([*found, nan], np.float64)[values.codes]
