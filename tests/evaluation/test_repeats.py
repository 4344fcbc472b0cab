"""What several seeds measured together: mean, spread, the parts of the error, and the usual model."""

from __future__ import annotations

import pytest
import torch

from epochal.evaluation.by_example import Answers, as_answers
from epochal.evaluation.repeats import measure_repeats
from epochal.tasks.single_label import SingleLabel


def _right(*shares: float) -> list[Answers]:
    """Return models of which each has so large a share of 100 examples right: the first ones."""
    targets = torch.zeros(100, dtype=torch.int64)
    found = []
    for share in shares:
        outputs = torch.zeros(100, 2)
        outputs[round(100 * share) :, 1] = 1.0
        outputs[: round(100 * share), 0] = 1.0
        found.append(as_answers(SingleLabel(outputs=("a", "b")), outputs, targets))
    return found


def test_mean_spread_and_the_model_nearest_the_median() -> None:
    found = measure_repeats(_right(0.9, 0.5, 0.7, 0.72), [3, 4, 5, 6], 5)
    first = found.scores[0]
    assert first.value == pytest.approx(0.705)
    assert first.spread == pytest.approx(float(torch.tensor([0.9, 0.5, 0.7, 0.72]).std()))
    assert first.interval is not None
    assert first.interval[0] < 0.705 < first.interval[1]
    # Between 0.7 and 0.72 the first counts.
    assert found.seeds[found.nearest] == 5
    assert not found.is_complete
    assert "4 of 5" in found.title
    assert "repeat 3 (seed 5)" in found.meaning[2]


def test_equal_models_leave_nothing_to_seeds_and_all_to_examples() -> None:
    first = measure_repeats(_right(0.8, 0.8), [0, 1], 2).scores[0]
    assert first.seeds == first.spread == 0.0
    assert first.examples == pytest.approx((0.8 * 0.2 / 99) ** 0.5)


def test_models_that_are_all_right_or_all_wrong_differ_by_their_seeds() -> None:
    found = measure_repeats(_right(1.0, 0.0), [0, 1], 2)
    first = found.scores[0]
    assert "few seeds tell little" in found.meaning[-1]
    assert first.seeds == pytest.approx(0.5)
    assert first.examples < 0.03
    assert first.interval == (0.0, 1.0)
