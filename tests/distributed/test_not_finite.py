"""Values that are NaN or infinite with several processes: all find the same first one, and rewind together."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from epochal.data.load import Data, load
from epochal.errors import EpochalError
from epochal.training.checkpoint import Checkpoints
from epochal.training.loop import fit
from tests.forks import Server
from tests.processes import Processes, write

# An example like no other, which only one process sees in any step.
COUNT, ODD = 60, 37

# The most that an update may change a weight.
LARGE = 0.01


class Net(nn.Module):
    """A network that makes no number of the odd example, after its batch norm; or that a large update spoils for it."""

    last: Tensor

    def __init__(self, case: str) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.case = case
        self.first = nn.Linear(9, 8)
        self.odd = Odd(case)
        self.norm = nn.BatchNorm1d(8)
        self.out = nn.Linear(8, 3)
        self.register_buffer("last", self.out.weight.detach().clone())
        self.double()

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [batch, 3]."""
        flat = inputs.flatten(1).double() / 255
        outputs: Tensor = self.out(self.norm(self.first(self.odd(flat))))
        if self.case == "rewind" and self.training:
            # One process alone has the loss that is no number.
            outputs = torch.where(((self.out.weight - self.last).abs().max() > LARGE) & (flat[:, :1] > 0.99), torch.nan, outputs)
            self.last.copy_(self.out.weight.detach())
        return outputs


class Odd(nn.Module):
    """What is no number for the odd example."""

    def __init__(self, case: str) -> None:
        super().__init__()
        self.case = case

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the inputs, or NaN."""
        return torch.where(inputs[:, :1] > 0.99, torch.nan, inputs) if self.case == "stop" and self.training else inputs


def pictures() -> Data:
    """Return 60 pictures of 3 × 3 pixels for training, and 9 for validation; the first pixel of one of them is white."""
    labels = torch.arange(COUNT + 9) % 3
    pixels = torch.randint(0, 200, (COUNT + 9, 1, 3, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    pixels[ODD, 0, 0, 0] = 255
    return load({"train": (pixels[:COUNT], labels[:COUNT]), "valid": (pixels[COUNT:], labels[COUNT:])})


def train(case: str, size: int, rank: int) -> None:
    """Train, and write what was said of values that are not finite."""
    settings = {"epochs": 6, "batch_size": 14, "threads": 1, "step": "plain", "lr": 0.015, "on_nan": case}
    said: dict[str, Any] = {}
    try:
        done = fit(Net(case), pictures(), settings, checkpoints=Checkpoints(Path(f"checkpoints-{case}-{size}"), every=0.0))
        said = {"rewinds": [(one.step, one.factor, one.reason) for one in done.finished.rewinds], "loss": done.epochs[-1].train_loss}
    except EpochalError as error:
        said = {"kind": type(error).__name__, "problem": error.problem}
    write(said, f"{case}-{size}-{rank}.json")


def fork(folder: Path, case: str, size: int) -> list[dict[str, Any]]:
    """Train in so many processes."""
    return Processes(folder, size, partial(train, case, size)).wait()


@pytest.mark.parametrize("case", ["stop", "rewind"])
def test_all_find_what_one_finds(case: str, forking: Server, tmp_path: Path) -> None:
    found = {}
    for size in (1, 2, 4):
        forking.by(__name__).ask(folder=str(tmp_path), case=case, size=size)
        assert [one["code"] for one in forking.answer()] == [0] * size, (tmp_path / "said-0.txt").read_text()
        found[size] = [json.loads((tmp_path / f"{case}-{size}-{rank}.json").read_text()) for rank in range(size)]
    alone = found[1][0]
    for several in found.values():
        assert all(one == several[0] for one in several)
    if case == "stop":
        assert "the output of odd (Odd) has a value that is not finite. From: " in alone["problem"]
        assert found[2][0] == found[4][0] == alone
        return
    # Which checkpoint is the last one depends on the clock, and so do the steps after it.
    for several in found.values():
        assert several[0]["rewinds"]
        reasons = [reason for _, _, reason in several[0]["rewinds"]]
        assert [one for one in reasons if "(Net) has a value that is not finite. From: train[37]." not in one] == []
        assert several[0]["loss"] < 1.1
