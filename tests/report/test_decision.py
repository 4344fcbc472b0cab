"""The section on rules of choosing, with the numbers of result.json: for two classes, more, and several labels."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

import epochal
from epochal.evaluation.assessment import Assessment
from epochal.evaluation.comparison import Difference
from epochal.evaluation.decision import Decision
from epochal.io.files import finite
from epochal.run.report import render_run

CHANGE = Difference(200, 0.7, 0.81, (0.05, 0.17), 0.001, 0.08)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> epochal.Run:
    rows = range(300)
    table = {"x": [float(row * 7919 % 101) for row in rows], "y": ["rare" if row * 7919 % 101 > 85 else "<b>" for row in rows]}
    folder = tmp_path_factory.mktemp("decision") / "run"
    return epochal.train(table, target="y", epochs=2, out=folder, quiet=True, device="cpu", threads=1)


def _page(run: epochal.Run, decision: Decision | None) -> str:
    assert run.folder is not None
    assert run.assessment is not None
    found = finite(replace(run.assessment, decision=decision).to_json())
    assert Assessment.from_json(found).decision == decision
    page = render_run(run.folder, {**run.result, "assessment": found})
    return re.sub(r"\s+", " ", page.partition('<section id="decision"')[2].partition("</section>")[0])


def test_two_classes(run: epochal.Run) -> None:
    rule = Decision("balanced accuracy", 100, {"rare": 0.234}, {}, CHANGE, (0.6, 0.8), (0.75, 0.87), (0.9, 0.85))
    page = _page(run, rule)
    assert "would raise balanced accuracy from 70.0 % to 81.0 %" in page
    assert "answer &#x27;rare&#x27; where its probability is at least 23.4 %" in page or "'rare' where its probability" in page
    assert "is +11.0 points (95 % interval +5.0 to +17.0)" in page
    assert "from 90.0 % to 85.0 %" in page
    assert "No other rule" in _page(run, replace(rule, change=replace(CHANGE, p=0.2)))
    assert _page(run, None) == ""


def test_more_classes_and_several_labels(run: epochal.Run) -> None:
    page = _page(run, Decision("balanced accuracy", 100, {}, {"<b>": 1.0, "rare": 3.25}, CHANGE, (0.6, 0.8), (0.75, 0.87), (0.9, 0.85)))
    assert "3.25" in page
    assert "<b>" not in page


def test_areas_of_two_classes_stand_at_the_top(run: epochal.Run) -> None:
    assert run.folder is not None
    assert run.assessment is not None
    page = render_run(run.folder, run.result)
    top = page.partition("<main>")[0]
    for found in (*run.assessment.areas.values(), *run.assessment.precisions.values()):
        assert f"{found.value:.4f}" in top
