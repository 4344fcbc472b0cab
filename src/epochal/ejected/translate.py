"""Comments, docstrings and messages of a program in Chinese."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_name("zh.json")

# A docstring, a message, or a comment: what is before it, it, and what follows.
_TEXTS = (
    re.compile(r'( *""")(.+)(""")'),
    re.compile(r'( *print\(f")(.+)("\))'),
    re.compile(r"(.*# )(.*[a-z].*)()"),
)


def in_chinese(program: str) -> str:
    """Return a program whose texts are Chinese; what has no Chinese stays as it is."""
    lines = program.split("\n")
    for place, line in enumerate(lines):
        if (found := _text(line)) is not None:
            lines[place] = found[1] + _table().get(found[2], found[2]) + found[3]
    return "\n".join(lines)


def texts(program: str) -> Iterator[str]:
    """Yield the texts of a program."""
    yield from (found[2] for line in program.split("\n") if (found := _text(line)) is not None)


def _text(line: str) -> re.Match[str] | None:
    return next((found for pattern in _TEXTS if (found := pattern.fullmatch(line))), None)


@cache
def _table() -> dict[str, str]:
    table: dict[str, str] = json.loads(TABLE.read_text("utf-8"))
    return table
