"""A task is a value that knows what outputs mean, and is kept with every model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

import epochal
from epochal.tasks import TASKS
from epochal.tasks.base import Prediction, Task
from epochal.tasks.multi_label import MultiLabel
from epochal.tasks.regression import Regression
from epochal.tasks.single_label import SingleLabel

OUTPUTS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
NAMES = ("a", "b", "c")
SINGLE, MULTI, QUANTITIES = SingleLabel(outputs=NAMES), MultiLabel(outputs=NAMES), Regression(outputs=NAMES)


def test_the_table_has_each_by_its_name() -> None:
    assert [kind(name=name, outputs=NAMES).name for name, kind in TASKS.items()] == list(TASKS)


def test_decoding() -> None:
    torch.testing.assert_close(SINGLE.decode(OUTPUTS), OUTPUTS.softmax(1))
    torch.testing.assert_close(SINGLE.decode(OUTPUTS.log_softmax(1)), OUTPUTS.softmax(1))
    assert torch.equal(MULTI.decode(OUTPUTS), OUTPUTS.sigmoid())
    assert torch.equal(QUANTITIES.decode(OUTPUTS), OUTPUTS)
    assert Regression(outputs=("y",)).decode(OUTPUTS[:, 0]).shape == (6, 1)


@pytest.mark.parametrize("task", [SINGLE, MULTI, QUANTITIES], ids=lambda task: task.name)
def test_decoding_can_be_a_part_of_what_is_exported(task: Task) -> None:
    whole = nn.Sequential(nn.Linear(3, 3), task.decoder()).eval()
    count = torch.export.Dim("n", min=2)
    exported = torch.export.export(whole, (OUTPUTS[:2],), dynamic_shapes=({0: count},)).module()
    torch.testing.assert_close(exported(OUTPUTS), task.decode(whole[0](OUTPUTS)))
    assert list(whole.state_dict()) == ["0.weight", "0.bias"]


@pytest.mark.parametrize(
    ("task", "predictions", "reported"),
    [
        (SINGLE, (0.2, 0.5, 0.3), ("b", 0.5, ("c", 0.3))),
        (MULTI, (0.5, 0.1, 0.9), ("a, c", None, None)),
        (MULTI, (0.4, 0.1, 0.3), ("none", None, None)),
        (QUANTITIES, (0.5, 1e6, -2), ("a 0.5, b 1000000, c -2", None, None)),
    ],
)
def test_what_one_example_says(task: Task, predictions: tuple[float, ...], reported: Any) -> None:
    found = task.predict(predictions)
    assert (found.label, found.probability, found.runner_up) == reported
    assert found.values == dict(zip(NAMES, predictions, strict=True))


@pytest.mark.parametrize(
    ("task", "predictions", "targets", "sure"),
    [
        (SINGLE, [[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]], torch.tensor([1, 2]), [0.5, 0.6]),
        (MULTI, [[0.1, 0.5, 0.2], [0.9, 0.3, 0.1]], torch.tensor([[0.0, 1, 0], [0, 0, 1]]), [0.36, 0.567]),
    ],
)
def test_right_and_wrong(task: Task, predictions: list[list[float]], targets: Tensor, sure: list[float]) -> None:
    judged = task.judge(torch.tensor(predictions), targets, ("x", "y", "z"))
    assert judged is not None
    assert judged.right is not None
    said = [[told(place) for place in (0, 1)] for told in (judged.predicted, judged.true)]
    assert (said, judged.right.tolist()) == ([["y", "x"], ["y", "z"]], [True, False])
    torch.testing.assert_close(judged.weight, torch.tensor(sure))
    assert judged.note(0) == f"{100 * sure[0]:.1f} %"


def test_quantities_are_neither_right_nor_wrong_but_off() -> None:
    one = Regression(outputs=("price",), mean=(0.0,), std=(2.0,))
    judged = one.judge(torch.tensor([[3.0], [1.25]]), torch.tensor([[1.0], [1.5]]), one.outputs)
    assert (judged.right, judged.weight.tolist()) == (None, [1.0, 0.125])
    assert [(judged.predicted(place), judged.true(place), judged.note(place)) for place in (0, 1)] == [
        ("3", "1", "off by +2"),
        ("1.25", "1.5", "off by -0.25"),
    ]
    two = Regression(outputs=("a", "b"), mean=(0.0, 0.0), std=(2.0, 1.0))
    judged = two.judge(torch.tensor([[3.0, 5.0]]), torch.tensor([[1.0, 8.0]]), two.outputs)
    assert (judged.predicted(0), judged.true(0), judged.note(0)) == ("a 3, b 5", "a 1, b 8", "off by 3.0 std")


def test_what_is_measured_on_targets() -> None:
    assert SINGLE.learn({"train": torch.tensor([0, 2, 2]), "test": torch.tensor([1])}).class_counts == {
        "train": (1, 0, 2),
        "test": (0, 1, 0),
    }
    assert MULTI.learn({"train": torch.tensor([[1.0, 1, 0], [0, 1, 0]])}).class_counts == {"train": (1, 2, 0)}
    learned = Regression(outputs=("y",)).learn({"train": torch.tensor([[1.0], [3.0]])})
    assert (learned.mean, learned.std, learned.dtype, dict(learned.class_counts)) == ((2.0,), (1.0,), "float32", {})


def test_words() -> None:
    nouns = [task.noun for task in (SINGLE, MULTI, MultiLabel(outputs=("a",)), QUANTITIES, Regression(outputs=("y",)))]
    assert nouns == ["classes", "labels", "label", "outputs", "output"]


class Deviations(Regression):
    """Quantities of which only the sign is reported."""

    name: Literal["deviations"] = "deviations"  # type: ignore[assignment]

    def predict(self, values: Sequence[float]) -> Prediction:
        return Prediction("above" if values[0] > 0 else "below", None, None, {"y": values[0]})


def test_another_task_needs_no_change_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(TASKS, "deviations", Deviations)
    x = torch.linspace(-1, 1, 60)[:, None]
    data = replace(epochal.load((x, 3 * x)), task=Deviations(outputs=("y",)))
    run = epochal.train(data, model="linear", epochs=20, lr=0.1, out=tmp_path / "run", quiet=True)
    assert str(run.test).startswith("R² 0.9")
    bundle = epochal.Bundle.load(tmp_path / "run")
    assert bundle.spec.task == run.data.spec.task == Deviations(outputs=("y",)).learn({"train": run.data.train.targets})
    assert [prediction.label for prediction in bundle.predict([[-0.9], [0.9]])] == ["below", "above"]
