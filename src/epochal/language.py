"""The language that the command speaks: Chinese under a Chinese locale, English everywhere else.

The code says everything in English. `zh.json` has templates of what it says, with {names} where values stand, and what that is in
Chinese; whatever has none there stays English. A value whose name begins with "said" is itself looked up; one called "n" is a number,
and one whose name begins with "short" has no semicolon. Only the command calls `speak`: exceptions, Python programs, JSON and files
are English.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

TABLE = Path(__file__).with_name("zh.json")

# A whole text, or a template as a pattern with its Chinese; both are empty where English is spoken.
_texts: dict[str, str] = {}
_templates: list[tuple[re.Pattern[str], str]] = []


def speak(encoding: str | None) -> bool:
    """Decide by the system's settings which language is spoken from here on; return whether that is Chinese.

    Where the output's encoding has no Chinese letters it is English.
    """
    _texts.clear()
    _templates.clear()
    if not (_wanted().startswith("zh") and _can_write(encoding)):
        return False
    import json

    for english, chinese in json.loads(TABLE.read_text("utf-8")).items():
        if "{" in english:
            _templates.append((_pattern(english), chinese))
        else:
            _texts[english] = chinese
    # Of several that match, the one that says most of it.
    _templates.sort(key=lambda template: -len(template[0].pattern))
    return True


def translated(text: str) -> str:
    """Return `text` in the language that is spoken, line by line; the blanks at both ends of each line stay."""
    if not _texts:
        return text
    return "\n".join(_line(line) for line in text.split("\n"))


def columns(text: str) -> int:
    """Return how many columns of a terminal text takes: a Chinese letter takes two."""
    if text.isascii():
        return len(text)
    from unicodedata import east_asian_width

    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def _wanted() -> str:
    """The language of messages by the standard variables, or what Windows shows; in lower case, "" where nothing says so."""
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    locale = next((os.environ[name] for name in names if os.environ.get(name)), "")
    if locale.split(".")[0] not in ("", "C", "POSIX") and os.environ.get("LANGUAGE"):
        # A list in the order of preference, which counts only beside a locale.
        locale = os.environ["LANGUAGE"].split(":")[0]
    if not locale and sys.platform == "win32":
        import ctypes

        # The lower ten bits tell the language, and 4 is Chinese.
        locale = "zh" if ctypes.windll.kernel32.GetUserDefaultUILanguage() & 0x3FF == 4 else ""
    return locale.lower()


def _can_write(encoding: str | None) -> bool:
    try:
        "中文：".encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _pattern(english: str) -> re.Pattern[str]:
    pieces = re.split(r"\{(\w+)\}", english)
    return re.compile("".join(_value(piece) if place % 2 else re.escape(piece) for place, piece in enumerate(pieces)))


def _value(name: str) -> str:
    form = "[0-9,]+" if name == "n" else "[^;]*" if name.startswith("short") else ".*?"
    return f"(?P<{name}>{form})"


def _line(line: str) -> str:
    inner = line.strip(" ")
    begin = len(line) - len(line.lstrip(" "))
    return line[:begin] + _said(inner) + line[begin + len(inner) :]


def _said(text: str) -> str:
    if text in _texts:
        return _texts[text]
    for pattern, chinese in _templates:
        if match := pattern.fullmatch(text):
            values = {name: _said(value) if name.startswith("said") else value for name, value in match.groupdict().items()}
            return chinese.format(**values)
    return text
