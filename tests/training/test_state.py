"""The state of training: what is kept comes back as it was, and what no training comes to is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from epochal.errors import BundleError, TrainingError
from epochal.training import loop
from epochal.training.checkpoint import Checkpoints
from epochal.training.loop import fit
from epochal.training.records import EpochDone, Record, Started
from tests.training.resuming import KilledError, assert_same, kill_at, longer_recipe, run_in, split_data

Arrays = tuple[Tensor, Tensor]


@pytest.mark.parametrize(
    ("targets", "outputs", "metric"),
    [
        (lambda x, y: y, 3, "f1"),
        (lambda x, y: torch.stack((y > 0, y > 1), 1), 2, "micro f1"),
        (lambda x, y: y + x[:, 0] / 3, 1, "rmse"),
    ],
)
def test_records_of_epochs_come_back_as_they_were(blobs: Arrays, tmp_path: Path, targets: Any, outputs: int, metric: str) -> None:
    x, y = blobs[0], targets(*blobs)
    data = {"train": (x[:45], y[:45]), "valid": (x[45:], y[45:])}
    records: list[Record] = []
    for epochs in (2, 3):
        options: Any = {"checkpoints": Checkpoints(tmp_path, 1e-9), "metrics": [metric], "watchers": [records.append]}
        fit(nn.Linear(2, outputs), data, longer_recipe(epochs=epochs), **options)
    begun, resumed = (record for record in records if isinstance(record, Started))
    told = [record for record in records if isinstance(record, EpochDone)]
    # Equal in every number, those of the clock too.
    assert (begun.history, resumed.history) == ((), tuple(told[:2]))
    valid = told[0].valid
    assert valid is not None
    assert metric in valid.metrics
    assert dataclasses.replace(told[0], valid=dataclasses.replace(valid, loss=0.0)) != told[0]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("epoch", 5.0, "epoch: Input should be a valid integer"),
        ("epoch", 4, "its epochs are not those before epoch 4"),
        ("step", -1, "step: Input should be greater than or equal to 0"),
        ("step", 10**9, "step 1000000000 is not in epoch 5"),
        ("best/epoch", 9, "its best epoch is not one of 4"),
        ("best/epoch", 0, "best/weights/.* of shape .* does not belong to it"),
        ("best/improved", 0, "its best epoch is not one of 4"),
        ("best/score", "much", "best/could not convert string to float"),
        ("history", [{"epoch": 1}], r"history\.0\.epochs: Field required"),
        ("more", 1, "more: Extra inputs are not permitted"),
        ("more/1", 1, "more/1: Extra inputs are not permitted"),
        ("schedule/cuts", -1, "schedule/cuts: Input should be greater than or equal to 0"),
        ("schedule/rewinds", [{"step": 1, "epoch": 1, "factor": 0.5}], r"schedule/rewinds\.0\.reason: Field required"),
        ("threads/changes", [{"step": 1, "threads": 2, "before": 1}], "threads/changes: one is to more than 1 threads"),
        ("optimizer/0/more", 1, "optimizer/0/more does not belong to it"),
        ("optimizer/groups", [], "zip"),
        ("model/more", 1, "model/more does not belong to it"),
        ("version", 6, "is a checkpoint of version 6; this Epochal reads version 8"),
    ],
)
def test_a_state_that_no_training_comes_to_is_refused(blobs: Arrays, tmp_path: Path, name: str, value: object, told: str) -> None:
    run_in(blobs, longer_recipe(), tmp_path)
    place = Checkpoints(tmp_path, 1.0).found()[0]
    state = json.loads((place / "state.json").read_text()) | {name: value}
    content = json.dumps(state).encode()
    (place / "state.json").write_bytes(content)
    sums = (place / "SHA256SUMS").read_text().splitlines()
    (place / "SHA256SUMS").write_text("\n".join([sums[0], f"{hashlib.sha256(content).hexdigest()}  state.json"]) + "\n")
    with pytest.raises(BundleError, match=told):
        run_in(blobs, longer_recipe(), tmp_path)


def test_a_mask_of_minus_infinity_is_no_damage(blobs: Arrays, tmp_path: Path) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mask: Tensor
            self.register_buffer("mask", torch.tensor([0.0, 0.0, -torch.inf]))
            self.net = nn.Linear(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            outputs: Tensor = self.net(x) + self.mask.clamp(min=-100.0)
            return outputs

    fit(Masked(), split_data(blobs), longer_recipe(ema=0.9), checkpoints=Checkpoints(tmp_path, 1e-9))
    assert Checkpoints(tmp_path, 1.0).found()


def test_a_validation_loss_beyond_all_numbers_comes_back(blobs: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def beyond(outputs: Tensor, targets: Tensor) -> Tensor:
        loss = nn.functional.cross_entropy(outputs, targets)
        return loss if loss.requires_grad else loss * torch.inf

    _, wanted = run_in(blobs, longer_recipe(), None, loss=beyond)
    with monkeypatch.context() as patch:
        kill_at(patch, "train_step", 8)
        with pytest.raises(KilledError):
            run_in(blobs, longer_recipe(), tmp_path, loss=beyond)
    for place in Checkpoints(tmp_path, 1.0).found():
        json.loads((place / "state.json").read_text(), parse_constant=pytest.fail)
    _, found = run_in(blobs, longer_recipe(), tmp_path, loss=beyond)
    assert [done.valid and done.valid.loss for done in found.epochs] == [torch.inf] * 4
    assert_same(found, wanted)


def test_weights_that_are_not_finite_are_never_kept(blobs: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, steps = loop.train_step, 0

    def broken(training: Any, batch: Any) -> None:
        nonlocal steps
        steps += 1
        real(training, batch)
        if steps == 5:
            with torch.no_grad():
                training.model[4].bias[1] = torch.inf

    monkeypatch.setattr(loop, "train_step", broken)
    with pytest.raises(TrainingError, match="model 4.bias has a value that is not finite after step 5"):
        run_in(blobs, longer_recipe(), tmp_path)
    assert Checkpoints(tmp_path, 1.0).found()[0].name == "step-0000000004-2"


def test_tied_weights(blobs: Arrays, tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(2, 3)
            self.second = self.first

        def forward(self, x: Tensor) -> Tensor:
            outputs: Tensor = self.second(x)
            return outputs

    fit(Tied(), split_data(blobs), longer_recipe(epochs=1), checkpoints=Checkpoints(tmp_path, 1e-9))
    again = Tied()
    fit(again, split_data(blobs), longer_recipe(epochs=2), checkpoints=Checkpoints(tmp_path, 1e-9))
    assert torch.equal(again.first.weight, again.second.weight)
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("optimizer/0/exp_avg", (4,)),
        ("optimizer/0/exp_avg", (8, 1)),
        ("optimizer/0/exp_avg", (2, 8)),
        ("optimizer/0/step", (2,)),
        ("optimizer/99/exp_avg", (2,)),
        ("best/weights/0.weight", (9, 2)),
        ("average/weights/0.weight", ()),
        ("model/other", (2,)),
        ("strange", ()),
    ],
)
def test_tensors_that_are_not_of_this_model_are_refused(blobs: Arrays, tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    """The fused kernels write as many numbers as the parameter has, however few the state has."""
    run_in(blobs, longer_recipe(), tmp_path)
    place = Checkpoints(tmp_path, 1.0).found()[0]
    tensors = load_file(place / "state.safetensors")
    save_file({**tensors, name: torch.zeros(shape)}, place / "state.safetensors")
    sums = {file: hashlib.sha256((place / file).read_bytes()).hexdigest() for file in ("state.safetensors", "state.json")}
    (place / "SHA256SUMS").write_text("".join(f"{found}  {file}\n" for file, found in sums.items()))
    with pytest.raises(BundleError, match=rf"is not of this model and these settings: {name} of shape .* does not belong to it"):
        run_in(blobs, longer_recipe(), tmp_path)
