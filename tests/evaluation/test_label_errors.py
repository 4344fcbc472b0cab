"""Labels that are likely wrong, and how much of the list can be believed."""

from __future__ import annotations

import csv
import io

import pytest
import torch
from torch import Tensor

from epochal.evaluation.label_errors import LabelErrors, label_errors
from epochal.tasks.single_label import SingleLabel


def _found(means: Tensor, given: Tensor, outputs: Tensor) -> LabelErrors:
    found = label_errors(means, given, ("cat", "dog", "cow"), lambda place: f"{place}.jpg", lambda places: outputs[places])
    assert found is not None
    return found


def test_ranked_by_probability_and_likely_where_another_class_was_sure() -> None:
    means = torch.tensor([[0.9, 0.8], [0.1, -0.7], [0.05, -0.9], [0.3, -0.1], [float("nan"), float("nan")]])
    outputs = torch.tensor([[9.0, 0, 0], [9, 0, 1], [0, 9, 5], [0, 2, 9], [0, 0, 0]])
    found = _found(means, torch.tensor([0, 0, 1, 2, 0]), outputs)
    assert (found.count, found.likely) == (4, 2)
    assert [(one.rank, one.example, one.given, one.suggested, one.likely) for one in found.listed] == [
        (1, "2.jpg", "dog", "cow", True),
        (2, "1.jpg", "cat", "cow", True),
        (3, "3.jpg", "cow", "dog", False),
        (4, "0.jpg", "cat", "dog", False),
    ]
    assert str(found) == "2 of 4 training labels look wrong"
    assert found.pairs() == [("dog", "cow", 1), ("cat", "cow", 1)]
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert rows[0] == {
        "rank": "1", "example": "2.jpg", "label": "dog", "remove": "",
        "given": "dog", "suggested": "cow", "score": "0.0500", "likely": "yes",
    }  # fmt: skip
    assert found.to_json()["listed"] == 4


def test_nothing_stands_out() -> None:
    found = _found(torch.tensor([[0.9, 0.8]]).repeat(3000, 1), torch.zeros(3000, dtype=torch.int64), torch.zeros(3000, 3))
    assert (found.likely, len(found.listed)) == (0, 30)
    assert str(found) == "None of 3,000 training labels stands out as wrong"


def test_nothing_was_trained_on() -> None:
    means = torch.full((3, 2), torch.nan)
    assert label_errors(means, torch.zeros(3, dtype=torch.int64), ("a", "b"), str, lambda _: torch.zeros(0, 2)) is None


def test_one_look_at_each_label_scores_and_ranks_it_as_cleanlab_does() -> None:
    rank = pytest.importorskip("cleanlab.rank")
    outputs = torch.randn((500, 5), generator=torch.Generator().manual_seed(0))
    given = torch.randint(5, (500,), generator=torch.Generator().manual_seed(1))
    means = SingleLabel(outputs=tuple("abcde")).agreement(outputs, given)
    labels, probabilities = given.numpy(), outputs.softmax(1).numpy()
    scores, margins = (
        torch.from_numpy(rank.get_label_quality_scores(labels, probabilities, method=method, adjust_pred_probs=False))
        for method in ("self_confidence", "normalized_margin")
    )
    torch.testing.assert_close(means[:, 0], scores.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close((means[:, 1] + 1) / 2, margins.float(), rtol=1e-5, atol=1e-6)
    listed = label_errors(means, given, tuple("abcde"), str, lambda places: outputs[places])
    assert listed is not None
    assert [one.place for one in listed.listed] == scores.argsort(stable=True)[: len(listed.listed)].tolist()
