"""Tables in files: how they are written does not matter, and what is wrong is named by its line."""

from __future__ import annotations

import gzip
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from epochal.data.inputs.table.files import open_table
from epochal.data.inputs.table.values import Table, read_table
from epochal.errors import DataError

PLAIN = "age,city,height\n39,Rome,1.5\n,New York,2\n?,Rome,NA\n"


def written(folder: Path, text: str, name: str = "t.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def plain(table: Table) -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}
    for name, values in table.columns.items():
        if values.numbers is not None:
            found[name] = [None if math.isnan(value) else value for value in values.numbers.tolist()]
        else:
            assert values.codes is not None
            found[name] = [None if code < 0 else values.words[code] for code in values.codes.tolist()]
    return found


EXPECTED = {"age": [39.0, None, None], "city": ["Rome", "New York", "Rome"], "height": [1.5, 2.0, None]}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (PLAIN, "t.csv"),
        (PLAIN.replace("\n", "\r\n"), "t.csv"),
        (PLAIN.replace("\n", "\r"), "t.csv"),
        (PLAIN.replace("\n", "\r").replace(",", ";"), "t.csv"),
        (PLAIN.replace("\n", "\r\n", 1).replace("2\n", "2\r"), "t.csv"),
        ("\ufeff" + PLAIN, "t.csv"),
        (PLAIN.replace(",", ", "), "t.csv"),
        (PLAIN.replace(",", " , "), "t.csv"),
        (PLAIN.replace("\n", "\n\n"), "t.csv"),
        (PLAIN.replace(",", "\t"), "t.tsv"),
        (PLAIN.replace(",", ";").replace(".", ","), "t.csv"),
        (PLAIN.replace(",", "|"), "t.csv"),
        (PLAIN.replace("Rome", '"Rome"').replace("city", '"city"'), "t.csv"),
        (PLAIN.replace(",Rome", ', "Rome"'), "t.csv"),
        ('{"age": 39, "city": "Rome", "height": 1.5}\n{"city": "New York", "height": 2}\n\n{"age": null, "city": "Rome"}\n', "t.jsonl"),
    ],
)
def test_the_form_is_recognised(tmp_path: Path, text: str, name: str) -> None:
    assert plain(read_table(written(tmp_path, text, name))) == EXPECTED


def test_utf_16_and_gzip(tmp_path: Path) -> None:
    assert plain(read_table(written(tmp_path, PLAIN, encoding="utf-16"))) == EXPECTED
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(PLAIN.encode()))
    assert plain(read_table(tmp_path / "t.csv.gz")) == EXPECTED


def test_quotes_hold_separators_quotes_and_line_breaks(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, 'name,n\n"a, b",1\n"say ""x""",2\n"two\nlines",3\nlast,4\n'))
    assert plain(table) == {"name": ["a, b", 'say "x"', "two\nlines", "last"], "n": [1, 2, 3, 4]}
    assert table.lines is not None
    assert table.lines.tolist() == [2, 3, 4, 6]


def test_a_table_may_have_no_header(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "1,a\n2,b\n3,a\n"))
    assert not table.has_header
    assert plain(table) == {"0": [1, 2, 3], "1": ["a", "b", "a"]}
    assert not open_table(written(tmp_path, "a,x\nb,x\na,y\nb,x\n")).has_header
    assert open_table(written(tmp_path, "color,size\nred,small\nblue,big\nred,big\n")).has_header


def test_a_column_is_numbers_only_if_all_are(tmp_path: Path) -> None:
    rows = [f"{row:05},{row}" for row in range(30_000)]
    rows[-1] = "1_0,x7"
    found = plain(read_table(written(tmp_path, "code,n\n" + "\n".join(rows))))
    # The text of numbers that came before is kept, too.
    assert found["code"][7] == "00007"
    assert found["code"][-1] == "1_0"
    assert found["n"][3] == "3"


