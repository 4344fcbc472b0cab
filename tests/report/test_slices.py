"""Slices in a run's terminal output, result.json, evaluation and report: the same numbers everywhere, and nothing of strangers runs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import epochal
from epochal.evaluation.assessment import Assessment
from epochal.io.files import finite
from epochal.run.evaluate import evaluate_run
from epochal.run.report import render_run

FAST: dict[str, Any] = {"quiet": True, "device": "cpu", "threads": 1}
EVIL = "<script>alert(1)</script>"


def _table(count: int = 400) -> dict[str, list[Any]]:
    """What is right cannot be known in the south."""
    rows = range(count)
    south = [row % 3 == 0 for row in rows]
    return {
        "x": [float(row * 7919 % 101) for row in rows],
        f"site{EVIL}": ["south" if one else EVIL for one in south],
        "y": ["ab"[(row * 31 % 64) % 2 if one else row * 7919 % 101 > 50] for row, one in zip(rows, south, strict=True)],
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> epochal.Run:
    data = {"train": _table(), "test": _table(300)}
    folder = tmp_path_factory.mktemp("slices") / "run"
    return epochal.train(data, target="y", ignore=f"site{EVIL}", epochs=8, out=folder, **FAST)


def _page(folder: Path, result: Any) -> str:
    return re.sub(r"\s+", " ", render_run(folder, result))


def test_numbers_are_the_same_everywhere(run: epochal.Run) -> None:
    assert run.folder is not None
    assert run.assessment is not None
    found = run.assessment.slices
    assert found is not None
    assert (found.split, found.columns, found.shown) == ("test", 2, 1)
    first = found.found[0]
    assert first.name.endswith("= south")
    assert Assessment.from_json(run.result["assessment"]).slices == found
    assert evaluate_run(run.folder).slices == found
    page = _page(run.folder, run.result)
    section = page.partition('<section id="slices"')[2].partition("</section>")[0]
    assert f"{100 * first.score:.1f} %" in section
    assert f"{100 * first.difference:+.1f}" in section
    assert EVIL not in page
    assert f"{100 * first.score:.1f} % of 100 test examples are right" in next(found.lines())


def test_other_data_are_cut_at_the_same_places(run: epochal.Run) -> None:
    assert run.folder is not None
    again = evaluate_run(run.folder, _table(300), include_training=True)
    assert run.assessment is not None
    assert again.slices is not None
    assert run.assessment.slices is not None
    names = {one.name: one.score for one in run.assessment.slices.found}
    assert {one.name: one.score for one in again.slices.found} == names
    assert again.to_json()["slices"]["compared"] == len(names)


def test_what_is_said_where_none_is_worse_and_where_nothing_is_compared(run: epochal.Run) -> None:
    assert run.folder is not None
    assert run.assessment is not None
    found = run.assessment.slices
    assert found is not None
    for slices, title in (
        (replace(found, shown=0, detectable=(0.05, 0.123)), "is shown to be worse: 5.0 points in the largest, and 12.3 points"),
        (replace(found, shown=0, detectable=(0.05, None)), "5.0 points in the largest would have been, and nothing in the smallest"),
        (replace(found, shown=0, detectable=(None, None)), "there are too few examples to show it"),
        (replace(found, compared=0, shown=0, found=(), left_out=3), "There are no slices of 30 or more examples to compare"),
    ):
        result = {**run.result, "assessment": finite(replace(run.assessment, slices=slices).to_json())}
        assert title in _page(run.folder, result)


def test_quantities(tmp_path: Path) -> None:
    rows = range(400)
    table = {
        "x": [float(row * 7919 % 101) for row in rows],
        "site": ["ab"[row % 3 == 0] for row in rows],
        "y": [row * 7919 % 101 + (row * 31 % 64) * (row % 3 == 0) * 3.0 for row in rows],
    }
    run = epochal.train(table, target="y", task="regression", ignore="site", epochs=3, out=tmp_path / "run", **FAST)
    assert run.assessment is not None
    found = run.assessment.slices
    assert found is not None
    assert found.score == "mean absolute error"
    assert "site = b" in {one.name for one in found.found}
    assert '<section id="slices"' in _page(tmp_path / "run", run.result)
    if found.shown:
        assert "test examples are off by" in next(found.lines())
