"""The first value that is not finite is named: its step, its layer, its examples."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from epochal.data.load import load
from epochal.errors import NotFiniteError, RecipeError
from epochal.random import key, permutation
from epochal.recipe import Recipe
from epochal.training import loop
from epochal.training.anomaly import FACTOR
from epochal.training.checkpoint import Checkpoints
from epochal.training.loop import fit
from epochal.training.records import EpochDone, Record, Rewound
from epochal.watch.metrics_file import MetricsFile
from tests.small import Fragile, small_recipe

COUNT = 40


def _data(bad: int) -> tuple[Tensor, Tensor]:
    x = torch.rand(COUNT, 2, generator=torch.Generator().manual_seed(0))
    x[bad, 0] = 1000.0
    return x, torch.arange(COUNT) % 2


_recipe = partial(small_recipe, batch_size=8, schedule="constant")


def _place(bad: int, epoch: int = 1) -> int:
    """The step of an epoch, from 1, that the example comes in."""
    order = permutation(key(0, epoch, "order"), COUNT).tolist()
    return int(order.index(bad)) // 8 + 1


@pytest.mark.parametrize("bad", [0, 17, 39])
def test_an_output(tmp_path: Path, bad: int) -> None:
    with pytest.raises(NotFiniteError) as raised:
        fit(Fragile("output"), _data(bad), _recipe(), checkpoints=_begun(tmp_path))
    step = _place(bad)
    assert str(raised.value).startswith(f"Step {step} (epoch 1): the input of last has a value that is not finite. From: train[{bad}].\n")


def test_a_gradient(tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError) as raised:
        fit(Fragile("gradient"), _data(5), _recipe(), checkpoints=_begun(tmp_path))
    told = str(raised.value)
    assert told.startswith(f"Step {_place(5)} (epoch 1): the gradient of first.weight has a value that is not finite. Its batch: train[")
    assert " and 3 more.\n" in told
    assert all(bool(tensor.isfinite().all()) for tensor in _tensors(tmp_path))


def test_parts_of_a_batch_name_the_batch(tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError, match=r"the input of last has .* Its batch: train\["):
        fit(Fragile("output"), _data(5), _recipe(accumulate=2), checkpoints=_begun(tmp_path))


def test_weights_that_grow_beyond_all_numbers(tmp_path: Path) -> None:
    x, y = torch.rand(COUNT, 2), torch.rand(COUNT, 1) * 1e18
    recipe = _recipe(optimizer={"name": "sgd", "lr": 1e18}, epochs=20)
    with pytest.raises(NotFiniteError, match=r"Step \d+ \(epoch \d+\): .* has a value that is not finite"):
        fit(nn.Linear(2, 1), (x, y), recipe, checkpoints=_begun(tmp_path))


def test_without_checkpoints_the_epoch_is_told() -> None:
    with pytest.raises(NotFiniteError, match=r"The loss became (nan|inf) in epoch 1, by step 5"):
        fit(Fragile("output"), _data(5), _recipe())


class Once(Fragile):
    """Gives what is not finite in the third step that it makes, and never again."""

    def __init__(self) -> None:
        super().__init__("nowhere")
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = super().forward(x)
        self.calls += self.training
        return outputs * torch.nan if self.calls == 3 and self.training else outputs


def test_nothing_is_blamed_that_does_not_happen_again(tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError, match="The loss became nan in epoch 1"):
        fit(Once(), _data(5), _recipe(), checkpoints=_begun(tmp_path))


class Cliff(nn.Module):
    """A single weight that learns to be 0.9, and gives what is not finite above 1: where a step is too large."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.drop = nn.Dropout(0.01)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.drop(x) * self.weight / (self.weight <= 1.0)
        return outputs


def _steep(lr: float, **changes: Any) -> Recipe:
    # Twice the mean square of the inputs, about 1, is the curvature: a rate above 1.1 steps over the cliff.
    return _recipe(optimizer={"name": "sgd", "lr": lr}, on_nan="rewind", **changes)


def _line() -> tuple[Tensor, Tensor]:
    x = torch.rand(COUNT, 1, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.5
    return x, 0.9 * x


def test_rewinding_goes_on_with_half_the_rate(tmp_path: Path) -> None:
    records: list[Record] = []
    model = Cliff()
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    found = fit(model, _line(), _steep(1.6), checkpoints=_begun(tmp_path / "kept"), watchers=[records.append, metrics])
    (rewound,) = [record for record in records if isinstance(record, Rewound)]
    assert found.finished.rewinds == (rewound,)
    assert (rewound.step, rewound.epoch, rewound.factor) == (0, 1, FACTOR)
    assert re.match(r"Step 2 \(epoch 1\): the output of the model \(Cliff\) has a value .* From: train\[", rewound.reason)
    assert [done.lr for done in found.epochs] == [0.8] * 3
    assert 0.8 < model.weight.item() <= 1.0
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["lr"]) for line in lines] == [(1, 0.8), (2, 0.8), (3, 0.8)]


def test_weights_that_are_lost_already_are_gone_behind(tmp_path: Path) -> None:
    """With a checkpoint after each step, the last one is over the cliff."""
    model = Cliff()
    found = fit(model, _line(), _steep(1.6), checkpoints=Checkpoints(tmp_path, 1e-9))
    assert [(rewound.step, rewound.epoch) for rewound in found.finished.rewinds] == [(1, 1), (0, 1)]
    assert [done.lr for done in found.epochs] == [0.4] * 3
    assert 0.8 < model.weight.item() <= 1.0


