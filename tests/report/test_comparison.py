"""The page of a comparison: whole, self-contained, safe from what is compared, and with the numbers of the comparison."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from epochal.errors import OutputError
from epochal.evaluation.compared import Comparison, Pair, RunScore, Setting
from epochal.evaluation.comparison import Difference
from epochal.language import speak
from epochal.report.comparison import check_page_output, render

METHOD = "p by McNemar's test (mid-P), intervals of differences by Tango's method; detectable with a power of 80 %"
NASTY = "a\"><script>alert(1)</script><img src=x onerror='alert(1)'>&lt;\udcff"


def made(name: str = "runs/b") -> Comparison:
    """A comparison of two runs, the second of this name."""
    runs = RunScore("runs/a", "mlp", 0, 0.9, (0.85, 0.93)), RunScore(name, "vgg", 0, 0.95, (0.91, 0.97))
    settings = tuple(Setting(run.name, (run.name,), (0,), run.score, run.interval, None, {"model.name": run.model}) for run in runs)
    difference = Difference(200, 0.9, 0.95, (0.012, 0.091), 0.011, 0.055, 3, 13)
    pair = Pair("runs/a", name, difference, 0.011, same=False, first_only=(name,), second_only=("test[3]", "test[5]"))
    return Comparison(
        name, 200, 0, "accuracy", higher_is_better=True, in_percent=True, over_seeds=False, folds=0,
        groups=None, runs=runs, settings=settings, pairs=(pair,), method=METHOD,
    )  # fmt: skip


class Reader(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag != "wbr":
            self.tags.append(tag)
            self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_names_cannot_become_part_of_the_page() -> None:
    plain, strange = Reader(render(made())), Reader(render(made(NASTY)))
    assert strange.tags == plain.tags
    assert strange.attributes == plain.attributes
    assert not {"script", "img", "link"} & {*plain.tags}
    assert NASTY.replace("\udcff", "\\udcff") in strange.text


def test_the_page_has_the_numbers() -> None:
    found = made()
    text = Reader(render(found)).text.replace("\xa0", " ")
    assert found.verdict(found.pairs[0]) == "runs/b is better than runs/a by 5.0 points (95 % interval 1.2 to 9.1)."
    for words in (
        found.verdict(found.pairs[0]), *found.run_table[2], *found.pair_table[1], "Only runs/b is right on 13 of 200 examples",
        "test[3], test[5]", *found.notes, found.method, "model.name", "Difference from runs/a, in points",
    ):  # fmt: skip
        assert words in text, words


def test_every_place_is_inside_its_drawing() -> None:
    wide = made()
    pair = replace(wide.pairs[0], difference=replace(wide.pairs[0].difference, detectable=0.8, interval=(-0.9, 0.9)))
    for found in (wide, replace(wide, pairs=(pair,)), replace(wide, runs=(wide.runs[0],) * 2, in_percent=False)):
        places = [float(place) for place in re.findall(r'(?:x[12]|cx|x)="([-\d.]+)%"', render(found))]
        assert len(places) > 10
        assert all(0 <= place <= 100 for place in places)


def test_a_page_replaces_only_its_like(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_bytes(render(made()).encode())
    check_page_output(page)
    page.write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        check_page_output(page)


@pytest.fixture
def chinese(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert speak("utf-8")
    yield
    monkeypatch.setenv("LC_ALL", "C")
    speak("utf-8")


@pytest.mark.usefixtures("chinese")
def test_the_page_speaks_chinese() -> None:
    found = made()
    shown = found.pairs[0]
    unlike = replace(shown, p=0.3, second="runs/c")
    page = render(replace(found, runs=found.runs * 2, left_out=3, groups=40, pairs=(shown, unlike, replace(shown, same=True))))
    assert 'lang="zh"' in page
    text = re.sub(
        r"runs/\w|test\[\d\]|model\.name|McNemar|mid-P|Tango|Holm|mlp|vgg|--[\w-]+",
        "",
        Reader(re.sub(r"<style>.*?</style>", "", page, flags=re.S)).text,
    )
    assert not [word for word in re.findall("[A-Za-z]{2,}", text) if word not in ("an",)], text
