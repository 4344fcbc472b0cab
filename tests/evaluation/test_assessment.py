"""What can be said of a model from its answers: of each task, with and without validation data, and as JSON."""

from __future__ import annotations

import json

import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from torch.nn.functional import cross_entropy, one_hot

from epochal.evaluation.assessment import Assessment, assess
from epochal.evaluation.evaluate import Evaluation, score
from epochal.io.files import finite
from epochal.recipe import LossSettings
from epochal.tasks import TASKS


def _evaluation(task: str, count: int, seed: int, sharp: float = 1.0, classes: int = 3) -> Evaluation:
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn((count, classes), generator=generator) * 2
    names = tuple("abcde"[:classes])
    if task == "single-label":
        targets = torch.multinomial(outputs.softmax(1), 1, generator=generator)[:, 0]
    elif task == "multi-label":
        targets = (torch.rand((count, classes), generator=generator) < outputs.sigmoid()).float()
    else:
        targets = outputs + torch.randn((count, classes), generator=generator)
    made = TASKS[task].model_validate(
        {"outputs": names} | ({"mean": (0.0,) * classes, "std": (1.0,) * classes} if task == "regression" else {})
    )
    return score(outputs * sharp, targets, made, made.loss(LossSettings()))


def test_single_labels() -> None:
    valid, test = (_evaluation("single-label", 1_000, seed, sharp=3.0) for seed in (0, 1))
    found = assess(valid, test)
    assert found is not None
    assert (found.split, found.count) == ("test", 1_000)
    answers = test.predictions.argmax(1)
    assert found.scores["macro F1"].value == pytest.approx(f1_score(test.targets, answers, average="macro"))
    assert found.areas["b"].value == pytest.approx(roc_auc_score(test.targets == 1, test.predictions[:, 1]))
    assert found.precisions["b"].value == pytest.approx(average_precision_score(test.targets == 1, test.predictions[:, 1]))
    assert found.calibration is not None
    assert found.calibration.is_shown
    assert found.tempered is not None
    assert found.tempered.helps
    assert found.tempered.temperature == pytest.approx(3, rel=0.15)
    assert found.tempered.after is not None
    assert not found.tempered.after.is_shown
    assert found.tempered.loss_before == pytest.approx(float(cross_entropy(test.outputs.double(), test.targets)))
    assert found.tempered.loss_after < found.tempered.loss_before
    assert found.accepted is not None
    assert found.coverage is not None
    assert found.coverage.is_kept
    assert test.accuracy is not None
    assert found.by_share[-1] == pytest.approx((1.0, test.accuracy))


def test_calibrated_models_are_told_so() -> None:
    found = [assess(_evaluation("single-label", 500, seed), _evaluation("single-label", 500, seed + 50)) for seed in range(20)]
    helped = sum(one.tempered.helps for one in found if one is not None and one.tempered is not None)
    assert helped <= 4


def test_two_classes_have_one_area() -> None:
    found = assess(None, _evaluation("single-label", 100, 0, classes=2))
    assert found is not None
    assert list(found.areas) == ["b"]


def test_several_labels() -> None:
    test = _evaluation("multi-label", 400, 0)
    found = assess(None, test)
    assert found is not None
    assert found.scores["macro F1"].value == pytest.approx(f1_score(test.targets, test.predictions >= 0.5, average="macro"))
    assert found.areas["c"].value == pytest.approx(roc_auc_score(test.targets[:, 2], test.predictions[:, 2]))
    assert found.calibration is not None
    assert found.calibration.count == 1_200


def test_quantities() -> None:
    found = assess(_evaluation("regression", 500, 0), _evaluation("regression", 500, 2))
    assert found is not None
    mean = found.scores["mean absolute error"]
    assert mean.interval is not None
    assert mean.interval[0] < 0.798 < mean.interval[1]
    assert found.coverage is not None
    assert found.coverage.is_kept
    assert found.coverage.threshold == pytest.approx((1.645,) * 3, abs=0.25)
    assert found.calibration is None


def test_without_test_data_nothing_is_chosen_and_judged_on_the_same() -> None:
    valid = _evaluation("single-label", 300, 0)
    found = assess(valid, None)
    assert found is not None
    assert (found.split, found.tempered, found.accepted, found.coverage) == ("valid", None, None, None)
    assert assess(None, None) is None


@pytest.mark.parametrize("task", list(TASKS))
@pytest.mark.parametrize("count", [1, 2, 40])
def test_few_examples_and_back_from_json(task: str, count: int) -> None:
    found = assess(_evaluation(task, count, 0), _evaluation(task, count, 1))
    assert found is not None
    again = Assessment.from_json(json.loads(json.dumps(finite(found.to_json()))))
    assert finite(again.to_json()) == finite(found.to_json())


def test_a_class_that_does_not_occur_has_no_area() -> None:
    test = _evaluation("single-label", 60, 0)
    kept = test.targets != 2
    made = test.task
    found = assess(None, score(test.outputs[kept], test.targets[kept], made, made.loss(LossSettings())))
    assert found is not None
    assert "c" not in found.areas
    assert one_hot(test.targets[kept], 3).sum(0)[2] == 0
