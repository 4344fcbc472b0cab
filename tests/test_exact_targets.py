"""Quantities far from 0 are learned, predicted and scored to the digits that they differ in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import epochal
from epochal import Bundle, Run
from epochal.data.inputs.numbers import NumbersRule
from epochal.data.load import load
from epochal.errors import DataError
from epochal.tasks.regression import Regression

_OFFSET = 1_700_000_000
_X = np.linspace(0, 1, 400, dtype=np.float32)[:, None]
_SECONDS = _OFFSET + 100 * _X[:, 0].astype(np.float64)


def _trained(y: Any, **settings: Any) -> Run:
    return epochal.train((_X, y), task="regression", model="linear", epochs=20, lr=0.05, watchers=(), **settings)


def _error(run: Run, y: Any) -> float:
    """The mean absolute error on the test part, of what `predict` answers, against what was given."""
    assert run.data.test is not None
    places = run.data.test.positions.numpy()
    reported = np.array([prediction.values["y"] for prediction in run.predict(_X[places])])
    return float(np.abs(reported - np.asarray(y, np.float64)[places]).mean())


@pytest.mark.parametrize(
    "y",
    [_SECONDS, np.round(_SECONDS * 1000).astype(np.int64), np.round(_SECONDS * 1e6).astype(np.uint64)],
    ids=["float64", "int64", "uint64"],
)
def test_learned_as_well_as_near_0(y: Any) -> None:
    run, near = _trained(y), _trained((_X[:, 0] * 100).astype(np.float64))
    assert run.test is not None
    assert near.test is not None
    assert run.test.mae is not None
    unit = float(np.ptp(y.astype(np.float64))) / 100
    assert run.test.mae / unit == pytest.approx(near.test.mae, rel=1e-3)
    assert run.test.mae == pytest.approx(_error(run, y), rel=1e-9)
    assert len(run.data.train.targets.unique()) == len(run.data.train)


def test_kept_in_a_bundle_and_in_a_program_for_export(tmp_path: Path) -> None:
    run = _trained(_SECONDS)
    again = Bundle.load(run.bundle.save(tmp_path / "model"))
    assert again.spec.task.needs_float64
    assert [p.values for p in again.predict(_X[:5])] == [p.values for p in run.predict(_X[:5])]
    exported = torch.export.export(again.model, (torch.from_numpy(_X[:5]),)).module()
    assert torch.equal(exported(torch.from_numpy(_X[:5])), again.model(torch.from_numpy(_X[:5])))


def test_scores_are_against_what_was_given() -> None:
    # Near 0 the model answers in float32, which rounds these targets; the score must not.
    y = np.random.default_rng(0).normal(size=400)
    run = _trained(y)
    assert not run.data.spec.task.needs_float64
    assert run.data.train.targets.dtype == torch.float64
    assert run.test is not None
    assert run.test.mae == pytest.approx(_error(run, y), rel=1e-12)


def test_targets_that_float32_holds_train_to_the_same_bits() -> None:
    y = _X[:, 0] * 8 + 1
    runs = [_trained(y), _trained(y.astype(np.float64))]
    assert runs[0].data.fingerprint == runs[1].data.fingerprint
    first, second = (run.bundle.model.state_dict() for run in runs)
    assert all(first[name].equal(second[name]) for name in first)


def test_a_network_and_a_loss_of_ones_own_get_float32() -> None:
    seen = set()

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        seen.add((outputs.dtype, targets.dtype))
        return nn.functional.mse_loss(outputs, targets)

    y = np.random.default_rng(0).normal(size=400)
    epochal.train((_X, y), model=nn.Linear(1, 1), loss=loss, epochs=1, watchers=())
    assert seen == {(torch.float32, torch.float32)}
    epochal.fit(nn.Linear(1, 1), (_X, y), {"epochs": 1})


def test_the_size_of_targets_does_not_matter() -> None:
    for unit in (1e-40, 1e38, 1e100):
        run = _trained((_X[:, 0] * 100).astype(np.float64) * unit)
        assert run.test is not None
        assert run.test.r2 is not None
        assert run.test.r2 > 0.9


@pytest.mark.parametrize(
    ("y", "reported"),
    [
        (np.linspace(0, 1e300, 400), "The target of train[1] is larger than 1e+150.\nUse a larger unit."),
        (np.linspace(0, 1e-200, 400), "The targets differ by less than 1e-150.\nUse a smaller unit."),
        (
            2**62 + np.arange(400) % 7,
            "The target of train[1] is 4611686018427387905: the targets differ too little for float64, relative to their size.",
        ),
    ],
)
def test_what_float64_cannot_hold_is_refused(y: Any, reported: str) -> None:
    with pytest.raises(DataError) as raised:
        load((_X, y), task="regression")
    assert str(raised.value).startswith(reported)


@pytest.mark.parametrize(
    ("mean", "spread", "value", "words"),
    [
        (1_234_567.0, 50.0, 1_234_573.75, "1234573.75"),
        (1_234_567.0, 1e6, 1_234_567.8, "1234568"),
        (1.7e9, 29.0, 1_700_000_012.347, "1700000012.35"),
        (288.0, 10.0, float(np.float32(288.15)), "288.15"),
        (0.0, 1.0, 0.123456789, "0.123457"),
        (0.0, 1.0, 0.0, "0"),
        (0.0, 1.0, float("nan"), "nan"),
    ],
)
def test_predictions_are_written_with_the_digits_that_matter(mean: float, spread: float, value: float, words: str) -> None:
    spec = epochal.DataSpec(
        name="made", task=Regression(outputs=("y",), mean=(mean,), std=(spread,), dtype="float64"), input=NumbersRule(shape=(1,)),
        counts={"train": 2}, fingerprint="",
    )  # fmt: skip

    class Told(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return torch.full((len(inputs), 1), value, dtype=torch.float64)

    (prediction,) = Bundle(Told(), spec, None).predict(torch.zeros(1, 1))
    assert prediction.label == str(prediction) == words
