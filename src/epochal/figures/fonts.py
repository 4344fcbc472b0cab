"""Fonts for the names in figures.

Matplotlib includes DejaVu Sans, which has no Chinese, Japanese or Korean characters. After it come the installed fonts of `CJK`.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable
from contextlib import suppress

from matplotlib import font_manager
from rich.cells import cell_len, set_cell_size

CJK = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans JP", "Noto Sans SC", "Source Han Sans", "Hiragino Sans", "PingFang SC", "Yu Gothic",
    "Meiryo", "Microsoft YaHei", "SimHei", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "IPAexGothic", "IPAGothic", "TakaoGothic",
    "Malgun Gothic", "Arial Unicode MS", "Droid Sans Fallback",
)  # fmt: skip

# The most characters that a note lists.
_NAMED = 12


@functools.cache
def families() -> list[str]:
    """Return the fonts to draw with: each character is taken from the first that has it."""
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in CJK if name in installed)]


def find_fonts(names: Iterable[str]) -> str:
    """Look for fonts with the characters of names, and return the characters that none has.

    Fonts that were installed after Matplotlib listed them are found too, and added to `families`.
    """
    wanted = {letter for name in names for letter in printable(name)}
    if not wanted <= letters():
        add_new_fonts()
    return "".join(sorted(wanted - letters()))


def boxes(names: Iterable[str]) -> str:
    """Return a note on the characters for which figures will show boxes; "" if all can be drawn."""
    missing = find_fonts(names)
    if not missing:
        return ""
    few = missing[:_NAMED] + "…" * (len(missing) > _NAMED)
    return f"no font here has {few}: figures show boxes instead. Install one that has them, for example Noto Sans CJK."


def printable(name: str) -> str:
    """Return a name in one line, with control characters and invalid bytes of file names written as their numbers."""
    line = " ".join(name.split())
    return "".join(letter.encode("unicode_escape").decode() if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in line)


def short(name: str, width: int) -> str:
    """Cut a name to `width` columns, in which a Chinese character takes two."""
    return name if cell_len(name) <= width else set_cell_size(name, width - 1).rstrip() + "…"


@functools.cache
def letters() -> frozenset[str]:
    """Return the characters that the fonts in use have."""
    files = [font_manager.findfont(name) for name in families()]
    return frozenset(chr(code) for file in files for code in font_manager.get_font(file).get_charmap())


@functools.cache
def add_new_fonts() -> None:
    """Add the installed fonts that Matplotlib has not listed; once in a process."""
    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    for file in sorted(set(font_manager.findSystemFonts()) - known):
        # An unreadable font is ignored.
        with suppress(OSError, RuntimeError, ValueError):
            font_manager.fontManager.addfont(file)
    families.cache_clear()
    letters.cache_clear()
