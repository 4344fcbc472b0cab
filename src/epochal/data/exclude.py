"""Examples to leave out, as a text file: one name per line, with comments.

    # the same pixels as test/cat/2.jpg
    train/cat/7.jpg

A name is the path of a file relative to the folder of the data, with slashes; or, for examples without files, their place: train[17].
Lines that are empty or begin with # are ignored. A name that would be ambiguous (because it begins with # or a quotation mark, or
contains a line break) is written as a JSON string, in quotation marks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from epochal.errors import DataError, reason_of
from epochal.io.files import write_text
from epochal.io.safe_read import text_of


@dataclass(frozen=True)
class Exclusion:
    """Names to leave out, each with where it was read (for error messages)."""

    names: Mapping[str, str]
    source: str = "exclude"

    def check(self, known: Iterable[str], data: str) -> None:
        """Raise `DataError` for the first name that is not among the `known` ones."""
        strange = self.names.keys() - set(known)
        if strange:
            first = next(name for name in self.names if name in strange)
            raise DataError(
                f"{self.names[first]}: there is no example '{first}' in {data}.",
                "Remove or fix that line; `epochal check DATA --quarantine FILE` shows how names are written.",
            )

    def check_remaining(self, left: int, what: str) -> None:
        """Raise `DataError` if nothing of `what` is `left`."""
        if not left:
            raise DataError(f"{self.source} leaves out all of {what}.", "Leave out fewer, or remove it from the data.")


# Leaves out nothing.
NOTHING = Exclusion({})


def as_exclusion(what: str | Path | Sequence[str] | None) -> Exclusion:
    """Return the exclusion that a user passes: the path of a list, names, or nothing. Raises `DataError` if the list cannot be read."""
    if what is None:
        return NOTHING
    if isinstance(what, str | Path):
        return read_exclusion(Path(what).expanduser())
    names: dict[str, str] = {}
    for place, name in enumerate(what):
        names.setdefault(name, f"exclude[{place}]")
    return Exclusion(names)


def read_exclusion(path: Path) -> Exclusion:
    """Read a list. Raises `DataError` naming the file and the line."""
    try:
        text = text_of(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(
            f"The list of examples to leave out, {path}, cannot be read: {reason_of(error)}.", "Check the setting data.exclude."
        ) from error
    names: dict[str, str] = {}
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        name, where = line.strip(), f"{path}, line {number}"
        if name and not name.startswith("#"):
            names.setdefault(_unquoted(name, where), where)
    return Exclusion(names, str(path))


def write_exclusion(path: Path, reasons: Mapping[str, str], head: str = "") -> None:
    """Write a list of names, each with its reason in a comment above, atomically."""
    lines = [f"# {line}" for line in head.splitlines()]
    before = ""
    for name, reason in reasons.items():
        if reason != before:
            lines += ["", f"# {' '.join(_printable(reason).split())}"]
            before = reason
        lines.append(_quoted(name))
    write_text(path, "\n".join(lines) + "\n")


def _quoted(name: str) -> str:
    return name if name and name.isprintable() and name.strip() == name and name[0] not in '#"' else json.dumps(name)


def _unquoted(line: str, where: str) -> str:
    if not line.startswith('"'):
        return line
    try:
        name = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: a line in quotation marks must be a JSON string: {error}.", "Fix that line.") from error
    return str(name)


def _printable(text: str) -> str:
    """Return the text with escapes for names that are not Unicode."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