def test_columns_are_read_as_asked(tmp_path: Path) -> None:
    path = written(tmp_path, "zip,n\n010,1\n020,x\n")
    assert plain(read_table(path, words={"zip"}, skip={"n"})) == {"zip": ["010", "020"]}
    with pytest.raises(DataError, match=r"t\.csv, line 3: 'x' is not a number, as others are in column n"):
        read_table(path, numbers={"n"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "t.csv is empty"),
        (b"a,b\n", "has a header and no rows"),
        (b"a,b\n1,2\n3,4\n5,6,7\n8,9\n", "line 4: the row has 3 values; there are 2 columns"),
        (b"a,b\r1,2\r3,4\r5,6,7\r8,9\r", "line 4: the row has 3 values; there are 2 columns"),
        (b"a,b\n1,2\n\n3\n4,5\n", "line 4: the row has 1 value; there are 2 columns"),
        (b"a,a\n1,2\n3,4\n", "line 1: two columns are named 'a'"),
        (b'a,b\n1,2\n3,"4\n5,6\n7,8\n', "line 3: a quote is not closed"),
        (b'a,b\n1,"2"3\n', "line 2: ',' expected after '\"'"),
        (b"a,b\n1,\xff\xfe\xfd\n", "line 2: it is not text in UTF-8"),
        (b"a,b\r1,2\r3,\xc4\xe3\r", "line 3: it is not text in UTF-8"),
        ("a,b\n1,\u4f60\n3,4".encode("utf-16")[:-1], "line 3: it is not text in UTF-16"),
        (b"a,b\n1,\0\n", "line 2: there is a zero byte, so it is not text"),
        (b"a,b\n" + b"1,2\n" * 100_000 + b"1,\0\n", "line 100,002: there is a zero byte"),
        (PLAIN.encode("utf-16-le"), "line 1: there is a zero byte"),
        (b"a,b\n1," + b"x" * 200_000 + b"\n", "line 2: a value has more than 131,072 characters"),
        (b"x" * 200_000 + b",b\n1,2\n", "line 1: a value has more than 131,072 characters"),
        (b"1," * 3_000_000, "line 1: the row has more than 4,194,304 characters"),
        (b"a,b\n" + b"1,2\n" * 100_000 + b"1," * 3_000_000, "line 100,002: the row has more than 4,194,304 characters"),
        (b"a,b\n1,2\n" + b'"\n",' * 3_000_000, "the row has more than 4,194,304 characters"),
        (b",".join(b"c%d" % n for n in range(30_000)) + b"\n" + b",".join([b"1"] * 30_000), "30,000 columns, more than 20,000"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}\n{"a": \n', "line 2: "),
        ("[1, 2]\n", "line 1: it is not an object"),
        ('{"a": [1]}\n', "line 1: a value is a list or an object"),
        ("{}\n", "is empty"),
        ("[" * 100_000, "line 1: maximum recursion depth"),
        ('{"a": 1}\n{"a": 2, "a": 3}\n', "line 2: the name 'a' appears twice"),
        ('{"a": 1}\n{"a": "\\ud800"}\n', "line 2: half a character"),
        ('{"a": 1}{"a": 2}\n', "line 1: Extra data, at character 9"),
        ('{"a": 1}\n{"a": "\0"}\n', "line 2: there is a zero byte"),
        ("".join(f'{{"n{place}": 1}}\n' for place in range(15_000)), "objects have few of the 15,000 names"),
        ("{" + ", ".join(f'"n{place}": 1' for place in range(30_000)) + "}", "more than 20,000 columns"),
    ],
)
def test_bad_json_lines_are_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(written(tmp_path, content, "t.jsonl"))


def test_a_header_longer_than_the_beginning_is_read(tmp_path: Path) -> None:
    names = [f"a column with a long name {place}" for place in range(15_000)]
    file = open_table(written(tmp_path, ",".join(names) + "\n" + ",".join(["1"] * 15_000) + "\n"))
    assert file.names == tuple(names)
    assert [chunk.rows for chunk in file.chunks()] == [[["1"] * 15_000]]


def test_a_header_that_is_known_is_not_guessed(tmp_path: Path) -> None:
    path = written(tmp_path, "red,small\nblue,big\nred,big\n")
    assert plain(read_table(path)) == {"0": ["red", "blue", "red"], "1": ["small", "big", "big"]}
    assert plain(read_table(path, header=True)) == {"red": ["blue", "red"], "small": ["big", "big"]}
    path = written(tmp_path, "colour,size\nred,small\nblue,big\n")
    assert plain(read_table(path, header=False))["0"] == ["colour", "red", "blue"]


def test_names_are_made_up_for_columns_without_one(tmp_path: Path) -> None:
    assert open_table(written(tmp_path, ",a,b\n1,2,3\n")).names == ("0", "a", "b")
    path = written(tmp_path, ",a,\n1,2,3\n")
    assert open_table(path, header=True).names == ("0", "a", "2")
    with pytest.raises(DataError, match="two columns are named '0'"):
        open_table(written(tmp_path, ",0\n1,2\n"), header=True)


def test_damaged_and_hostile_gzip_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(PLAIN.encode() * 100)[:-20])
    with pytest.raises(DataError, match="cannot be read"):
        read_table(path)
    monkeypatch.setattr("epochal.io.safe_read.ALWAYS_UNPACKED", 100_000)
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 1_000_000))
    with pytest.raises(DataError, match="unpack to more than"):
        read_table(path)


