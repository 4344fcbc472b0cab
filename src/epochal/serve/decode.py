"""From the body of a request to raw inputs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from epochal.data.inputs.base import InputRule
from epochal.data.inputs.text.read import Text, decoded
from epochal.errors import DataError
from epochal.io.safe_read import parse_json
from epochal.serve.refusal import RefusedError, bad, too_large

# The most files or items of a request.
MAX_ITEMS = 1000

# The most bytes of the inputs of a request, and of a text that is explained.
_MOST_BYTES, _EXPLAINED = 1 << 28, 1 << 16

_LONGEST_NAME = 100

# Which kind of model takes which type of content.
_KIND_OF = {"image": "picture", "audio": "sound", "text/plain": "text", "text/csv": "table", "text/tab-separated-values": "table"}
_SENDS = {
    "picture": "a picture (image/png, image/jpeg, ...)",
    "sound": "a sound (audio/wav, ...)",
    "text": "a text (text/plain)",
    "table": "a table (text/csv)",
}


class Item(NamedTuple):
    """Something to predict: the content of a file, or a value from JSON."""

    name: str
    value: Any
    is_file: bool


class Decoded(NamedTuple):
    """Inputs [n, *shape] of those items that could be read, the names of all, and by place what is wrong with others and a fix."""

    names: list[str]
    inputs: Tensor
    wrong: dict[int, tuple[str, str]]
    notes: list[str]


def items_in(kind: str, content_type: str, body: bytes) -> list[Item]:
    """Return the items in the body of a request to a model of a kind. Raises `RefusedError`."""
    medium = content_type.partition(";")[0].strip().lower()
    if medium == "application/json":
        return _from_json(body)
    if medium == "multipart/form-data":
        return _from_parts(content_type, body)
    wanted = _KIND_OF.get(medium) or _KIND_OF.get(medium.partition("/")[0])
    if wanted != kind:
        fix = f"Send {_SENDS[kind]}, a form or JSON." if kind in _SENDS else "Send a form or JSON."
        raise RefusedError(415, "wrong_type", f"The model does not take {medium[:50] or 'a body without a Content-Type'}.", fix)
    if not body:
        raise bad("The body is empty.", "Send the content of a file.")
    return [Item({"picture": "picture", "sound": "sound", "text": "text"}.get(kind, "table.csv"), body, is_file=True)]


def text_in(content_type: str, body: bytes) -> str:
    """Return the text in the body of a request for one. Raises `RefusedError` if it is too long to be taken apart."""
    if len(body) > _EXPLAINED:
        raise too_large(f"Texts of more than {_EXPLAINED:,} bytes are not explained.", "Send a part of it.")
    item = items_in("text", content_type, body)[0]
    return decoded(item.value, item.name) if item.is_file else str(item.value)


def _from_json(body: bytes) -> list[Item]:
    try:
        value = parse_json(body)
    except (ValueError, UnicodeDecodeError) as error:
        raise bad(f"The body is not JSON: {error}.", 'Send {"inputs": [...]} in UTF-8.') from error
    match value:
        case {"inputs": list(items), **more} if items and not more:
            _check_number(len(items))
            return [Item(str(place), item, is_file=False) for place, item in enumerate(items)]
    raise bad('The body is not {"inputs": [...]} with at least one input.', "See /openapi.json for examples.")


def _from_parts(content_type: str, body: bytes) -> list[Item]:
    """Split a form by its boundary (RFC 7578), which nothing in its parts contains."""
    found = re.search(r';\s*boundary=(?:"([^"]{1,70})"|([^\s";,]{1,70}))', content_type)
    delimiter = b"\r\n--" + (found[1] or found[2]).encode("latin-1") if found else b""
    whole = b"\r\n" + body
    if not delimiter or delimiter not in whole:
        raise bad("The body is not a form with the boundary of its Content-Type.", "Let your HTTP library make the form.")
    _check_number(whole.count(delimiter) - 1)
    _, *parts, last = whole.split(delimiter)
    if not parts or not last.startswith(b"--"):
        raise bad("The form has no part, or does not end.", "Let your HTTP library make the form.")
    return [_part(part) for part in parts]


def _part(part: bytes) -> Item:
    head, blank, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
    if not blank or len(head) > 4096:
        raise bad("A part of the form has no headers, or too long ones.", "Let your HTTP library make the form.")
    disposition = next(
        (line for line in head.decode("utf-8", "replace").split("\r\n") if line.lower().startswith("content-disposition:")), ""
    )
    fields = dict(re.findall(r';\s*(name|filename)="([^"]*)"', disposition))
    if fields.get("name") != "file":
        raise bad('A part of the form is not named "file".', 'Name each part "file".')
    return Item(shown_name(fields.get("filename", "")) or "file", content, is_file=True)


def shown_name(name: str) -> str:
    """Return the name of a file without its folders and characters that do not print."""
    name = "".join(filter(str.isprintable, re.split(r"[/\\]", name)[-1])).strip()
    return name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}"


def _check_number(count: int) -> None:
    if count > MAX_ITEMS:
        raise too_large(f"The request has {count:,} items, more than {MAX_ITEMS:,}.", "Send several requests.")


def decode(rule: InputRule, items: Sequence[Item]) -> Decoded:
    """Return the inputs of items, and what is wrong with those that have none."""
    names, inputs, wrong, notes = list[str](), list[Tensor](), dict[int, tuple[str, str]](), dict[str, None]()
    size = 0
    for item in items:
        try:
            found = rule.read_content(item.value, item.name) if item.is_file else _read_value(rule, item, notes)
        except DataError as error:
            wrong[len(names)] = error.problem, error.fix
            names.append(item.name)
            continue
        except Exception:  # noqa: BLE001  of damaged or nonsensical values, any library may raise anything.
            wrong[len(names)] = f"{item.name} cannot be read.", "See /openapi.json for examples."
            names.append(item.name)
            continue
        _check_number(len(names) + len(found))
        size += found.nbytes
        if size > _MOST_BYTES:
            raise too_large(f"The inputs would take more than {_MOST_BYTES / 1e6:.0f} MB of memory.", "Send several requests.")
        inputs.append(found)
        names += [item.name] if len(found) == 1 else [f"{item.name}[{row}]" for row in range(len(found))]
    return Decoded(names, torch.cat(inputs) if inputs else rule.zeros()[:0], wrong, list(notes))


def _read_value(rule: InputRule, item: Item, notes: dict[str, None]) -> Tensor:
    """Return the input of a value from JSON. A text is never taken for the name of a file."""
    match rule.kind, item.value:
        case "text", str(text):
            return rule.accept(Text(text))
        case "table", dict(row) if row and all(isinstance(value, str | int | float | None) for value in row.values()):
            notes.update(dict.fromkeys(rule.items([row]).notes))
            return rule.accept([row])
        case (("picture" | "sound" | "numbers"), list(values)):
            found = rule.accept(_numbers(values, rule))
            if len(found) == 1:
                return found
    expected = {"text": "a text", "table": "an object with a value for each column"}.get(rule.kind, f"an array of shape {rule.shape}")
    raise DataError(f"The input is not {expected}.", "See /openapi.json for examples.")


def _numbers(values: list[Any], rule: InputRule) -> np.ndarray[Any, Any]:
    """Return numbers as the rule's type, if that keeps their values: JSON has no types."""
    try:
        found = np.asarray(values)
    except ValueError:
        found = np.empty(0, object)
    if found.dtype.kind not in "iuf" or _has_truth(values):
        raise DataError("An input is not an array of numbers, all of whose rows have the same length.", "See /openapi.json for examples.")
    cast = found.astype(rule.dtype)
    if cast.dtype.kind in "iu" and not np.array_equal(cast, found):
        raise DataError(f"An input has numbers that are not {rule.dtype}.", "Send whole numbers in that range.")
    return cast


def _has_truth(values: list[Any]) -> bool:
    """Whether true or false is among numbers, where NumPy would take it for 1 or 0."""
    kinds = {*map(type, values)}
    return bool in kinds or (list in kinds and any(_has_truth(one) for one in values if isinstance(one, list)))
