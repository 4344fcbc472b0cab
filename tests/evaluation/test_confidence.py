"""Thresholds are chosen on validation data, and judged on test data."""

from __future__ import annotations

import pytest
import torch

from epochal.evaluation.confidence import accept, accuracy_by_share


def test_half_the_mistakes_are_left() -> None:
    # The least sure quarter is a coin toss, the others are right.
    confidence = torch.linspace(0.5, 1.0, 400)
    right = torch.ones(400, dtype=torch.bool)
    right[:100:2] = False
    found = accept(confidence, right, confidence, right)
    assert found is not None
    assert found.aim == pytest.approx(1 - 50 / 400 / 2)
    assert found.right >= found.aim
    # One more answer, and there would be too many mistakes.
    assert float(right[400 - found.answered - 2 :].double().mean()) < found.aim
    assert found.interval[0] < found.right < found.interval[1]
    assert (confidence >= found.threshold).sum() == found.answered


def test_equal_confidences_are_accepted_together() -> None:
    confidence = torch.cat([torch.full((50,), 0.6), torch.full((50,), 0.9)])
    right = torch.cat([torch.arange(50) % 2 == 0, torch.ones(50, dtype=torch.bool)])
    found = accept(confidence, right, confidence, right)
    assert found is not None
    assert found.answered == 50
    assert found.threshold == pytest.approx(0.9)


@pytest.mark.parametrize("right", [torch.ones(50, dtype=torch.bool), torch.zeros(50, dtype=torch.bool)])
def test_no_threshold_helps_where_all_is_right_or_all_is_wrong(right: torch.Tensor) -> None:
    confidence = torch.linspace(0.5, 1, 50)
    assert accept(confidence, right, confidence, right) is None


def test_curve_ends_with_all_answers() -> None:
    right = torch.arange(100) >= 30
    points = accuracy_by_share(torch.linspace(0, 1, 100), right)
    assert points[-1] == pytest.approx((1.0, 0.7))
    assert points[0] == (0.2, 1.0)
    assert [share for share, _ in points] == sorted(share for share, _ in points)
