"""Values print in a few lines, whatever tensors they hold, and as escaped tables in notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import epochal
from epochal.recipe import Recipe
from epochal.shown import Page, are, counted, curves


@pytest.fixture(scope="module")
def run() -> epochal.Run:
    labels = torch.arange(200) % 2
    inputs = torch.randn(200, 50, generator=torch.Generator().manual_seed(0)) + labels[:, None]
    words = [("<b>no</b>", "yes & no")[label] for label in labels.tolist()]
    return epochal.train((inputs, words), epochs=3, model="linear", watchers=())


@pytest.mark.parametrize(
    ("what", "first", "lines"),
    [
        (lambda run: run, "Run: linear on arrays, 3 epochs in ", 5),
        (lambda run: run.data, "Data: arrays: 50 float32, 2 classes; 140 train, 20 valid, 40 test", 3),
        (lambda run: run.data.train, "Examples: 140 from train", 3),
        (lambda run: run.test, "Evaluation: Accuracy ", 1),
        (lambda run: run.fit, "TrainingHistory: 3 epochs in ", 1),
        (lambda run: run.fit.epochs[0], "EpochDone(epoch=1, epochs=3, ", 1),
        (lambda run: run.bundle, "Bundle: linear, 102 parameters", 3),
        (lambda run: run.recipe, "Recipe(epochs = 3, ", 1),
        (lambda run: run.data.spec, "DataSpec(arrays: 50 float32, 2 classes; ", 1),
        (lambda run: epochal.check(run.data), "Check: arrays: 2 classes; ", 1),
    ],
)
def test_values_print_in_a_few_lines(run: epochal.Run, what: Any, first: str, lines: int) -> None:
    value = what(run)
    assert repr(value).startswith(first)
    assert len(repr(value).splitlines()) == lines
    assert len(repr(value)) < 1000
    if not isinstance(value, epochal.Evaluation | epochal.Check):  # These print without their class.
        assert str(value) == repr(value)


@pytest.mark.parametrize("name", ["run", "data", "test", "fit", "bundle"])
def test_notebooks_show_escaped_tables(run: epochal.Run, name: str) -> None:
    value = run if name == "run" else getattr(run, name)
    html = value._repr_html_()
    assert html.startswith(f"<div><b>{type(value).__name__}</b>: ")
    assert "<table" in html
    assert ("<polyline" in html) == (name in ("run", "fit"))
    assert len(html) < 12_000
    assert "<b>no</b>" not in html
    if name in ("data", "test", "bundle"):
        assert "&lt;b&gt;no&lt;/b&gt;" in html
        assert "yes &amp; no" in html


def test_very_many_names_are_cut() -> None:
    data = epochal.load((torch.rand(600, 3), torch.arange(600) % 300))
    assert "outputs  0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... (300 in all)" in repr(data)


def test_a_recipe_shows_what_was_chosen() -> None:
    assert repr(Recipe()) == "Recipe(all defaults)"
    assert repr(Recipe().updated({"lr": 0.1, "model": "mlp"})) == "Recipe(model.name = 'mlp', optimizer.lr = 0.1)"


def test_a_poor_run_says_so() -> None:
    labels = (torch.rand(200, generator=torch.Generator().manual_seed(0)) < 0.3).long()
    noise = torch.zeros(200, 1, 8, 8, dtype=torch.uint8).random_(generator=torch.Generator().manual_seed(1))
    run = epochal.train((noise, labels), epochs=1, model="linear", watchers=())
    assert "This is not clearly better than always answering '0' (" in repr(run)
    assert "--recipe photos" in repr(run)


def _figure(value: object) -> str:
    html: str = value._repr_html_()  # type: ignore[attr-defined]
    return html


def test_a_notebook_shows_examples() -> None:
    pictures = torch.zeros(20, 1, 8, 8, dtype=torch.uint8).random_(generator=torch.Generator().manual_seed(0))
    html = _figure(epochal.load((pictures, ["<i>", "b"] * 10)))
    assert html.count('src="data:image/png;base64,') == 6
    assert "&lt;i&gt;" in html
    large = torch.zeros(4, 3, 300, 400, dtype=torch.uint8)
    assert len(_figure(epochal.load((large, [0, 1, 0, 1])))) < 20_000
    html = _figure(epochal.load((["a <b>text</b>", "another " * 100] * 5, [0, 1] * 5)))
    assert "a &lt;b&gt;text&lt;/b&gt;" in html
    assert "another anoth" in html
    assert "…<" in html
    html = _figure(
        epochal.load({"size": [1.5, 2.5, 3.5] * 4, "where": ["x", "y", "z"] * 4, "price": [10.5, 20.25, 30.5] * 4}, target="price")
    )
    assert "20.25" in html
    assert "where" in html


def test_a_page_is_shown_in_a_frame_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text('<p title="x">1 & 2</p>')
    html = _figure(Page(tmp_path / "page.html"))
    assert 'sandbox="" srcdoc="&lt;p title=&quot;x&quot;&gt;1 &amp; 2&lt;/p&gt;"' in html


def test_a_run_without_a_folder_has_no_report(run: epochal.Run) -> None:
    with pytest.raises(epochal.EpochalError, match="has no folder"):
        _ = run.report


def test_curves_have_gaps_and_need_two_points() -> None:
    assert curves({"loss": [1.0]}) == ""
    assert curves({"loss": [float("nan")] * 3}) == ""
    drawn = curves({"<a>": [3.0, float("nan"), 1.0], "b": [2.0, 2.0, 2.0]})
    assert 'points="4.0,4.0 236.0,86.0"' in drawn
    assert "&lt;a&gt; 1" in drawn


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 examples are"), (1, "1 example is"), (2, "2 examples are"), (2000, "2,000 examples are")]
)
def test_nouns_and_verbs_go_by_their_number(number: int, words: str) -> None:
    assert f"{counted(number, 'example')} {are(number)}" == words
    assert counted(number, "class", "classes").endswith("class" if number == 1 else "classes")
