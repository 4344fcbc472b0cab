"""The language that the command speaks: Chinese under a Chinese locale, English everywhere else.

All messages in the code are English. `zh.json` maps them, as templates with {names} in place of values, to Chinese; a message
without an entry stays English. A value whose name begins with "said" is itself translated; one called "n" is a number, one whose name
begins with "short" contains no semicolon, and one called "defect" says what is wrong with a file: it must have an entry of its own.
Only the command calls `speak`: exceptions, Python programs, JSON and files are English.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

TABLE = Path(__file__).with_name("zh.json")

# Longer lines are lists rather than messages, and matching them with templates of many values could take minutes.
_LONGEST = 1000

# Whole texts, and patterns of templates, with their Chinese; both are empty while the language is English.
_texts: dict[str, str] = {}
_templates: list[tuple[re.Pattern[str], str]] = []


def speak(encoding: str | None) -> bool:
    """Choose the language by the system's settings; return whether it is Chinese.

    If the encoding of the output has no Chinese characters, it is English.
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
    # Of several templates that match, the longest one is used.
    _templates.sort(key=lambda template: -len(template[0].pattern))
    return True


def translated(text: str) -> str:
    """Return `text` in the chosen language, line by line; spaces at both ends of each line are preserved."""
    if not _texts:
        return text
    return "\n".join(_line(line) for line in text.split("\n"))


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


def _pattern(english: str) -> re.Pattern[str]:
    pieces = re.split(r"\{(\w+)\}", english)
    return re.compile("".join(_value(piece) if place % 2 else re.escape(piece) for place, piece in enumerate(pieces)))


def _value(name: str) -> str:
    form = {"n": "[0-9,]+", "defect": "(?:is|has|says|does|may|contains) .*?"}.get(name, "[^;]*" if name.startswith("short") else ".*?")
    return f"(?P<{name}>{form})"


def _line(line: str) -> str:
    inner = line.strip(" ")
    begin = len(line) - len(line.lstrip(" "))
    return line[:begin] + _said(inner) + line[begin + len(inner) :]


def _said(text: str) -> str:
    if text in _texts:
        return _texts[text]
    if len(text) > _LONGEST:
        return text
    for pattern, chinese in _templates:
        if match := pattern.fullmatch(text):
            found = match.groupdict()
            values = {name: _said(value) if name.startswith("said") or name == "defect" else value for name, value in found.items()}
            if "defect" not in found or values["defect"] != found["defect"]:
                return chinese.format(**values)
    return text
