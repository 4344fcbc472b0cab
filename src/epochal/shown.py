"""How values are displayed by print, at Python's prompt and in notebooks: in a few lines, without their tensors."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

Rows = Sequence[Sequence[str]]


class Shown:
    """Base of values with a `_title` of one line, and `_rows` of a name and values below it."""

    def _title(self) -> str:
        raise NotImplementedError

    def _rows(self) -> Rows:
        return ()

    def _table(self) -> tuple[Sequence[str], Rows]:
        """Return the head and the rows of the table in a notebook."""
        return (), self._rows()

    def __repr__(self) -> str:
        rows = self._rows()
        width = max((len(name) for name, *_ in rows), default=0)
        lines = (f"  {name:<{width}}  {'  '.join(values)}".rstrip() for name, *values in rows)
        return "\n".join((f"{type(self).__name__}: {self._title()}", *lines))

    def _repr_html_(self) -> str:
        head, rows = self._table()
        above = f"<thead><tr>{_cells('th', head)}</tr></thead>" if head else ""
        body = "".join(f"<tr>{_cells('td', row)}</tr>" for row in rows)
        title = f"<b>{type(self).__name__}</b>: {escape(self._title())}"
        return f"<div>{title}<table>{above}<tbody>{body}</tbody></table></div>" if body else f"<div>{title}</div>"


def few(words: Sequence[str], most: int = 10) -> str:
    """Return words in one line; of many, only the first."""
    return ", ".join(words[:most]) + (f", ... ({len(words):,} in all)" if len(words) > most else "")


def _cells(kind: str, values: Sequence[str]) -> str:
    return "".join(f'<{kind} style="text-align: left">{escape(value)}</{kind}>' for value in values)
