"""Rules of choosing: chosen on validation data, judged on test data; and what is said where classes are uneven."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score

from epochal.evaluation.decision import about_uneven, decide
from epochal.evaluation.evaluate import Evaluation, score
from epochal.recipe import LossSettings, Recipe
from epochal.tasks.base import Task
from epochal.tasks.multi_label import MultiLabel
from epochal.tasks.single_label import SingleLabel


def _classes(count: int, seed: int, shares: tuple[float, ...], apart: float = 1.0) -> Evaluation:
    """A perfectly calibrated model of classes with these shares."""
    random = torch.Generator().manual_seed(seed)
    targets = torch.multinomial(torch.tensor(shares), count, replacement=True, generator=random)
    seen = torch.randn((count, len(shares)), generator=random) + apart * torch.nn.functional.one_hot(targets, len(shares))
    outputs = apart * seen + torch.tensor(shares).log()
    task = SingleLabel(outputs=tuple("abcde"[: len(shares)]))
    return score(outputs, targets, task, task.loss(LossSettings()))


def test_two_classes() -> None:
    valid, test = _classes(2_000, 0, (0.9, 0.1)), _classes(4_000, 1, (0.9, 0.1))
    found = decide(valid, test)
    assert found is not None
    assert found.goal == "balanced accuracy"
    assert found.is_shown
    assert found.factors == {}
    # Of a calibrated model, the best threshold is the share of the class.
    assert found.thresholds["b"] == pytest.approx(0.1, abs=0.05)
    answers = test.predictions[:, 1] >= found.thresholds["b"]
    assert found.change.second == pytest.approx(balanced_accuracy_score(test.targets, answers))
    assert found.change.first == pytest.approx(balanced_accuracy_score(test.targets, test.predictions.argmax(1)))
    assert found.accuracy[1] == pytest.approx(float((answers == test.targets).double().mean()))
    assert found.accuracy[1] < found.accuracy[0]
    assert found.after is not None
    assert found.after[0] < found.change.second < found.after[1]


def test_more_classes() -> None:
    valid, test = _classes(2_000, 0, (0.7, 0.2, 0.1)), _classes(4_000, 1, (0.7, 0.2, 0.1))
    found = decide(valid, test)
    assert found is not None
    assert found.thresholds == {}
    assert found.factors["a"] == pytest.approx(1)
    assert found.factors["c"] > found.factors["b"] > 1
    answers = (test.predictions * torch.tensor([*found.factors.values()])).argmax(1)
    assert found.change.second == pytest.approx(balanced_accuracy_score(test.targets, answers))


def test_several_labels() -> None:
    def labels(count: int, seed: int) -> Evaluation:
        random = torch.Generator().manual_seed(seed)
        outputs = torch.randn((count, 3), generator=random) - torch.tensor([0.0, 2.0, 9.0])
        targets = (torch.rand((count, 3), generator=random) < outputs.sigmoid()).float()
        task = MultiLabel(outputs=("often", "rare", "never"))
        return score(outputs, targets, task, task.loss(LossSettings()))

    valid, test = labels(2_000, 0), labels(3_000, 1)
    found = decide(valid, test)
    assert found is not None
    assert found.goal == "macro F1"
    assert found.thresholds["rare"] < 0.4
    # There are too few examples to choose on.
    assert found.thresholds["never"] == 0.5
    answers = test.predictions >= torch.tensor([*found.thresholds.values()])
    there = (answers.any(0) | (test.targets > 0.5).any(0)).nonzero().flatten().tolist()
    assert found.change.second == pytest.approx(f1_score(test.targets[:, there], answers[:, there], average="macro", zero_division=0))
    assert found.is_shown


def test_nothing_is_chosen_where_examples_are_few() -> None:
    assert decide(_classes(40, 0, (0.9, 0.1)), _classes(300, 1, (0.9, 0.1))) is None


def test_false_alarms() -> None:
    shown = 0
    for seed in range(100):
        found = decide(_classes(100, seed, (0.5, 0.5)), _classes(400, 1_000 + seed, (0.5, 0.5)))
        shown += found is not None and found.is_shown
    assert shown <= 8


def _task(counts: tuple[int, ...]) -> Task:
    return SingleLabel(outputs=tuple("abc"[: len(counts)]), counts={"train": counts})


def test_what_is_said_of_uneven_classes() -> None:
    found = decide(_classes(2_000, 0, (0.9, 0.1)), _classes(4_000, 1, (0.9, 0.1)))
    first, second = about_uneven(_task((900, 100)), Recipe(), found)
    assert first.startswith("uneven classes (100 'b', 900 'a' in training): --class-weights balanced or --sampling balanced")
    assert second.startswith("with --thresholds tuned, balanced accuracy would be ")
    assert list(about_uneven(_task((200, 100)), Recipe(), found)) == []
    assert list(about_uneven(_task((900, 100)), Recipe().updated({"class_weights": "balanced"}, "given"), found)) == []
    assert len(list(about_uneven(_task((900, 100)), Recipe(), None))) == 1
