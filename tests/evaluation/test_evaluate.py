"""Evaluation is inference and metrics: numbers for every task, and one line for people."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sklearn import metrics as theirs
from torch import Tensor, nn

from epochal.data.examples import Examples
from epochal.data.spec import DataSpec
from epochal.evaluation.evaluate import evaluate, score
from epochal.recipe import LossSettings
from epochal.tasks.losses import own_loss
from epochal.tasks.scores import Baseline

SpecMaker = Callable[..., DataSpec]


def _examples(x: Tensor, y: Tensor) -> Examples:
    return Examples(x, y, "test", torch.arange(len(y)))


def _score(outputs: Tensor, targets: Tensor, spec: DataSpec) -> Any:
    return score(outputs, targets, spec.task, spec.task.loss(LossSettings()))


def test_one_label(make_spec: SpecMaker) -> None:
    x = torch.tensor([[9.0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]])
    result = evaluate(nn.Identity(), _examples(x, torch.tensor([0, 1, 1, 2])), make_spec(), batch_size=3)
    assert (result.task.name, result.count, result.accuracy) == ("single-label", 4, 0.75)
    assert result.loss == pytest.approx(float(nn.functional.cross_entropy(x, torch.tensor([0, 1, 1, 2]))))
    assert result.confusion is not None
    assert result.confusion.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert [(one.name, one.precision, one.recall, one.support) for one in result.per_class] == [
        ("a", 0.5, 1.0, 1), ("b", 1.0, 0.5, 2), ("c", 1.0, 1.0, 1),
    ]  # fmt: skip
    torch.testing.assert_close(result.predictions.sum(1), torch.ones(4))
    assert result.baseline == Baseline("b", 0.5)
    assert str(result) == "Accuracy 75.0 % (95 % interval 19.4 to 99.4), n = 4; always 'b' would be 50.0 %"
    assert (result.mse, result.r2, result.top_k) == (None, None, {})


def test_top_k_where_it_leaves_most_classes_out(make_spec: SpecMaker) -> None:
    outputs, targets = torch.rand(50, 10, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 10
    result = _score(outputs, targets, make_spec(outputs=tuple("abcdefghij")))
    wanted = {k: theirs.top_k_accuracy_score(targets, outputs, k=k, labels=list(range(10))) for k in (2, 3, 5)}
    assert result.top_k == pytest.approx(wanted)


def test_several_labels(make_spec: SpecMaker) -> None:
    outputs = torch.tensor([[9.0, -9, 9], [9, 9, -9], [-9, -9, 0]])
    targets = torch.tensor([[1.0, 0, 1], [1, 0, 0], [0, 0, 1]])
    result = _score(outputs, targets, make_spec(task="multi-label"))
    # Right is an example with every label right; a probability of one half counts as a label.
    assert result.accuracy == pytest.approx(2 / 3)
    assert result.confusion is None
    assert [(one.precision, one.recall, one.support) for one in result.per_class] == [(1.0, 1.0, 2), (0.0, 0.0, 0), (1.0, 1.0, 2)]
    assert str(result).startswith("All labels right 66.7 % (95 % interval ")
    assert str(result).endswith(", n = 3; always 'c' would be 33.3 %")


def test_no_label_at_all(make_spec: SpecMaker) -> None:
    result = _score(torch.full((2, 3), -9.0), torch.zeros(2, 3), make_spec(task="multi-label"))
    assert (result.accuracy, result.weighted, result.baseline) == (1.0, None, Baseline("none", 1.0))
    assert "weighted" not in result.to_json()


@pytest.mark.parametrize("center", [0.0, 1e5])
@pytest.mark.parametrize("columns", [1, 3])
def test_quantities(make_spec: SpecMaker, center: float, columns: int) -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randn(500, columns, generator=generator) + center
    outputs = targets + 0.3 * torch.randn(500, columns, generator=generator)
    spec = make_spec(task="regression", outputs=tuple("abc"[:columns]))
    result = _score(outputs, targets, spec)
    wide = targets.double().numpy(), outputs.double().numpy()
    assert result.mse == pytest.approx(theirs.mean_squared_error(*wide), rel=1e-9)
    assert result.mae == pytest.approx(theirs.mean_absolute_error(*wide), rel=1e-9)
    assert result.r2 == pytest.approx(theirs.r2_score(*wide), rel=1e-9)
    assert str(result).startswith("R² of a 0.9" if columns == 1 else "R² 0.9")
    assert (result.accuracy, result.confusion) == (None, None)


@pytest.mark.parametrize(("error", "r2"), [(0.0, 1.0), (0.5, 0.0)])
def test_quantity_that_never_changes(make_spec: SpecMaker, error: float, r2: float) -> None:
    # 0.1 has no exact mean in float32; what is left of it by rounding is no variance.
    targets = torch.full((1000, 1), 0.1)
    assert _score(targets + error, targets, make_spec(task="regression", outputs=("y",))).r2 == r2


def test_outputs_without_an_axis(make_spec: SpecMaker) -> None:
    targets = torch.tensor([[1.0], [2.0], [4.0]])
    result = _score(targets[:, 0], targets, make_spec(task="regression", outputs=("y",)))
    assert (result.mse, result.loss, result.r2, result.predictions.shape) == (0.0, 0.0, 1.0, (3, 1))


def test_own_loss_is_reported(make_spec: SpecMaker) -> None:
    examples = _examples(torch.rand(4, 3), torch.tensor([0, 1, 1, 2]))
    result = evaluate(nn.Identity(), examples, make_spec(), own_loss(lambda outputs, targets: torch.tensor(7.0)))
    assert result.loss == 7.0


def test_json_has_every_number(make_spec: SpecMaker) -> None:
    result = _score(torch.rand(8, 4), torch.arange(8) % 4, make_spec(outputs=tuple("abcd")))
    values = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert set(values) == {"count", "loss", "accuracy", "interval", "baseline", "top_k", "macro", "weighted", "per_class", "confusion"}
    assert set(values["per_class"][0]) == {"name", "precision", "recall", "f1", "support", "predicted"}
    assert list(values["top_k"]) == ["2"]
    quantities = _score(torch.rand(8, 1), torch.rand(8, 1), make_spec(task="regression", outputs=("y",)))
    assert set(quantities.to_json()) == {"count", "loss", "mse", "mae", "r2"}


def test_model_is_left_as_it_was_and_answers_are_plain_tensors(make_spec: SpecMaker) -> None:
    model = nn.Sequential(nn.Dropout(0.5)).train()
    result = evaluate(model, _examples(torch.rand(4, 3), torch.tensor([0, 1, 1, 2])), make_spec())
    assert model.training
    result.predictions.add_(1)
