"""Files that contain the SHA-256 of their own content, so that any change to them is detected."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from epochal.io.files import as_bytes

_KEY = "sha256"

CHANGED = "it has changed since it was written (its SHA-256 differs)"


def with_checksum(value: dict[str, Any]) -> dict[str, Any]:
    """Return a value for JSON with its SHA-256 as the last entry, for `verify_checksum`; an older one is replaced."""
    inner = _without_checksum(value)
    return {**inner, _KEY: _digest(inner)}


def verify_checksum(value: dict[str, Any]) -> dict[str, Any]:
    """Return the value that was given to `with_checksum`. Raises `ValueError` if it has changed."""
    inner = _without_checksum(value)
    if _KEY not in value:
        raise ValueError("it has no SHA-256 of its content")
    if value[_KEY] != _digest(inner):
        raise ValueError(CHANGED)
    return inner


def text_with_checksum(text: str) -> str:
    """Return a text in which "#" begins a comment, with its SHA-256 as the last line, for `verified_text`."""
    return f"{text}# {_KEY}: {hashlib.sha256(as_bytes(text)).hexdigest()}\n"


def verified_text(text: str) -> str:
    """Return the text that was given to `text_with_checksum`. Raises `ValueError` if it has changed."""
    *lines, last = text.splitlines(keepends=True) or [""]
    if not last.startswith(f"# {_KEY}: "):
        raise ValueError("its last line is not the SHA-256 of its content")
    inner = "".join(lines)
    if text_with_checksum(inner) != text:
        raise ValueError(CHANGED)
    return inner


def _without_checksum(value: dict[str, Any]) -> dict[str, Any]:
    return {name: inner for name, inner in value.items() if name != _KEY}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()
