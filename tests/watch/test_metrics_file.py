import dataclasses
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from epochal.data.load import load
from epochal.errors import OutputError
from epochal.recipe import Recipe
from epochal.training.loop import fit
from epochal.training.records import Rewound
from epochal.watch.console import Console
from epochal.watch.metrics_file import MetricsFile


def lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text("utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_per_epoch(records: Any, log: Any, tmp_path: Path) -> None:
    with MetricsFile(tmp_path / "metrics.jsonl") as watcher:
        log(watcher, records.training())
    written = lines(tmp_path / "metrics.jsonl")
    assert [line["epoch"] for line in written] == [1, 2, 3]
    assert written[0] == {
        "epoch": 1,
        "step": 100,
        "train_loss": 0.625,
        "valid": {"loss": 0.6, "accuracy": 0.9, "macro_f1": 0.75},
        "lr": 0.25,
        "seconds": 1.5,
        "examples_per_second": 45678.0,
        "waiting": 0.02,
        "is_best": True,
    }
    assert written[2]["is_best"] is False


def test_watchers_of_a_real_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs, targets = torch.randn(40, 3), torch.arange(40) % 2
    data = load((inputs, targets)).split(valid=0.25, test=0.0)
    with MetricsFile(tmp_path / "metrics.jsonl") as metrics, Console() as console:
        fitted = fit(nn.Linear(3, 2), data, Recipe().updated({"epochs": 2}), watchers=[metrics, console])
    written = lines(tmp_path / "metrics.jsonl")
    assert [line["train_loss"] for line in written] == [done.train_loss for done in fitted.epochs]
    assert f"kept the weights of epoch {fitted.finished.best_epoch}" in capsys.readouterr().out


def test_an_epoch_is_on_the_disk_at_once_and_survives_failure(records: Any, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with pytest.raises(RuntimeError), MetricsFile(path) as watcher:
        watcher(records.started())
        watcher(records.progress())
        watcher(records.epoch(1, None))
        assert lines(path)[0]["valid"] is None
        raise RuntimeError
    assert len(lines(path)) == 1


def test_a_second_training_appends(records: Any, log: Any, tmp_path: Path) -> None:
    watcher = MetricsFile(str(tmp_path / "metrics.jsonl"))
    log(watcher, records.training())
    log(watcher, [records.started(task="regression"), records.regressed(1), records.finished()])
    written = lines(tmp_path / "metrics.jsonl")
    assert len(written) == 4
    assert written[3]["valid"] == {"loss": 0.5, "mse": 0.5, "mae": 0.25, "r2": 0.875}


def test_an_epoch_that_is_rewound_or_resumed_is_not_there_twice(records: Any, log: Any, tmp_path: Path) -> None:
    path, rewound = tmp_path / "metrics.jsonl", Rewound(100, 2, 0.5, "")
    first, second = records.epoch(1, 0.6), records.epoch(2, 0.5)
    with MetricsFile(path) as watcher:
        log(watcher, [records.started(), first, second, rewound, dataclasses.replace(second, lr=0.01)])
    assert [(line["epoch"], line["lr"]) for line in lines(path)] == [(1, 0.25), (2, 0.01)]
    with MetricsFile(path) as watcher:
        # From the checkpoint before the first step.
        log(watcher, [dataclasses.replace(records.started(), step=0), first])
    assert [line["epoch"] for line in lines(path)] == [1]


def test_a_line_that_the_disk_takes_in_parts_is_whole(records: Any, log: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(io.FileIO):
        def write(self, content: Any) -> int:
            return super().write(content[:7])

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, mode, **_: Slow(path, mode.replace("b", "")))
        log(MetricsFile(tmp_path / "metrics.jsonl"), records.training())
    assert [line["epoch"] for line in lines(tmp_path / "metrics.jsonl")] == [1, 2, 3]


def test_a_number_that_is_not_finite_becomes_null(records: Any, log: Any, tmp_path: Path) -> None:
    with MetricsFile(tmp_path / "metrics.jsonl") as watcher:
        log(watcher, [records.started(), records.epoch(1, math.nan, train_loss=math.inf)])
    (line,) = lines(tmp_path / "metrics.jsonl")
    assert line["train_loss"] is None
    assert line["valid"]["loss"] is None


def test_a_place_that_cannot_be_written_is_reported_before_the_first_step(records: Any, tmp_path: Path) -> None:
    watcher = MetricsFile(tmp_path / "nowhere" / "metrics.jsonl")
    with pytest.raises(OutputError, match=r"Cannot write .*metrics\.jsonl"):
        watcher(records.started())
