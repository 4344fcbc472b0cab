"""What the columns of training data mean: numbers, dates, categories; or nothing that could be learned."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from epochal.data.inputs.table.cells import Values, parse_numbers
from epochal.data.inputs.table.columns import Column, ColumnKind, choose_column
from epochal.data.inputs.table.dates import days
from epochal.data.inputs.table.values import Table

Meaning = Literal[ColumnKind, "constant", "identifier", "text"]

# With fewer rows nothing is said about how often values repeat.
_FEW = 20

# Columns of words are categories up to this share of distinct words; text has more words in each value than categories have.
_REPEATED = 0.5
_WORDS_OF_TEXT = 4

_LEFT_OUT: Mapping[Meaning, str] = {
    "constant": "left out, always the same: {names}",
    "identifier": "left out, another for each row: {names}; --column NAME=category or number takes one in",
    "text": "left out, texts: {names}; --text NAME learns from one, --column NAME=category takes it in",
}

# Words that look like numbers with separators or units, and like dates; so many of a column are looked at.
_LIKE_NUMBERS = re.compile(r"[$€£¥]?\s?[+-]?\d[\d.,' ]*\s?(%|[$€£¥]|[^\W\d_]{1,3}[²³]?)?")
_LIKE_DATES = re.compile(r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}\b.*")
_LOOKED_AT = 10_000

# A column is nearly numbers if so large a share of its values are.
_NEARLY = 0.9

_KEY = ("id", "key", "uuid", "guid", "index")
_NAMED = 8


def meaning_of(name: str, values: Values) -> Meaning:
    """Return what a column means by its values, and whether it numbers the rows by its name."""
    there, rows = ~values.missing, len(values)
    if values.numbers is not None:
        numbers = values.numbers[there]
        distinct = np.unique(numbers)
        if len(distinct) < 2 and (len(distinct) == 0 or there.all()):
            return "constant"
        is_all = len(distinct) == rows >= _FEW and bool((distinct == distinct.round()).all())
        is_counted = is_all and distinct[-1] - distinct[0] == rows - 1 and bool((np.diff(numbers) == 1).all())
        return "identifier" if is_counted or (is_all and is_key(name)) else "number"
    if len(values.words) < 2 and (not values.words or there.all()):
        return "constant"
    if not isinstance(days(values), str):
        return "date"
    share = len(values.words) / max(1, int(there.sum()))
    lengths = sum(len(word.split()) for word in values.words) / len(values.words)
    if rows >= _FEW and share > _REPEATED:
        return "text" if lengths >= _WORDS_OF_TEXT else "identifier" if share > 0.9 else "category"
    return "category"


def is_key(name: str) -> bool:
    """Whether a column is named like the number of a row."""
    return any(part in _KEY for part in name.lower().replace("-", "_").replace(" ", "_").split("_"))


def choose_columns(table: Table, names: Sequence[str], kinds: Mapping[str, ColumnKind]) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    """Return the columns to learn from, of those in `names`, and notes on what each was taken as; `kinds` are those that the user set."""
    meanings: dict[str, Meaning] = {}
    shares: dict[str, float] = {}
    doubts: list[str] = []
    for name in names:  # One at a time is in memory.
        values = table.columns[name]
        meanings[name] = kinds.get(name) or meaning_of(name, values)
        shares[name] = float(values.missing.mean())
        if name not in kinds and values.codes is not None and meanings[name] not in ("constant", "date"):
            doubts += _doubts(name, values, comma=table.comma)
    chosen = [choose_column(table, name, kind) for name, kind in meanings.items() if kind in ("number", "date", "category")]
    return tuple(chosen), (*_notes(meanings, chosen, shares), *doubts[:_NAMED])


def _doubts(name: str, values: Values, *, comma: bool) -> Iterator[str]:
    """Yield why a column of words may have been meant as numbers, or dates."""
    assert values.codes is not None
    words = values.words[:_LOOKED_AT]
    counts = np.bincount(values.codes[values.codes >= 0], minlength=len(values.words))[: len(words)]
    are_numbers = np.array([parse_numbers([word], comma=comma) is not None for word in words])
    if counts[are_numbers].sum() >= _NEARLY * counts.sum():
        place = int((counts * ~are_numbers).argmax())
        rows = f"{counts[place]:,} {'row' if counts[place] == 1 else 'rows'}"
        yield f"{name} is not taken as numbers because of '{words[place][:20]}' ({rows}): leave these empty if they are missing values"
    elif len(words) >= _FEW and all(map(_LIKE_DATES.fullmatch, words)):
        yield f"{name} looks like dates, such as '{words[-1][:20]}': write them as 2024-02-29"
    elif len(words) >= _FEW and all(map(_LIKE_NUMBERS.fullmatch, words)):
        yield f"{name} looks like numbers, such as '{words[-1][:20]}': write them without units and separators, as 1234.5"


def _notes(meanings: Mapping[str, Meaning], chosen: Sequence[Column], missing: Mapping[str, float]) -> Iterator[str]:
    """Say what columns were taken as: a line for each kind."""
    for kind, note in (("number", "numbers: {names}"), ("date", "dates: {names}")):
        if names := [name for name, meaning in meanings.items() if meaning == kind]:
            yield note.format(names=_some(names))
    if found := [f"{column.name} ({len(column.words):,})" for column in chosen if not column.is_number]:
        yield f"categories: {_some(found)}"
    for meaning, note in _LEFT_OUT.items():
        if names := [name for name, found in meanings.items() if found == meaning]:
            yield note.format(names=_some(names))
    shares = {column.name: missing[column.name] for column in chosen}
    if gaps := [f"{name} {100 * share:.2g} %" for name, share in sorted(shares.items(), key=lambda pair: -pair[1]) if share]:
        yield f"missing values: {_some(gaps)}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
