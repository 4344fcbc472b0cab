"""Values print in a few lines, whatever tensors they hold, and as escaped tables in notebooks."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import epochal
from epochal.recipe import Recipe


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
    assert "<table>" in html
    assert len(html) < 5000
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
