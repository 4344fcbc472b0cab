"""Charts: each is an image with words for those who do not see it, and holds what it was given."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from epochal.report import charts
from epochal.report.charts import Scale, Words

WORDS = Words("one", "A <title>", "What & why", "x < 1", "y")


@pytest.mark.parametrize(
    "drawn",
    [
        charts.lines(WORDS, [[(1, 0.5), (2, 0.25)], [(1, math.nan), (2, 0.75)]], (2, 0.25)),
        charts.lines(WORDS, [[(1, 5.0)]]),
        charts.curve(WORDS, [(0.5, 1.0), (1.0, 0.9)], (0.75, 0.95, (0.9, 0.97))),
        charts.reliability(WORDS, [(0.3, 0.2, (0.1, 0.4))]),
        charts.scatter(WORDS, [(1e9, 2e9), (3e9, 3e9)], diagonal=True),
        charts.scatter(WORDS, [(1, 1)], diagonal=False, level=True),
        charts.columns(WORDS, [(0, 1, 5), (1, 2, 7)]),
        charts.rows(WORDS, [("a <name>", -1.0, "-1", (-2.0, 0.5)), ("b" * 40, 0.0, "0", None)]),
        charts.standing(WORDS, 1.0, (0.9, 1.0), (0.5, "always <a>")),
    ],
)
def test_every_chart_is_an_image_with_words(drawn: str) -> None:
    image = ElementTree.fromstring(drawn)
    assert (image.get("role"), image.get("aria-labelledby")) == ("img", "one-t one-d")
    assert [image[0].text, image[1].text] == ["A <title>", "What & why"]
    assert "nan" not in drawn
    assert "inf" not in drawn


def test_ticks_are_round_and_within_the_scale() -> None:
    for low, high in ((0, 1), (0.93, 0.97), (-3e6, 8e6), (1e-7, 3e-7)):
        ticks = Scale(low, high).ticks()
        assert 2 <= len(ticks) <= 6
        assert all(low - 1e-9 * (high - low) <= tick <= high + 1e-9 * (high - low) for tick in ticks)


def test_points_are_where_their_numbers_say() -> None:
    drawn = charts.lines(WORDS, [[(1, 0.0), (2, 1.0), (3, 0.5)]])
    places = [tuple(map(float, pair)) for pair in re.findall(r"[ML]([\d.]+) ([\d.]+)", re.findall(r'class="a" d="([^"]+)"', drawn)[0])]
    (left, bottom), (middle, top), (right, half) = places
    assert middle - left == pytest.approx(right - middle, abs=0.2)
    assert half == pytest.approx((bottom + top) / 2, abs=0.2)


def test_names_are_cut_by_their_width() -> None:
    assert charts.shortened("short") == "short"
    assert charts.shortened("x" * 30) == "x" * 17 + "…"
    assert charts.shortened("猫" * 30) == "猫" * 8 + "…"
