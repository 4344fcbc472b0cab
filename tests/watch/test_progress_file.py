"""How far training is, in a file that is there while it goes on."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from epochal.training.records import Finished, Progress
from epochal.watch.progress_file import ProgressFile

PROGRESS = Progress(1, 2, 3, 40, 48, 320, 0.5, 100.0, 0.0, 12.0)


def test_it_has_the_last_progress_about_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("epochal.watch.progress_file.monotonic", lambda: now)
    path = tmp_path / "progress.json"
    watcher = ProgressFile(tmp_path)
    watcher(PROGRESS)
    assert json.loads(path.read_text())["step"] == 3
    now += 0.4
    watcher(replace(PROGRESS, step=4))
    assert json.loads(path.read_text())["step"] == 3
    now += 0.7
    watcher(replace(PROGRESS, step=5, loss=math.nan))
    found = json.loads(path.read_text())
    assert (found["step"], found["loss"]) == (5, None)
    watcher(Finished(2, 40, 2, "epochs", 1.0))
    assert not any(tmp_path.iterdir())
