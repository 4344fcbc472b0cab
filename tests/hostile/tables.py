"""Tables and texts: valid ones that are small, hostile ones, and changes to them."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import lzma
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

# What writes a file.
Make: TypeAlias = Callable[[Path], object]

ROWS = 24


def _rows() -> list[dict[str, object]]:
    return [
        {
            "age": 20 + row * 7 % 50 if row % 9 else None,
            "city": ("Rome", "New York", "北京", "Zürich")[row % 4],
            "born": f"19{60 + row}-0{1 + row % 9}-11",
            "note": f'she said "{row}", and left; twice' if row % 5 else "two\nlines",
            "size": row / 7,
            "label": ("yes", "no")[row % 3 % 2],
        }
        for row in range(ROWS)
    ]


def separated(separator: str = ",", end: str = "\n", *, header: bool = True) -> str:
    """A table of separated values."""

    def cell(value: object) -> str:
        text = "" if value is None else str(value)
        return '"' + text.replace('"', '""') + '"' if any(letter in text for letter in '",;\t\n') else text

    rows = _rows()
    lines = [separator.join(rows[0])] * header + [separator.join(map(cell, row.values())) for row in rows]
    return end.join(lines) + end


def seeds() -> dict[str, bytes]:
    """Tables of every form, by the name of a file."""
    found = {
        "plain.csv": separated().encode(),
        "bare.csv": separated(header=False).encode(),
        "semicolons.csv": separated(";", "\r\n").encode("utf-8-sig"),
        "old.csv": separated(",", "\r").encode(),
        "wide.tsv": separated("\t").encode("utf-16"),
        "packed.csv.gz": gzip.compress(separated().encode()),
        "xz.csv.gz": lzma.compress(separated().encode()),
        "lines.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in _rows()).encode(),
    }
    if importlib.util.find_spec("pyarrow") is not None:
        import pyarrow
        from pyarrow import parquet

        for packed in ("snappy", "gzip", "zstd"):
            with io.BytesIO() as file:
                parquet.write_table(pyarrow.Table.from_pylist(_rows()), file, compression=packed, use_dictionary=packed != "gzip")
                found[f"{packed}.parquet"] = file.getvalue()
    return found


def texts() -> dict[str, bytes]:
    """Files of text."""
    text = "It was a bright cold day in April. 北京的春天很短。\n" * 3
    return {"a.txt": text.encode(), "b.txt": text.encode("utf-16"), "c.txt": text.encode("utf-8-sig")}


def _gzip_of(piece: bytes, times: int, first: bytes = b"") -> bytes:
    """A file of as many members, which are one stream."""
    return gzip.compress(first) + gzip.compress(piece) * times


def _later(make: Callable[..., bytes], *given: object) -> Make:
    """What takes time to make is made for the cases that are loaded."""
    return lambda path: path.write_bytes(make(*given))


def _csv() -> Iterator[tuple[str, bytes | Make]]:
    """Yield files of separated values that must be refused."""
    start = b"a,b,y\n" + b"1,2,x\n1,3,z\n" * 100
    long = b"a,b,y\n" + b"1,2,x\n1,3,z\n" * 40_000  # more than the beginning, in which the form is recognised
    yield "a cell of 1 GB, packed", _later(_gzip_of, b"x" * 10_000_000, 100, start)
    yield "a cell of 50 MB, packed", _later(_gzip_of, b"x" * 10_000_000, 5, start)
    yield "an endless line, packed", _later(_gzip_of, b"1," * 5_000_000, 5, long)
    yield "1 GB of rows, packed", _later(_gzip_of, b"1,2,x\n" * 2_000_000, 90, start)
    yield "truncated, packed", gzip.compress(long)[:-9]
    yield "with a wrong checksum, packed", gzip.compress(start)[:-8] + bytes(8)
    yield "with more behind it, packed", gzip.compress(start) + b"1,2,x\n"
    yield "a cell of 50 MB", start + b"x" * 50_000_000
    yield "a first cell of 200,000 letters", b"x" * 200_000 + b",y\n1,2\n"
    yield "an endless first line", b"1," * 25_000_000
    yield "an endless line", long + b"1," * 25_000_000
    yield "5,000,000 columns", _later(lambda: b",".join(b"%d" % place for place in range(5_000_000)) + b"\n")
    yield "30,000 columns", b",".join(b"c%d" % place for place in range(30_000)) + b"\n" + b"1," * 29_999 + b"1\n"
    yield "an open quote", start + b'1,"2,x\n' + b"1,2,x\n" * 200_000
    yield "an open quote at the end", start + b'1,2,"x\n'
    yield "an open quote at the beginning", b'"a,b,y\n' + b"1,2,x\n" * 200_000
    yield "a row over many lines", start + b'"\n",' * 5_000_000
    yield "a first row over many lines", b'"\n",' * 5_000_000
    yield "more after a quote", start + b'"1"2,3,x\n'
    yield "a zero byte", start + b"1,\0,x\n"
    yield "a zero byte far behind", long + b"1,\0,x\n"
    yield "zero bytes", bytes(100_000)
    yield "UTF-16 without a mark", separated().encode("utf-16-le")
    yield "UTF-32", separated().encode("utf-32")
    yield "UTF-16, cut off", separated().encode("utf-16")[:-1]
    yield "UTF-16 with half a character", separated().encode("utf-16") + b"\x00\xd8"
    yield "GB18030", separated().encode("gb18030")
    yield "GB18030 far behind", long + "北京,2,x\n".encode("gb18030")
    yield "a short row", start + b"1,2\n"
    yield "a long row", start + b"1,2,3,x\n"
    yield "a long row far behind", long + b"1,2,3,x\n"
    yield "only blanks", b" \n" * 1000
    yield "only line ends", b"\r\n" * 1000
    yield "only a mark", b"\xef\xbb\xbf"
    yield "only a header", b"a,b,y\n"
    yield "names that come twice", b"a,a,y\n1,2,x\n"
    yield "a picture", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 10
    yield "a program", b"\x7fELF\x02\x01\x01" + bytes(1000)
    yield "an infinite number", start.replace(b"1,3", b"1e999,3")
    yield "a number of a million digits", start + b"9" * 1_000_000 + b",2,x\n"


def _json() -> Iterator[tuple[str, bytes | Make]]:
    """Yield JSON lines that must be refused."""
    start = b'{"a": 1, "y": "x"}\n{"a": 2, "y": "z"}\n' * 50
    yield "nested lists", start + b"[" * 1_000_000
    yield "nested objects", start + b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    yield "a list as a value", start + b'{"a": [1], "y": "x"}\n'
    yield "an object as a value", start + b'{"a": {"b": 1}, "y": "x"}\n'
    yield "a list", start + b"[1]\n"
    yield "a number", start + b"1\n"
    yield "two objects", start + b'{"a": 1, "y": "x"}{"a": 2, "y": "z"}\n'
    yield "names that come twice", start + b'{"a": 1, "a": 2, "y": "x"}\n'
    yield "30,000 names", start + json.dumps({f"n{place}": place for place in range(30_000)}).encode() + b"\n"
    yield "a name for each line", start + b"".join(b'{"n%d": 1, "y": "x"}\n' % place for place in range(19_000))
    yield "an endless line", start + b'{"a": "' + b"x" * 50_000_000
    yield "an infinite number", start + b'{"a": 1e999, "y": "x"}\n'
    yield "an integer of 4,000,000 digits", start + b'{"a": ' + b"9" * 4_000_000 + b', "y": "x"}\n'
    yield "half a character", start + b'{"a": "\\ud800", "y": "x"}\n'
    yield "no UTF-8", start + b'{"a": "\xff", "y": "x"}\n'
    yield "a zero byte", start + b'{"a": "\0", "y": "x"}\n'
    yield "nothing", b"\n\n"
    yield "empty objects", b"{}\n" * 100


def _parquet() -> Iterator[tuple[str, bytes | Make]]:
    """Yield Parquet files that must be refused."""
    import pyarrow
    from pyarrow import parquet

    def made(table: pyarrow.Table, **options: object) -> bytes:
        with io.BytesIO() as file:
            parquet.write_table(table, file, **options)
            return file.getvalue()

    plain = made(pyarrow.table({"a": list(range(100)), "y": ["x", "z"] * 50}))
    footer = int.from_bytes(plain[-8:-4], "little")
    for size in (0, 1, footer - 1, footer + 1, len(plain), 2**31 - 1, 2**31, 2**32 - 1):
        yield f"a footer of {size:,} bytes", plain[:-8] + size.to_bytes(4, "little") + b"PAR1"
    yield "cut off", plain[:-20]
    yield "only marks", b"PAR1PAR1"
    yield "without its data", b"PAR1" + plain[-8 - footer :]
    yield "a footer of zeros", plain[: -8 - footer] + bytes(footer) + plain[-8:]
    yield "a footer of ones", plain[: -8 - footer] + b"\xff" * footer + plain[-8:]
    yield "100,000,000 rows of nothing", _later(lambda: made(pyarrow.table({name: pyarrow.nulls(100_000_000) for name in "ay"})))
    zeros = {"use_dictionary": False, "compression": "zstd"}
    yield "200 MB of zeros", _later(lambda: made(pyarrow.table({"a": pyarrow.repeat(0, 25_000_000)}), **zeros))
    yield "lists", made(pyarrow.table({"a": [[1], [2]] * 50, "y": ["x", "z"] * 50}))
    yield "objects", made(pyarrow.table({"a": [{"b": 1}] * 100, "y": ["x", "z"] * 50}))
    yield "30,000 columns", _later(lambda: made(pyarrow.table({f"c{place}": [1, 2] for place in range(30_000)})))
    yield "names that come twice", made(pyarrow.table([[1, 2], [3, 4]], names=["a", "a"]))
    yield "text that is not UTF-8", plain.replace(b"x", b"\xff")
    yield "no rows", made(pyarrow.table({"a": pyarrow.array([], "int64"), "y": pyarrow.array([], "string")}))


def _texts() -> Iterator[tuple[str, bytes]]:
    """Yield files of text that must be refused."""
    yield "30 MB", b"word " * 6_000_000
    yield "a zero byte", b"It was\0cold."
    yield "GB18030", "北京的春天很短。".encode("gb18030")
    yield "half a character", "北京".encode()[:-1]
    yield "UTF-16, cut off", "北京".encode("utf-16")[:-1]
    yield "UTF-32", "It was cold.".encode("utf-32")
    yield "a picture", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 10


def hostile(pickles: dict[str, bytes]) -> Iterator[tuple[str, str, str, bytes | Make]]:
    """Yield names, kinds and file names, with the content of the file or what makes it, of tables and texts that must be refused."""
    for name, content in _csv():
        yield f"csv: {name}", "table", "a.csv.gz" if name.endswith(", packed") else "a.csv", content
    yield "csv: 4 GB of zero bytes, which take no place", "table", "a.csv", _hole
    for name, content in _json():
        yield f"jsonl: {name}", "table", "a.jsonl", content
    if importlib.util.find_spec("pyarrow") is not None:
        for name, content in _parquet():
            yield f"parquet: {name}", "table", "a.parquet", content
    for name, content in _texts():
        yield f"text: {name}", "text", "a.txt", content
    for name, content in pickles.items():
        for kind, file in (("table", "a.csv"), ("table", "a.jsonl"), ("table", "a.parquet"), ("table", "a.csv.gz"), ("text", "a.txt")):
            if kind != "text" or not content.isascii():  # some are text
                yield f"{file}: {name}", kind, file, content
    for kind, file in (("table", "a.csv"), ("table", "a.csv.gz"), ("table", "a.jsonl"), ("table", "a.parquet"), ("text", "a.txt")):
        yield f"{file}: a pipe", kind, file, os.mkfifo
        yield f"{file}: a link to /dev/zero", kind, file, lambda path: path.symlink_to("/dev/zero")
        yield f"{file}: a folder", kind, file, Path.mkdir


def _hole(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"a,b,y\n" + b"1,2,x\n1,3,z\n" * 40_000)
        file.truncate(4 * 10**9)


_CELLS = (
    "", " ", "?", "NaN", "inf", "-inf", "1e999", "1e-400", "-0", "1_000", "0x10", "１２", "1,5", "9" * 400, "2024-02-30", "99999-01-01",
    "0001-01-01", "2024-01-01T00:00:00+23:59", "30.2.2024", '"', '""', "'", "\ufeff", "\u2028", "\x85", "\x1c", "é" * 3000, "=1+1",
    "\x1b[31m", "true", "null", "[1]", "{}", "\U0001f600", "a" * 140_000,
)  # fmt: skip
_ENDS = ("\n", "\r\n", "\r", "\n\n", "\n\r", "\u2028", "")
_ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "gb18030", "cp1252", "latin-1")


def change_text(content: bytes, chance: random.Random) -> bytes:
    """Change a table as text: values, rows, separators, quotes, ends of lines, the encoding."""
    text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    lines = text.splitlines()
    for _ in range(chance.choice((1, 1, 2, 5))):
        place = chance.randrange(len(lines)) if lines else 0
        separator = chance.choice([one for one in ",;\t:" if one in text] or [","])
        cells = lines[place].split(separator) if lines else [""]
        column = chance.randrange(len(cells))
        match chance.randrange(9):
            case 0:
                cells[column] = chance.choice(_CELLS)
            case 1:
                cells[column : column + 1] = []
            case 2:
                cells.insert(column, chance.choice(_CELLS))
            case 3:
                cells[column] = f'"{cells[column]}'
            case 4:
                cells = [*cells[column:], *cells[:column]]
            case 5:
                lines[place:place] = lines[place : place + chance.choice((1, 5, 20))] * chance.choice((1, 20))
            case 6:
                del lines[place : place + chance.choice((1, 5, 100))]
            case 7:
                chance.shuffle(lines)
            case _:
                wrong = chance.choice(_CELLS)
                lines = [separator.join(wrong if at == column else cell for at, cell in enumerate(line.split(separator))) for line in lines]
        if lines and place < len(lines):
            lines[place] = separator.join(cells)
    end = chance.choice(_ENDS) if chance.random() < 0.2 else "\n"
    encoding = chance.choice(_ENCODINGS) if chance.random() < 0.2 else "utf-8"
    return end.join(lines).encode(encoding, "replace")
