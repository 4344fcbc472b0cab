"""The language that the command speaks: Chinese under a Chinese locale, English everywhere else; and the server to who asks for Chinese.

All messages in the code are English. `zh.json` maps them, as templates with {names} in place of values, to Chinese. What has no entry
is translated by its sentences, the parts of a list, and of "FILE is ..." what is said of the file; or it stays English. A value with
"said" in its name is itself translated; one called "n" is a number, and other names restrict what may stand there too (`_FORMS`). Only
the command calls `speak`: exceptions, Python programs, JSON and the files of runs are English; of answers of the server, what is for people
is in the language that the client prefers.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).with_name("zh.json")

# Where a template has a value.
_VALUE = re.compile(r"\{(\w+)\}")

# Longer lines are lists rather than messages, and matching them with templates of many values could take minutes.
_LONGEST = 1000

# Between what a sentence is about, such as a file, and what is said of it, which has an entry of its own.
_VERB = re.compile(r" (?=(?:is|has|contains|does|may|cannot|says) )")
# What values may be, by how their names begin.
_FORMS = {
    "short": "[^;]*",
    "quoted": "'[^']*'",
    "said_table": "The table",
    "counted": "[0-9,]+ [a-z]+(?: [a-z]+)?",
    "are": "(?:is|are)",
    "were": "(?:was|were)",
    "have": "(?:has|have)",
    "plural": "s?",
    "number": "[-+0-9.,e]+",
    "setting": "[a-z_.]+",
    "format": r"[A-Z]\w*",
}
_QUALITY = re.compile(r"q=([01](?:\.[0-9]{0,3})?)")
_NUMBER = re.compile(r"(?:n = )?[-+0-9.,]+(?: (?:s|%))?")
# The parts of longer lists are values.
_LONGEST_LIST = 6
_PREFIXES = ("note: ", "check: ")
# Names of values that are translated.
_TRANSLATED = re.compile("said|counted")

# A template that begins with a value needs so many letters of its own, to be used where not all of its parts have Chinese.
_MUCH = 7

# Of the languages that a client accepts, so many are looked at.
_MOST_ACCEPTED = 20

_chosen = "en"


class _Template(NamedTuple):
    """A text with values, and its Chinese; the longest of its pieces between values, and whether all parts need some Chinese."""

    english: str
    chinese: str
    piece: str
    is_vague: bool


class _Table(NamedTuple):
    """Whole texts with their Chinese, and templates."""

    texts: dict[str, str]
    templates: list[_Template]


@cache
def _table() -> _Table:
    import json

    found = _Table({}, [])
    # Of several templates that match, one with a prefix is used first, and that with most of its own.
    table = json.loads(TABLE.read_text("utf-8"))
    for english, chinese in sorted(table.items(), key=lambda entry: (not entry[0].startswith(_PREFIXES), -len(_own(entry[0])))):
        if _VALUE.search(english):
            piece = max(_VALUE.split(english)[::2], key=len)
            found.templates.append(_Template(english, chinese, piece, english.startswith("{") and len(_own(english)) < _MUCH))
        else:
            found.texts[english] = chinese
    return found


def speak(encoding: str | None) -> bool:
    """Choose the language by the system's settings; return whether it is Chinese.

    If the encoding of the output has no Chinese characters, it is English.
    """
    global _chosen
    _chosen = "zh" if _wanted().startswith("zh") and _can_write(encoding) else "en"
    return _chosen == "zh"


def translated(text: str, into: str = "") -> str:
    """Return `text` in a language, the chosen one by default, line by line; spaces at both ends of each line are preserved."""
    if (into or _chosen) != "zh":
        return text
    return "\n".join(_line(line) for line in text.split("\n"))


def language() -> str:
    """Return the chosen language: "zh" or "en"."""
    return _chosen


def preferred(accepted: str) -> str:
    """Return the language, "zh" or "en", that is preferred in the value of an Accept-Language header."""
    found = []
    for one in accepted.split(",")[:_MOST_ACCEPTED]:
        name, _, quality = one.partition(";")
        weight = _QUALITY.fullmatch(quality.strip() or "q=1")
        if (first := name.strip().lower().partition("-")[0]) in ("zh", "en") and weight is not None and float(weight[1]) > 0:
            found.append((float(weight[1]), first))
    # Of equal ones the first.
    return max(found, key=lambda one: one[0], default=(0.0, "en"))[1]


def columns(text: str) -> int:
    """Return how many columns `text` takes in a terminal: a Chinese character takes two."""
    if text.isascii():
        return len(text)
    from unicodedata import east_asian_width

    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def _wanted() -> str:
    """Return the language by the standard variables, or that of Windows, in lower case; "" if it is unknown."""
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    locale = next((os.environ[name] for name in names if os.environ.get(name)), "")
    if locale.split(".")[0] not in ("", "C", "POSIX") and os.environ.get("LANGUAGE"):
        # A list in order of preference, which counts only if there is a locale.
        locale = os.environ["LANGUAGE"].split(":")[0]
    if not locale and sys.platform == "win32":
        import ctypes

        # The lower ten bits are the language; 4 is Chinese.
        locale = "zh" if ctypes.windll.kernel32.GetUserDefaultUILanguage() & 0x3FF == 4 else ""
    return locale.lower()


def _can_write(encoding: str | None) -> bool:
    try:
        "中文：".encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _own(english: str) -> str:
    return _VALUE.sub("", english)


@cache
def _pattern(english: str) -> re.Pattern[str]:
    pieces = _VALUE.split(english)
    return re.compile("".join(_form(piece) if place % 2 else re.escape(piece) for place, piece in enumerate(pieces)))


def _form(name: str) -> str:
    forms = (form for start, form in _FORMS.items() if name.startswith(start))
    return f"(?P<{name}>{'[0-9,]+' if name == 'n' else next(forms, '.*?')})"


def _line(line: str) -> str:
    inner = line.strip(" ")
    begin = len(line) - len(line.lstrip(" "))
    return line[:begin] + _said(inner) + line[begin + len(inner) :]


def _said(text: str) -> str:
    """Return the Chinese of what has some, whole or by sentences, and the rest as it is."""
    sentences = [text] if text in _table().texts else re.split(r"(?<=[.?!]) (?=[A-Z0-9]|\(Did )", text)
    if len(sentences) > 1 and all(known := [_known(sentence) for sentence in sentences]):
        return "".join(filter(None, known))
    if (whole := _known(text) or _found(text)) is not None or len(sentences) == 1:
        return text if whole is None else whole
    # What ends in English keeps the space after it.
    return "".join(f"{sentence} " if sentence[-1:].isascii() else sentence for sentence in map(_said, sentences)).rstrip(" ")


def _known(text: str) -> str | None:
    """Return the Chinese of an entry, or of parts that all have entries; `None` if there is none."""
    if not text or _NUMBER.fullmatch(text):
        return text
    if (found := _found(text, complete=True)) is not None:
        return found
    if text.endswith("."):
        inner = _known(text[:-1])
        return inner and f"{inner}。"
    for verb in _VERB.finditer(text):
        if (found := _found(text[verb.end() :], complete=True)) is not None:
            return f"{text[: verb.start()]} {found}"
    file, colon, note = text.partition(": ")
    if colon and (found := _found(note, complete=True)) is not None:
        return f"{file}：{found}"
    return _listed(text, "; ", "；") or _listed(text, ", ", "，")


def _listed(text: str, separator: str, chinese: str) -> str | None:
    """Return the Chinese of a list of which each part has some; `None` if not."""
    places = [match.start() for match in re.finditer(separator, text)]
    for place in reversed(places if len(places) <= _LONGEST_LIST else ()):
        tail = _found(text[place:], complete=True) or _found(text[place + 2 :], complete=True)
        if tail is not None:
            head = _known(text[:place])
            return head and (f"{head}{tail}" if tail.startswith(chinese) else f"{head}{chinese}{tail}")
    return None


# Parts of a text are parts of its parts, too.
@lru_cache(maxsize=4096)
def _found(text: str, *, complete: bool = False) -> str | None:
    """Return the Chinese of an entry, if possible one of which all parts have some; `None` if there is none."""
    texts, templates = _table()
    if text in texts:
        return texts[text]
    if len(text) > _LONGEST:
        return None
    partly = None
    for english, chinese, piece, is_vague in templates:
        # Most have a piece that is not in the text, which is found in a hundredth of the time that patterns take.
        if piece in text and (match := _pattern(english).fullmatch(text)):
            parts = {name: value for name, value in match.groupdict().items() if _TRANSLATED.search(name)}
            known = {name: _known(value) for name, value in parts.items()}
            if None not in known.values():
                return _filled(chinese, {**match.groupdict(), **known})
            if partly is None and not (complete or is_vague):
                partly = _filled(chinese, {**match.groupdict(), **{name: _said(value) for name, value in parts.items()}})
    return partly


def _filled(chinese: str, values: Mapping[str, str | None]) -> str:
    return _VALUE.sub(lambda match: values[match[1]] or "", chinese)
