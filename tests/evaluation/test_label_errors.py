"""Labels that are likely wrong, and how much of the list can be believed."""

from __future__ import annotations

import csv
import io

import pytest
import torch
from torch import Tensor

from epochal.evaluation.label_errors import LabelErrors, changed_labels, check_labels, draws, label_errors
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


@pytest.mark.parametrize(("count", "wanted", "times"), [(100_000, 2000, 1), (10_000, 200, 2), (1000, 20, 4), (30, 1, 4), (1, 1, 4)])
def test_labels_that_are_changed_are_few_and_all_others_stay(count: int, wanted: int, times: int) -> None:
    given = torch.arange(count) % 3
    labels, changed = changed_labels(given, 3, torch.Generator().manual_seed(1))
    assert (int(changed.sum()), draws(count)) == (wanted, times)
    assert torch.equal(labels != given, changed)
    assert (labels < 3).all()


def _means(*scores: Tensor) -> Tensor:
    """The two numbers of each example, where there are two classes."""
    score = torch.cat(scores)
    return torch.stack((score, 2 * score - 1), 1)


def test_what_came_back_over_all_draws() -> None:
    generator = torch.Generator().manual_seed(1)
    drawn, below = [], 0
    for _ in range(2):
        right, wrong, changed = (torch.rand(count, generator=generator) for count in (10_000, 500, 200))
        drawn.append((_means(0.5 + 0.5 * right, 0.4 * wrong, 0.4 * changed), torch.arange(10_700) >= 10_500))
        below += int((0.4 * changed < 0.25).sum())
    check = check_labels(drawn, 3)
    assert (check.changed, check.found, check.recall) == (400, below, below / 400)
    assert [one.count for one in check.expected] == [105, 210, 525, 1050]
    # A fifth of the wrong ones are 1 % of all, and 5 % are all of them.
    assert [one.precision for one in check.expected] == pytest.approx([0.2, 0.4, 1, 1], abs=0.06)
    lines = check.lines()
    assert lines[0].startswith(f"Of 400 labels changed on purpose, {100 * below / 400:.0f} % look wrong then")
    assert lines[1].startswith("if 105 labels are wrong, about ")


def test_where_classes_overlap_the_share_that_comes_back_is_that_of_the_wrong_ones() -> None:
    # Probabilities of right labels reach down to 0: as rarely as a model that is calibrated is wrong.
    generator = torch.Generator().manual_seed(1)
    right = torch.rand(19_000, generator=generator) ** 0.2
    wrong, changed = (1 - torch.rand(1000, generator=generator) ** 0.2 for _ in range(2))
    means, is_changed = _means(right, wrong, changed), torch.arange(21_000) >= 20_000
    [found] = [one for one in check_labels([(means, is_changed)], 20).expected if one.count == 1000]
    first = means[:20_000, 0].argsort()[:1000]
    assert 0.8 < found.precision < 0.95
    assert float((first >= 19_000).float().mean()) == pytest.approx(found.precision, abs=0.05)


def test_of_two_classes_a_wrong_label_that_is_changed_is_right() -> None:
    # A tenth of the labels are wrong, and so are the changed ones but for a tenth.
    generator = torch.Generator().manual_seed(1)
    right, wrong = (torch.rand(count, generator=generator) ** 0.5 for count in (18_000, 2000))
    changed = torch.cat((1 - torch.rand(3600, generator=generator) ** 0.5, torch.rand(400, generator=generator) ** 0.5))
    means = _means(right, 1 - wrong, changed)
    found = check_labels([(means, torch.arange(24_000) >= 20_000)], 2).expected[-1]
    first = means[:20_000, 0].argsort()[:2000]
    assert found.count == 2000
    assert float((first >= 18_000).float().mean()) == pytest.approx(found.precision, abs=0.03)
    assert found.interval[0] < found.precision < found.interval[1]


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
