"""The page: whole, self-contained, and safe from what files are called."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from epochal import load
from epochal.checks.check import Check, Examined, check
from epochal.checks.findings import Case, Finding
from epochal.checks.page import render
from tests.checks.conftest import Scene


class Reader(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag != "wbr":  # Where a name may be broken: after each slash.
            self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def nothing(name: str) -> str:
    return ""


def finding(*cases: Case) -> Finding:
    return Finding("error", "leakage", "pictures leak", "Do something.", cases)


NASTY = "\"><script>alert(1)</script><img src=x onerror='alert(1)'>&lt;\udcff"


def test_names_cannot_become_part_of_the_page() -> None:
    plain = Reader(render("photos", "all", [finding(Case(("name",), "words"))], nothing))
    strange = Reader(render(NASTY, NASTY, [finding(Case((NASTY,), NASTY))], nothing))
    assert strange.tags == plain.tags
    assert strange.attributes == plain.attributes
    assert NASTY.replace("\udcff", "\\udcff") in "".join(strange.text)


@given(st.text(min_size=1))
def test_no_name_can(name: str) -> None:
    tags = Reader(render("a", "b", [finding(Case(("c",), "d"))], nothing)).tags
    assert Reader(render(name, name, [finding(Case((name,), name))], nothing)).tags == tags
    render(name, name, [], nothing).encode()


def test_thumbnails_are_inside_and_capped(tmp_path: Path, scene: Scene) -> None:
    cases = [Case(tuple(f"{case}/{number}" for number in range(9)), "alike") for case in range(40)]
    large = scene(0, (64, 64)).resize((3000, 1000))
    page = render("photos", "all", [finding(*cases)], lambda name: large.copy() if name[0] == "0" else scene(1, (20, 16)))
    found = re.findall(r'src="data:image/(png|jpeg);base64,([^"]+)"', page)
    assert len(found) == 24 * 6
    for kind, content in (found[0], found[-1]):
        with Image.open(BytesIO(base64.b64decode(content))) as picture:
            assert (picture.format, max(picture.size)) == (("JPEG", 112) if kind == "jpeg" else ("PNG", 20))
    assert "3 more like it" in page
    assert "and 16 more: --json lists them all" in page
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_what_cannot_be_read_has_no_thumbnail(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1.png").write_bytes(b"?")
    check(tmp_path / "photos").write_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "2 files cannot be read" in page
    assert "cat/<wbr>1.png" in page
    assert "<img" not in page


@pytest.mark.parametrize("number", [0, 1])
def test_title_tells_what_was_found(number: int, tmp_path: Path) -> None:
    found = Check("photos", {"train": 3}, ("a", "b"), (finding(),) * number)
    found.write_html(tmp_path / "page.html")
    text = Reader((tmp_path / "page.html").read_text("utf-8")).text
    assert ("photos: 1 error" if number else "photos: nothing found") in text
    assert ("Nothing was found." in text) == (not number)


def test_texts_and_rows_stand_on_the_page(tmp_path: Path) -> None:
    texts = ["good & <b>bold</b> " * 30, "你好，世界"]
    data = load((texts * 8, [0, 1] * 8))
    page = render("texts", "all", [finding(Case(("train[0]",)), Case(("train[1]",)), Case(("no such example",)))], Examined(data))
    assert "<blockquote>good &amp; &lt;b&gt;bold&lt;/b&gt; good" in page
    assert "…</blockquote>" in page
    assert "<blockquote>你好，世界</blockquote>" in page
    assert page.count("<blockquote>") == 2

    table = {"age": [30.5, 40.0] * 8, "city": ["Oslo", "Rome"] * 8, "label": ["a", "b"] * 8}
    check(load(table, target="label")).write_html(tmp_path / "page.html")
    assert "<blockquote><span><i>age</i> 30.5</span> <span><i>city</i> Oslo</span></blockquote>" in (tmp_path / "page.html").read_text(
        "utf-8"
    )
