"""What the report says of labels: those that are likely wrong, and what more of them would bring."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

import epochal
from epochal.run.report import render_run
from tests.small import small_recipe

PLANTED = (4, 35, 77, 110)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> epochal.Run:
    """Clouds of points, some with the label of another cloud."""
    labels = torch.arange(240) % 3
    inputs = (
        torch.randn((240, 2), generator=torch.Generator().manual_seed(0)) * 0.6
        + torch.tensor([[0.0, 3.0], [3.0, 0.0], [-3.0, -3.0]])[labels]
    )
    labels[[*PLANTED]] = (labels[[*PLANTED]] + 1) % 3
    names = [("ash", "<b>oak", "elm")[label] for label in labels.tolist()]
    out = tmp_path_factory.mktemp("labels") / "run"
    recipe = small_recipe(epochs=5, lr=0.05)
    return epochal.train((inputs, names), recipe, model="mlp", out=out, quiet=True, learning_curve=True, label_check=True)


def _section(run: epochal.Run, name: str) -> str:
    assert run.folder is not None
    page = (run.folder / "report.html").read_text("utf-8")
    found = re.search(rf'<section id="{name}".*?</section>', page, re.DOTALL)
    assert found is not None
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", found[0]))


def test_labels_that_look_wrong_are_shown_with_what_the_list_is_worth(run: epochal.Run) -> None:
    found, said = run.label_errors, _section(run, "label-errors")
    assert found is not None
    assert found.check is not None
    assert found.likely >= 2
    assert str(found) in said
    for line in found.check.lines():
        assert line in said
    assert f"All {len(found.listed)} to look at are in labels.csv" in said
    first = found.listed[0]
    # In the gallery, and in the list.
    assert said.count(first.example) == 2
    assert f"given: {first.given.replace('<', '&lt;')} · {100 * first.score:.1f} %" in said


def test_without_a_check_it_says_that_the_list_was_not_measured(run: epochal.Run) -> None:
    assert run.folder is not None
    page = render_run(run.folder, {**run.result, "label_errors": {**run.result["label_errors"], "check": None}})
    assert "training labels look wrong" in page
    assert "--label-check" in page


def test_the_score_by_the_number_of_labels(run: epochal.Run) -> None:
    curve, said = run.curve, _section(run, "labels")
    assert curve is not None
    for row in curve.table():
        assert " ".join(row) in said
    assert (curve.why if curve.twice is None else curve.words(curve.twice.score)) in said


def test_what_twice_as_many_would_bring_is_in_the_title(run: epochal.Run) -> None:
    assert run.folder is not None
    curve = run.result["learning_curve"]
    twice = {"labels": 2 * curve["points"][-1]["labels"], "score": 0.987, "interval": [0.98, 0.99], "draws": 0}
    page = render_run(run.folder, {**run.result, "learning_curve": {**curve, "twice": twice, "why": ""}}).replace("\xa0", " ")
    assert "Twice as many labels would bring about 98.7 % instead of" in page
    assert 'class="ring"' in page


def test_values_that_look_wrong_are_told_with_their_distance(tmp_path: Path) -> None:
    inputs: Tensor = torch.randn((60, 2), generator=torch.Generator().manual_seed(0))
    epochal.train((inputs, inputs.sum(1)), small_recipe(epochs=1), model="mlp", out=tmp_path / "run", quiet=True)
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "training values" in page
    assert "rare values that are true are in it, too" in page
    assert "--label-check" not in page
    assert 'id="labels"' not in page