def test_tables_in_a_program(tmp_path: Path) -> None:
    columns = {"age": [39, None, float("nan")], "city": ["Rome", " New York", "Rome"], "height": np.array([1.5, 2, np.nan])}
    assert plain(read_table(columns)) == EXPECTED
    assert plain(read_table([{"age": 39, "city": "Rome", "height": 1.5}, {"city": "New York", "height": 2}, {"city": "Rome"}])) == EXPECTED
    assert plain(read_table({"a": [True, False], "b": np.array([False, True])})) == {"a": ["True", "False"], "b": ["False", "True"]}
    assert plain(read_table({"age": 39, "city": "Rome"})) == {"age": [39], "city": ["Rome"]}
    with pytest.raises(DataError, match="Column a has 2 values, and b 1"):
        read_table({"a": [1, 2], "b": [1]})
    with pytest.raises(DataError, match="no rows"):
        read_table({"a": []})
    with pytest.raises(DataError, match="shape"):
        read_table({"a": np.zeros((2, 2))})


def test_arrow_and_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table({"age": [39, None, None], "city": ["Rome", "New York", "Rome"], "height": [1.5, 2.0, None]})
    assert plain(read_table(table)) == EXPECTED
    parquet.write_table(table, tmp_path / "t.parquet")
    assert plain(read_table(tmp_path / "t.parquet")) == EXPECTED
    for columns, message in (
        ({"a": [[1], [2]]}, r"Column a has shape \(2, 1\)"),
        ({"a": [{"b": 1}, None]}, r"Column a, row 0: a dict is not one value"),
    ):
        parquet.write_table(pyarrow.table(columns), tmp_path / "u.parquet")
        with pytest.raises(DataError, match=message):
            read_table(tmp_path / "u.parquet")
    parquet.write_table(pyarrow.table([[1], [2]], names=["a", "a"]), tmp_path / "u.parquet")
    with pytest.raises(DataError, match=r"u\.parquet: two columns are named 'a'"):
        read_table(tmp_path / "u.parquet")
    parquet.write_table(pyarrow.table({"a": pyarrow.nulls(100_000_000)}), tmp_path / "u.parquet")
    with pytest.raises(DataError, match=r"u\.parquet cannot be read: its .* bytes claim to hold 100,000,000 rows"):
        read_table(tmp_path / "u.parquet")
    (tmp_path / "t.parquet").write_bytes((tmp_path / "t.parquet").read_bytes()[:-30])
    with pytest.raises(DataError, match=r"t\.parquet cannot be read"):
        read_table(tmp_path / "t.parquet")


def test_parquet_needs_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"which pyarrow reads.\nInstall it: pip install 'epochal\[tables\]'"):
        read_table(tmp_path / "t.parquet")


ROWS = "ann,3,high\nbob,4,low\n"


@pytest.mark.parametrize(
    ("above", "line"),
    [
        ("Sales report 2024\n", 2),
        ("Sales report 2024,,\n\n", 3),
        ("# made in May, from two files\n# second line\n", 3),
        ("sep=,\n", 2),
    ],
)
def test_a_title_above_the_header_is_refused_with_the_first_lines(tmp_path: Path, above: str, line: int) -> None:
    header = "name,age,income"
    rows = header + "\n" + ROWS
    if "," in above and above.startswith("#"):
        rows = "\n".join(f"{row},{place or 'more'}" for place, row in enumerate(rows.splitlines())) + "\n"
    path = written(tmp_path, above + rows)
    for known in (None, True):
        with pytest.raises(DataError, match=f"the table seems to begin in line {line}, below a title or a comment") as raised:
            open_table(path, header=known)
        shown = raised.value.fix.splitlines()
        assert shown[0] == f"Remove {'line 1, which is' if line == 2 else 'lines 1 to 2, which are'} no part of it. The file begins:"
        assert shown[1] == f"line 1: {above.splitlines()[0]}"
        assert f"line {line}: {header}" in "\n".join(shown)


@pytest.mark.parametrize(
    "text",
    [
        "name,,income\n" + ROWS,
        "3,,\n4,5,6\n7,8,9\n",
        ",city,\nann,Rome,\nbob,Paris,2\n",
        "title\nanother\nthird\n",
        "a,b\nc,\nd,e\n",
    ],
)
def test_what_is_no_title_is_read(tmp_path: Path, text: str) -> None:
    assert len(read_table(written(tmp_path, text))) >= 2
