"""A kept model is measured without what it knows from training, wherever that comes from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import TensorDataset

import epochal
from epochal.bundle import Bundle
from epochal.checks.seen import SEEN
from epochal.errors import BundleError, DataError
from epochal.run.evaluate import evaluate_run
from epochal.tasks.intervals import share_interval

COUNT = 60
# What `train` cuts off for the test; the rest is trained on, or picks the epoch.
TESTED = 12


def pixels(count: int = COUNT, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


def photos(root: Path, values: NDArray[np.uint8]) -> Path:
    for number, picture in enumerate(values):
        folder = root / ("ant", "bee")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("measure")
    train(photos(root / "photos", pixels()), root / "run")
    return root


def train(data: Any, out: Path | None = None, **settings: Any) -> epochal.Run:
    return epochal.train(data, model="linear", epochs=1, out=out, watchers=(), **settings)


def test_the_folder_of_a_run_gives_the_score_of_its_test(trained: Path) -> None:
    told: list[str] = []
    own, again = evaluate_run(trained / "run"), evaluate_run(trained / "run", trained / "photos", log=told.append)
    assert (own.count, again.count, again.left_out, again.known) == (TESTED, TESTED, COUNT - TESTED, 0)
    assert again.accuracy == own.accuracy
    assert str(again).endswith("known from training; always 'ant' would be 50.0 %")
    assert told[1] == (
        "note: 48 of its 60 examples were used in training, or equal ones, and are left out; --include-training measures on them too"
    )
    told.clear()
    whole = evaluate_run(trained / "run", trained / "photos", include_training=True, log=told.append)
    assert (whole.count, whole.left_out, whole.known) == (COUNT, 0, COUNT - TESTED)
    assert "n = 60, 48 of them known from training" in str(whole)
    assert told[1] == "note: 48 of its 60 examples were used in training, or equal ones: new ones would score lower"
    assert (whole.to_json()["known"], again.to_json()["left_out"]) == (48, 48)


def test_examples_are_known_by_content_alone(trained: Path, tmp_path: Path) -> None:
    # Other names, other files with the same pixels, an archive, arrays: and ten new pictures.
    run = Bundle.load(trained / "run")
    mixed = np.concatenate([pixels()[::-1], pixels(10, seed=1)])
    assert run.evaluate(photos(tmp_path / "mixed", mixed)).count == TESTED + 10
    for path in (tmp_path / "mixed").rglob("*.png"):
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    assert run.evaluate(tmp_path / "mixed").count == TESTED + 10
    shutil.make_archive(str(tmp_path / "packed"), "zip", trained, "photos")
    assert run.evaluate(tmp_path / "packed.zip").left_out == COUNT - TESTED
    arrays = torch.from_numpy(mixed).movedim(-1, 1), [("ant", "bee")[number % 2] for number in range(len(mixed))]
    assert run.evaluate(arrays).count == TESTED + 10


def test_streamed_pictures_are_known_by_their_files(trained: Path, tmp_path: Path) -> None:
    run = train(trained / "photos", memory=1e-6)
    assert not isinstance(run.data.train.inputs, torch.Tensor)
    assert run.bundle.evaluate(trained / "photos").left_out == COUNT - TESTED


@pytest.mark.parametrize("kind", ["arrays", "npz", "dataset", "splits"])
def test_every_source_is_known(tmp_path: Path, kind: str) -> None:
    x, y = np.random.default_rng(0).normal(size=(COUNT, 5)), np.arange(COUNT) % 3
    what: Any = (x, y)
    if kind == "npz":
        np.savez(tmp_path / "data.npz", x=x, y=y)
        what = tmp_path / "data.npz"
    elif kind == "dataset":
        what = TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    elif kind == "splits":
        what = {"train": (x[:40], y[:40]), "valid": (x[40:48], y[40:48])}
    run = train(what, tmp_path / "run", test=0.0 if kind == "splits" else 0.2)
    for bundle in (run.bundle, Bundle.load(tmp_path / "run")):
        if kind == "splits":
            assert bundle.evaluate((x, y)).count == TESTED
        assert bundle.evaluate(what if kind != "splits" else (x, y)).left_out == COUNT - TESTED
        assert bundle.evaluate(what, include_training=True).count == (48 if kind == "splits" else COUNT)


def test_where_all_is_known_nothing_is_left_to_measure(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(COUNT, 5)), np.arange(COUNT) % 3
    run = train((x, y), test=0.0)
    with pytest.raises(
        DataError, match=r"All examples of arrays \(60\), or equal ones, were used in training: nothing is left to measure on"
    ) as raised:
        run.bundle.evaluate((x, y))
    assert "include_training=True" in str(raised.value)


def test_a_row_with_another_target_is_another_example() -> None:
    x, y = np.arange(COUNT) % 10, np.random.default_rng(0).normal(size=COUNT)
    run = train((x.astype(np.float32), y), test=0.0)
    assert run.bundle.evaluate((x.astype(np.float32), y + 1)).left_out == 0


def test_a_copied_model_counts_what_it_was_trained_on(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "run" / "model", tmp_path / "model")
    told: list[str] = []
    found = evaluate_run(tmp_path / "model", trained / "photos", log=told.append)
    assert (found.count, found.known) == (COUNT, COUNT - TESTED)
    assert "48 of its 60 examples were used in training, or equal ones" in told[1]
    assert evaluate_run(tmp_path / "model", photos(tmp_path / "new", pixels(10, seed=2))).known == 0
    with pytest.raises(DataError, match="model is a model without its run.\nName the data to evaluate on"):
        evaluate_run(tmp_path / "model")


def test_keys_that_changed_are_told(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "run", tmp_path / "run")
    content = bytearray((tmp_path / "run" / SEEN).read_bytes())
    content[3] ^= 1
    (tmp_path / "run" / SEEN).write_bytes(content)
    with pytest.raises(BundleError, match=r"seen.bin cannot be read: it has changed since it was written"):
        evaluate_run(tmp_path / "run", trained / "photos")


def test_data_that_were_loaded_for_something_else_are_refused(trained: Path) -> None:
    run = Bundle.load(trained / "run")
    other = epochal.load((torch.from_numpy(pixels(6)).movedim(-1, 1), ["cow", "dog"] * 3))
    with pytest.raises(DataError, match="arrays has the outputs cow, dog; the model gives ant, bee"):
        run.evaluate(other)


def test_examples_of_one_group_count_together_wherever_a_score_is(tmp_path: Path) -> None:
    # What belongs together is answered alike: 40 groups of ten equal examples.
    points = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    labels = (points[:, 0] + torch.randn(40, generator=torch.Generator().manual_seed(1)) > 0).long()
    both = points.repeat_interleave(10, 0), labels.repeat_interleave(10)
    groups = [str(number // 10) for number in range(400)]
    quick: dict[str, Any] = {"epochs": 3, "threads": 1, "device": "cpu", "quiet": True, "test": 0.4}
    known = epochal.train(epochal.load(both, group=groups), **quick, out=tmp_path / "run")
    assert known.test is not None
    assert known.test.accuracy is not None
    assert known.test.groups is not None
    number = len(known.test.groups.unique())
    right = round(known.test.accuracy * number)
    assert known.test.interval == pytest.approx(share_interval(right, number), abs=0.03)
    assert f"in {number} groups that count together" in str(known.test)
    again = evaluate_run(tmp_path / "run")
    assert (again.interval, str(again)) == (known.test.interval, str(known.test))
    result = json.loads((tmp_path / "run" / "result.json").read_text("utf-8"))
    assert result["test"]["groups"] == number
    assert tuple(result["test"]["interval"]) == known.test.interval
    low, high = result["assessment"]["scores"]["macro F1"]["interval"]
    assert high - low > 0.2
    assert all(high - low > 0.2 for low, high in result["assessment"]["recalls"].values())
    assert f"count together in intervals: {number} groups" in (tmp_path / "run" / "report.html").read_text("utf-8")
    other = known.bundle.evaluate(
        epochal.load({"train": both, "test": both}, like=known.bundle.spec, group={"train": groups, "test": groups}), include_training=True
    )
    assert "in 40 groups that count together" in str(other)
