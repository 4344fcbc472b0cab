"""A process group of one process costs a step nothing: it makes the same calls."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from epochal.recipe import Recipe
from epochal.training import loop
from epochal.training.loop import fit
from tests.distributed.test_steps import BATCH, Net, pictures
from tests.forks import Server
from tests.processes import Processes, write


def train(_: int) -> None:
    """Train without a group, in one, and again without, and write the calls of all steps, of Python functions and others."""
    calls: list[str] = []
    real = loop.train_step

    def note(frame: Any, event: str, called: Any) -> None:
        if event in ("call", "c_call"):
            calls.append(frame.f_code.co_qualname if event == "call" else called.__qualname__)

    def step(training: Any, batch: Any) -> None:
        sys.setprofile(note)
        try:
            real(training, batch)
        finally:
            sys.setprofile(None)

    loop.train_step = step
    recipe = Recipe().updated({"epochs": 1, "batch_size": BATCH, "threads": 1, "step": "plain", "lr": 0.01, "keep": "last"})
    found = []
    # The first training fills what is computed once.
    for is_in_group in (False, False, True):
        if is_in_group:
            dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
        calls.clear()
        torch.manual_seed(8)
        fit(Net(is_weighted=False), pictures(), recipe)
        found.append([*calls])
    write(found[1:], "calls.json")


def fork(folder: Path) -> list[dict[str, Any]]:
    """Train in a process that was started as the only one."""
    return Processes(folder, 1, train).wait()


def test_a_group_of_one_changes_no_call(forking: Server, tmp_path: Path) -> None:
    forking.by(__name__).ask(folder=str(tmp_path))
    assert [one["code"] for one in forking.answer()] == [0], (tmp_path / "said-0.txt").read_text()
    without, within = json.loads((tmp_path / "calls.json").read_text())
    assert len(without) > 1000
    assert within == without
