"""Confident learning: labels that models out of fold contradict, class by class."""

from __future__ import annotations

import pytest
import torch

from epochal.evaluation.confident import confident_classes, confident_errors


def test_a_class_has_its_own_threshold() -> None:
    # Where the first is given, it has .7 on average; the second .3: of that models are never sure.
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    given = torch.tensor([0, 0, 0, 1, 1, 1])
    # The fifth reaches both thresholds, and is more probably the first; the last only that of the second.
    assert confident_classes(probabilities, given).tolist() == [0, 0, 1, 0, 0, 1]
    found = confident_errors(probabilities, given, ("a", "b"), "row {}".format)
    assert found.likely == 3
    assert [(one.example, one.given, one.suggested, one.likely) for one in found.listed[:4]] == [
        ("row 3", "b", "a", True),
        ("row 2", "a", "b", True),
        ("row 4", "b", "a", True),
        ("row 5", "b", "a", False),
    ]
    assert found.by == found.to_json()["by"] == "folds"
    assert found.listed[0].score == pytest.approx(0.2)


def test_what_is_sure_of_nothing_and_classes_that_nobody_has() -> None:
    probabilities = torch.tensor([[0.5, 0.1, 0.4], [0.1, 0.5, 0.4], [0.3, 0.3, 0.4]])
    assert confident_classes(probabilities, torch.tensor([0, 1, 1])).tolist() == [0, 1, -1]


def test_changed_labels_come_back() -> None:
    generator = torch.Generator().manual_seed(0)
    true = torch.arange(1000) % 4
    probabilities = (6 * torch.nn.functional.one_hot(true, 4) + torch.randn(1000, 4, generator=generator)).softmax(1)
    given = true.clone()
    given[:50] = (given[:50] + 1) % 4
    found = confident_errors(probabilities, given, tuple("abcd"), str)
    first = [one.place for one in found.listed[:50]]
    assert sum(place < 50 for place in first) >= 40
    assert 45 <= found.likely <= 60
