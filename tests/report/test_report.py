"""The report of a run: of each task and size, with the numbers of result.json, and safe to open."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import epochal
from epochal.errors import BundleError, OutputError
from epochal.evaluation.assessment import Assessment, assess
from epochal.evaluation.evaluate import score
from epochal.io.files import finite
from epochal.recipe import LossSettings
from epochal.run.compare import compare
from epochal.run.evaluate import evaluate_run
from epochal.run.report import render_run, report
from epochal.tasks.single_label import SingleLabel
from tests.photos import write_photos

EVIL = "</script><script>alert(1)</script>\"'&"
FAST: dict[str, Any] = {"quiet": True, "device": "cpu", "threads": 1}


def _points(classes: int, count: int = 120) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes
    return torch.randn((count, 4), generator=generator) + labels[:, None], labels


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> epochal.Run:
    return epochal.train("digits", epochs=2, out=tmp_path_factory.mktemp("report") / "digits", **FAST)


def _page(run: epochal.Run) -> str:
    assert run.folder is not None
    return (run.folder / "report.html").read_text("utf-8")


def _plain(page: str) -> str:
    """What the page says, without tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page.partition("<body>")[2]))


def test_all_sections_are_there_in_order(run: epochal.Run) -> None:
    page = _page(run)
    assert re.findall(r'<section id="([^"]+)"', page) == [
        "training", "confusion", "classes", "calibration", "mistakes", "label-errors", "confidence", "sets", "samples", "time", "settings",
        "environment", "data",
    ]  # fmt: skip
    for anchor in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{anchor}"' in page
    names = re.findall(r' id="([^"]+)"', page)
    assert len(names) == len(set(names))


def test_nothing_is_asked_for_and_nothing_runs(run: epochal.Run) -> None:
    page = _page(run)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!data:image/|#)', page)
    assert "url(" not in page
    assert len(page) < 300_000


def test_numbers_are_those_of_the_result_the_terminal_evaluate_and_compare(run: epochal.Run, tmp_path: Path) -> None:
    assert run.folder is not None
    assert run.test is not None
    result = json.loads((run.folder / "result.json").read_text())
    test, found = result["test"], Assessment.from_json(result["assessment"])
    said = _plain(_page(run))
    share, ends = f"{100 * test['accuracy']:.1f} %", " to ".join(f"{100 * end:.1f}" for end in test["interval"])
    for words in (str(run.test), str(evaluate_run(run.folder)), said):
        assert share in words
        assert ends in words
        assert f"{100 * test['baseline']['accuracy']:.1f} %" in words
    compared = compare(run.folder, shutil.copytree(run.folder, tmp_path / "other"))
    for one in compared.runs:
        assert (one.score, one.interval) == (test["accuracy"], tuple(test["interval"]))
    assert share in str(compared)
    assert (compared.count, compared.pairs[0].same) == (test["count"], True)
    assert found.calibration is not None
    assert found.coverage is not None
    for number in (found.calibration.error, found.calibration.floor, found.calibration.debiased):
        assert f"{100 * number:.1f} points" in said
    assert f"macro F1 {100 * found.scores['macro F1'].value:.1f} %" in said
    assert f"hold the truth in {100 * found.coverage.measured:.1f} %" in said
    assert f"{found.precisions['3'].value:.4f}" in said
    low, high = found.recalls["8"]
    assert f"{100 * low:.1f} to {100 * high:.1f} %" in said
    first = found.confusions[0]
    assert f"{first.count} of {first.support}" in said
    assert sum(map(sum, test["confusion"])) == test["count"]


def test_it_can_be_written_again_without_the_data(run: epochal.Run, tmp_path: Path) -> None:
    assert run.folder is not None
    folder = shutil.copytree(run.folder, tmp_path / run.folder.name)
    for needless in ("model", "predictions", "checkpoints", "figures"):
        shutil.rmtree(folder / needless)
    out = report(folder, tmp_path / "again.html")
    assert out.read_text("utf-8") == _page(run)
    assert report(folder, out) == out
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(OutputError, match=r"mine\.html"):
        report(folder, tmp_path / "mine.html")


def test_what_is_no_finished_run_is_refused(run: epochal.Run, tmp_path: Path) -> None:
    assert run.folder is not None
    with pytest.raises(BundleError, match="is not a finished run"):
        report(tmp_path)
    folder = shutil.copytree(run.folder, tmp_path / "run")
    (folder / "examples.json").write_text("{}")
    with pytest.raises(BundleError, match=r"examples\.json cannot be read"):
        report(folder)
    (folder / "examples.json").unlink()
    assert '<section id="mistakes"' not in report(folder).read_text("utf-8")
    with pytest.raises(BundleError, match="a file of it is damaged"):
        render_run(folder, {**run.result, "assessment": {"split": "test"}})


def test_a_report_that_fails_loses_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("no luck")

    monkeypatch.setattr("epochal.run.complete.write_report", fail)
    monkeypatch.setattr("epochal.run.complete.write_examples", fail)
    done = epochal.train(_points(2), epochs=1, out=tmp_path / "run", **{**FAST, "quiet": False})
    assert (tmp_path / "run" / "result.json").exists()
    assert not (tmp_path / "run" / "report.html").exists()
    assert done.result["test"] is not None
    assert "ZeroDivisionError: no luck" in capsys.readouterr().out
    assert report(tmp_path / "run").exists()


