"""The letters that figures can draw, and names in such letters.

Matplotlib brings DejaVu Sans, which has no Chinese, Japanese or Korean. Of this machine's fonts those in `_CJK` come after it.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable
from contextlib import suppress

from matplotlib import font_manager
from rich.cells import cell_len, set_cell_size

_CJK = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans JP", "Noto Sans SC", "Source Han Sans", "Hiragino Sans", "PingFang SC", "Yu Gothic",
    "Meiryo", "Microsoft YaHei", "SimHei", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "IPAexGothic", "IPAGothic", "TakaoGothic",
    "Malgun Gothic", "Arial Unicode MS", "Droid Sans Fallback",
)  # fmt: skip

# So many letters are named in a note.
_TOLD = 12


@functools.cache
def families() -> list[str]:
    """Return the fonts to draw with: each letter comes from the first that has it."""
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in _CJK if name in installed)]


def find_fonts(names: Iterable[str]) -> str:
    """Look for fonts that have the letters of names, and return the letters that none has.

    Fonts that were installed after Matplotlib made its list of them are found too; `families` has them from then on.
    """
    wanted = {letter for name in names for letter in printable(name)}
    if not wanted <= _letters():
        _add_new_fonts()
    return "".join(sorted(wanted - _letters()))


def boxes(names: Iterable[str]) -> str:
    """Return a note on the letters of names for which figures will show boxes; "" where all can be drawn."""
    letters = find_fonts(names)
    if not letters:
        return ""
    few = letters[:_TOLD] + "…" * (len(letters) > _TOLD)
    return f"no font here has {few}: figures show boxes instead. Install one that has them, for example Noto Sans CJK."


def printable(name: str) -> str:
    """Return a name in one line, with the numbers of what are no letters (control signs; bytes of a file's name that is not UTF-8)."""
    line = " ".join(name.split())
    return "".join(letter.encode("unicode_escape").decode() if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in line)


def short(name: str, width: int) -> str:
    """Cut a name to `width` columns, in which a Chinese character takes two."""
    return name if cell_len(name) <= width else set_cell_size(name, width - 1).rstrip() + "…"


@functools.cache
def _letters() -> frozenset[str]:
    """The characters that the fonts in use have."""
    files = [font_manager.findfont(name) for name in families()]
    return frozenset(chr(code) for file in files for code in font_manager.get_font(file).get_charmap())


@functools.cache
def _add_new_fonts() -> None:
    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    for file in sorted(set(font_manager.findSystemFonts()) - known):
        # A font that cannot be read draws nothing.
        with suppress(OSError, RuntimeError, ValueError):
            font_manager.fontManager.addfont(file)
    families.cache_clear()
    _letters.cache_clear()