@pytest.mark.parametrize("every", [1e-9, 1e9])
def test_a_rewound_training_that_is_killed_ends_as_the_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: float) -> None:
    class KilledError(BaseException):
        pass

    whole = Cliff()
    wanted = fit(whole, _line(), _steep(1.6, ema=0.9), checkpoints=Checkpoints(tmp_path / "whole", every))
    real = Checkpoints.save
    left = 0

    def dying(self: Checkpoints, training: Any) -> None:
        nonlocal left
        real(self, training)
        left -= 1
        if not left:
            raise KilledError

    for saves in (1, 2, 3, 4, 5, 8):
        left = saves
        with monkeypatch.context() as patch:
            patch.setattr(Checkpoints, "save", dying)
            try:
                fit(Cliff(), _line(), _steep(1.6, ema=0.9), checkpoints=Checkpoints(tmp_path / "cut", every))
            except KilledError:
                continue
    again = Cliff()
    found = fit(again, _line(), _steep(1.6, ema=0.9), checkpoints=Checkpoints(tmp_path / "cut", every))
    assert found.finished.rewinds == wanted.finished.rewinds
    assert len(wanted.finished.rewinds) == (2 if every < 1 else 1)
    assert [(done.train_loss, done.lr) for done in found.epochs] == [(done.train_loss, done.lr) for done in wanted.epochs]
    assert torch.equal(again.weight, whole.weight)


def test_a_rewound_training_is_made_again_by_its_rewinds_alone(tmp_path: Path) -> None:
    whole, again = Cliff(), Cliff()
    wanted = fit(whole, _line(), _steep(1.6), checkpoints=Checkpoints(tmp_path, 1e-9))
    found = fit(again, _line(), _steep(1.6).updated({"on_nan": "stop"}), rewinds=wanted.finished.rewinds)
    assert torch.equal(whole.weight, again.weight)
    assert [(done.train_loss, done.lr) for done in found.epochs] == [(done.train_loss, done.lr) for done in wanted.epochs]


def test_rewinding_ends_after_three_times(tmp_path: Path) -> None:
    records: list[Record] = []
    with pytest.raises(NotFiniteError, match=r"From: train\[5\]\. Training was rewound 3 times already\.") as raised:
        fit(Fragile("output"), _data(5), _recipe(on_nan="rewind"), checkpoints=_begun(tmp_path), watchers=[records.append])
    assert [record.step for record in records if isinstance(record, Rewound)] == [0, 0, 0]
    assert "Look at these examples" in raised.value.fix
    assert all(bool(tensor.isfinite().all()) for tensor in _tensors(tmp_path))


def test_what_does_not_happen_again_is_rewound_too(tmp_path: Path) -> None:
    found = fit(Once(), _data(5), _recipe(on_nan="rewind"), checkpoints=_begun(tmp_path))
    assert [rewound.reason for rewound in found.finished.rewinds] == ["The loss became nan in epoch 1, by step 5."]


def test_a_weight_that_no_loss_sees_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = loop.train_step

    def poked(training: Any, batch: Any) -> None:
        real(training, batch)
        with torch.no_grad():
            training.model.unused.fill_(torch.nan)

    model = Fragile("nowhere")
    model.unused = nn.Parameter(torch.zeros(3))
    monkeypatch.setattr(loop, "train_step", poked)
    with pytest.raises(NotFiniteError, match="model unused has a value that is not finite after step 5"):
        fit(model, _data(5), _recipe())


def test_rewinding_past_epochs_follows_plateau(tmp_path: Path) -> None:
    """The steps are made again as they were, though the rate depended on the epochs between."""
    x, y = torch.rand(COUNT, 2), torch.rand(COUNT, 1)
    plateau = {"name": "plateau", "patience": 1, "factor": 0.5}

    class Late(nn.Linear):
        steps = 0

        def forward(self, x: Tensor) -> Tensor:
            outputs: Tensor = super().forward(x)
            # As the weight, not the clock, decides, it is so again when the steps are.
            return outputs / (self.weight[0, 0] < bound)

    recipe = _recipe(optimizer={"name": "sgd", "lr": 1e-3}, schedule=plateau, epochs=8)
    bound = torch.inf
    torch.manual_seed(0)
    probe = Late(2, 1)
    weights: list[float] = []
    fit(
        probe,
        (x, y),
        recipe,
        watchers=[lambda record: weights.append(probe.weight[0, 0].item()) if isinstance(record, EpochDone) else None],
    )
    assert len(set(weights)) == 8
    bound = (weights[5] + weights[6]) / 2
    torch.manual_seed(0)
    with pytest.raises(NotFiniteError, match=r"^Step \d+ \(epoch 7\)"):
        fit(Late(2, 1), (x, y), recipe, checkpoints=_begun(tmp_path))


def test_a_file_whose_name_is_not_utf_8_can_be_the_reason(tmp_path: Path) -> None:
    data = load(_data(5))
    named = replace(data, train=replace(data.train, files=[f"{number}-\udcff.png" for number in range(COUNT)]))
    for _ in range(2):
        # The second time, training begins with the checkpoint that has the reason.
        with pytest.raises(NotFiniteError, match="5-\udcff.png.* Training was rewound 3 times already"):
            fit(Fragile("output"), named, _recipe(on_nan="rewind"), checkpoints=_begun(tmp_path))


def test_rewinding_needs_checkpoints() -> None:
    with pytest.raises(RecipeError, match="on_nan = rewind needs checkpoints"):
        fit(Fragile("nowhere"), _data(5), _recipe(on_nan="rewind"))


def _begun(folder: Path) -> Checkpoints:
    """Checkpoints that are only written before the first step and at the ends of epochs."""
    return Checkpoints(folder, every=1e9)


def _tensors(folder: Path) -> list[Tensor]:
    from safetensors.torch import load_file

    return [tensor for file in folder.glob("*/state.safetensors") for tensor in load_file(file).values() if tensor.is_floating_point()]