@pytest.mark.parametrize("classes", [2, 3])
def test_names_are_never_markup(tmp_path: Path, classes: int) -> None:
    inputs, labels = _points(classes)
    names = [f"{EVIL} {number}\n\udcff" for number in range(classes)]
    page = _page(epochal.train((inputs, [names[int(label)] for label in labels]), epochs=1, out=tmp_path / "<b>&amp;", **FAST))
    assert "<script" not in page
    assert "<b>&amp;" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_files_and_texts_are_never_markup(tmp_path: Path) -> None:
    rows = "".join(f'"{EVIL.replace(chr(34), chr(34) * 2)} {word} {row}",{word}\n' for row in range(30) for word in ("good", "bad"))
    (tmp_path / "texts.csv").write_text("text,label\n" + rows)
    page = _page(epochal.train(tmp_path / "texts.csv", text=["text"], target=["label"], epochs=1, out=tmp_path / "run", **FAST))
    assert "<script" not in page
    assert "<blockquote>&lt;/script&gt;" in page


def test_several_labels(tmp_path: Path) -> None:
    inputs, labels = _points(4)
    page = _plain(_page(epochal.train((inputs, torch.stack([labels > 1, labels % 2 == 1], 1)), epochs=2, out=tmp_path / "run", **FAST)))
    assert "All labels are right in" in page
    assert "is found" in page


def test_quantities(tmp_path: Path) -> None:
    inputs, labels = _points(5)
    done = epochal.train((inputs, torch.stack([labels * 2.0 + 0.5, -labels * 1.0], 1)), epochs=3, out=tmp_path / "run", **FAST)
    page = _page(done)
    assert [name for name in re.findall(r'<section id="([^"]+)"', page) if "quantity" in name] == ["quantity-0", "quantity-1"]
    assert done.test is not None
    mean = done.result["assessment"]["scores"]["mean absolute error"]["value"]
    assert mean == pytest.approx(done.test.mae)
    assert f"off by {mean:.4g} on average" in _plain(page)
    assert f"would be off by {done.result['assessment']['baseline']:.4g}" in _plain(page)
    assert done.folder is not None
    grouped = _plain(render_run(done.folder, {**done.result, "test": {**done.result["test"], "groups": 4}}))
    assert "too narrow" not in _plain(page)
    assert "Bands around predictions" in grouped
    assert grouped.count("count by themselves in this section: its intervals are too narrow.") == 1


@pytest.mark.parametrize(
    ("shares", "words"), [((0.2, 0.0), "There was no test data."), ((0.0, 0.2), "No threshold was chosen"), ((0, 0), "Nothing was")]
)
def test_runs_without_some_splits(tmp_path: Path, shares: Sequence[float], words: str) -> None:
    done = epochal.train(_points(3, 300), epochs=1, valid=shares[0], test=shares[1], out=tmp_path / "run", **FAST)
    assert words in _plain(_page(done))


def test_groups_are_told_where_they_do_not_count_together(run: epochal.Run) -> None:
    assert run.folder is not None
    warning = "Examples of one group are alike, but count by themselves in this section: its intervals are too narrow."

    def sections(result: dict[str, Any]) -> dict[str, str]:
        assert run.folder is not None
        page = render_run(run.folder, result)
        return {name: _plain("<body>" + inner) for name, inner in re.findall(r'<section id="([^"]+)"(.*?)</section>', page, re.DOTALL)}

    result = dict(run.result)
    assert not any(warning in words for words in sections(result).values())
    found = sections({**result, "test": {**result["test"], "groups": 40}})
    assert {name for name, words in found.items() if warning in words} == {"calibration", "confidence", "sets"}


def test_photos_have_a_small_report(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", {f"class {shade}": shade for shade in range(20, 240, 22)}, 12, 64, 48, spread=60)
    page = _page(epochal.train(tmp_path / "photos", epochs=1, size=32, flip=True, out=tmp_path / "run", **FAST))
    assert page.count("data:image/") > 10
    assert "changed at random in each epoch" in page
    assert len(page) < 2_000_000


def test_a_thousand_classes(run: epochal.Run) -> None:
    generator = torch.Generator().manual_seed(0)
    task = SingleLabel(outputs=tuple(f"class number {number}" for number in range(1_000)))
    outputs = torch.randn((5_000, 1_000), generator=generator) * 2
    targets = torch.multinomial(outputs.softmax(1), 1, generator=generator)[:, 0]
    test, valid = (score(outputs[part], targets[part], task, task.loss(LossSettings())) for part in (slice(4_000), slice(4_000, 5_000)))
    found = assess(valid, test)
    assert found is not None
    assert run.folder is not None
    spec = {**run.result["data"], "task": task.model_dump(mode="json")}
    page = render_run(run.folder, {**run.result, "data": spec, "test": finite(test.to_json()), "assessment": finite(found.to_json())})
    assert "Confusion matrix" not in page
    assert page.count("class number") > 900
    assert len(page) < 300_000


def test_pictures_are_small(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(16):
            pixels = generator.integers(0, 255, (200, 300, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{number}.png")
    page = _page(epochal.train(tmp_path / "data", epochs=1, size=128, model="mlp", out=tmp_path / "run", **FAST))
    assert len(page) < 1_000_000
