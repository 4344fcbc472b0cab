"""Help in Chinese, which has no spaces between words and whose characters are two columns wide."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import click

from epochal.language import columns, translated

# A wide character or a word, with following punctuation that may not begin a line; or spaces.
_WIDE, _MARKS = r"\u3000-\u9fff\uff00-\uffef", r"[\u3001\u3002\uff0c\uff1a\uff1b\uff09\uff1f]*"
_PIECES = re.compile(rf"[{_WIDE}]{_MARKS}|[^\s{_WIDE}]+{_MARKS}|\s+")

# What click appends to the help of an option is in brackets, and so may be the end of our own.
_ADDED = re.compile(r"\s*\[[^\]]*\]$")


class Formatter(click.HelpFormatter):
    """Writes help as click does, in the chosen language."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write the usage line of a command."""
        super().write_usage(prog, args, translated("Usage:") if prefix is None else prefix)

    def write_heading(self, heading: str) -> None:
        """Write a heading."""
        self.write(f"{'':>{self.current_indent}}{translated(heading)}\uff1a\n")

    def write_text(self, text: str) -> None:
        """Write paragraphs."""
        indent = " " * self.current_indent
        paragraphs = (" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
        shown = ("\n".join(f"{indent}{line}" for line in wrapped(translated(one), self.width - len(indent))) for one in paragraphs)
        self.write("\n\n".join(shown) + "\n")

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write a list of names with their descriptions."""
        rows = list(rows)
        first = min(max(len(name) for name, _ in rows), col_max) + col_spacing
        begin = self.current_indent + first
        for name, about in rows:
            lines = list(wrapped(of_option(about), max(self.width - begin, 10)))
            beside = lines[:1] if len(name) <= first - col_spacing else []
            self.write(f"{name:>{self.current_indent + len(name)}}".ljust(begin if beside else 0) + "".join(beside) + "\n")
            self.write("".join(f"{'':>{begin}}{line}\n" for line in lines[len(beside) :]))


def of_option(about: str) -> str:
    """Return what an option is for in the chosen language; what click adds to it stays as it is."""
    ours = whole = " ".join(about.split())
    while (chinese := translated(ours)) == ours and (added := _ADDED.search(ours)):
        ours = ours[: added.start()]
    return whole if chinese == ours else chinese + whole[len(ours) :]


def wrapped(text: str, width: int) -> Iterator[str]:
    """Break text into lines of at most `width` columns; a line may end after any Chinese character."""
    line = ""
    for piece in _PIECES.findall(text):
        if line and columns((line + piece).rstrip()) > width:
            yield line.rstrip()
            line = ""
        line = (line + piece).lstrip()
    if line:
        yield line.rstrip()
