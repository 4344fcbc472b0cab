"""Intervals of macro-F1, mean recall and areas contain the truth as often as they say.

EPOCHAL_INTERVALS is how many test sets are drawn of each kind.
"""

from __future__ import annotations

import math
import os
from functools import partial

import pytest
import torch
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, roc_auc_score

from epochal.evaluation.uncertainty import (
    auroc_interval,
    average_precision_interval,
    macro_f1_interval,
    one_label,
    precision_pulls,
    recall_interval,
    share_of,
    standard_error,
)

DRAWS = int(os.environ.get("EPOCHAL_INTERVALS", "300"))


def _is_right(inside: int, most: float = 0.97) -> bool:
    """Whether so many of DRAWS intervals may have the truth in them: 93 to 97 %, and what chance in few draws adds."""
    room = 2.5 * math.sqrt(0.95 * 0.05 / DRAWS) if DRAWS < 2_000 else 0.0
    print(f"\n{100 * inside / DRAWS:.1f} % of {DRAWS:,} intervals have the truth")
    return 0.93 - room <= inside / DRAWS <= most + room


@pytest.mark.parametrize(("classes", "count"), [(2, 200), (10, 1_000)])
def test_macro_f1_is_inside_95_times_of_100(classes: int, count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    confusion = torch.full((classes, classes), 0.1 / (classes - 1), dtype=torch.float64)
    confusion.fill_diagonal_(0.9)
    joint = confusion * torch.softmax(torch.arange(classes) * 0.1, 0)[:, None]
    truth = float((2 * joint.diagonal() / (joint.sum(0) + joint.sum(1))).mean())
    inside = 0
    for _ in range(DRAWS):
        cells = torch.multinomial(joint.flatten(), count, True, generator=generator)
        predicted, actual = one_label(cells % classes, classes), one_label(cells // classes, classes)
        score, (low, high) = macro_f1_interval(predicted, actual)
        inside += low <= truth <= high
    assert score == pytest.approx(f1_score(cells // classes, cells % classes, average="macro"))
    assert _is_right(inside)


@pytest.mark.parametrize(
    ("counts", "recalls"),
    [((900, 90, 10), (0.97, 0.9, 0.9)), ((900, 90, 10), (0.97, 0.8, 0.5)), ((190, 10), (0.95, 0.7)), ((20,) * 50, (0.95,) * 50)],
)
def test_mean_recall_is_inside_95_times_of_100(counts: tuple[int, ...], recalls: tuple[float, ...]) -> None:
    generator, shares, inside = torch.Generator().manual_seed(0), torch.tensor(counts).double(), 0
    for _ in range(DRAWS):
        classes = torch.multinomial(shares, sum(counts), True, generator=generator)
        right = torch.rand(len(classes), generator=generator) < torch.tensor(recalls)[classes]
        score, (low, high) = recall_interval(right, classes)
        inside += low <= sum(recalls) / len(recalls) <= high
    wrong = torch.where(right, classes, (classes + 1) % len(counts))
    assert score == pytest.approx(balanced_accuracy_score(classes, wrong))
    # Few examples, most of them right, leave no choice but a wide one.
    assert _is_right(inside, 0.99)


def test_mean_recall_agrees_with_the_bootstrap_within_classes() -> None:
    generator = torch.Generator().manual_seed(1)
    classes = torch.tensor([0] * 300 + [1] * 60)
    right = torch.rand(360, generator=generator) < torch.tensor([0.9, 0.7])[classes]
    _, (low, high) = recall_interval(right, classes)
    again = [
        torch.cat([torch.randint(0, 300, (300,), generator=generator), torch.randint(300, 360, (60,), generator=generator)])
        for _ in range(400)
    ]
    drawn = torch.tensor([recall_interval(right[rows], classes[rows])[0] for rows in again])
    assert (low, high) == pytest.approx((float(drawn.quantile(0.025)), float(drawn.quantile(0.975))), abs=0.015)
    # Examples of one group count together.
    wider = recall_interval(right.repeat(4), classes.repeat(4), torch.arange(360).repeat(4))[1]
    assert wider == pytest.approx((low, high), abs=0.01)


def test_classes_that_are_all_right_may_have_mistakes_elsewhere() -> None:
    score, (low, high) = recall_interval(torch.ones(103).bool(), torch.tensor([0] * 100 + [1] * 3))
    assert (score, high) == (1.0, 1.0)
    assert low == pytest.approx((1 + 0.025 ** (1 / 3)) / 2)
    score, (low, high) = recall_interval(torch.zeros(103).bool(), torch.tensor([0] * 100 + [1] * 3))
    assert (score, low) == (0.0, 0.0)
    assert high == pytest.approx((1 - 0.025 ** (1 / 3)) / 2)


def test_macro_f1_agrees_with_the_bootstrap() -> None:
    generator = torch.Generator().manual_seed(1)
    actual = torch.randint(0, 3, (400,), generator=generator)
    predicted = torch.where(torch.rand(400, generator=generator) < 0.8, actual, torch.randint(0, 3, (400,), generator=generator))
    _, (low, high) = macro_f1_interval(one_label(predicted, 3), one_label(actual, 3))
    again = [torch.randint(0, 400, (400,), generator=generator) for _ in range(400)]
    drawn = torch.tensor([macro_f1_interval(one_label(predicted[rows], 3), one_label(actual[rows], 3))[0] for rows in again])
    assert (low, high) == pytest.approx((float(drawn.quantile(0.025)), float(drawn.quantile(0.975))), abs=0.01)


def test_macro_f1_leaves_out_what_does_not_occur() -> None:
    actual = torch.tensor([0, 0, 1, 1, 1])
    predicted = torch.tensor([0, 1, 1, 1, 1])
    with_a_third = macro_f1_interval(one_label(predicted, 3), one_label(actual, 3))
    assert with_a_third == macro_f1_interval(one_label(predicted, 2), one_label(actual, 2))


@pytest.mark.parametrize(("positives", "negatives", "apart"), [(30, 300, 1.5), (300, 300, 2.5)])
def test_area_is_inside_95_times_of_100(positives: int, negatives: int, apart: float) -> None:
    generator = torch.Generator().manual_seed(0)
    truth, inside = (1 + math.erf(apart / 2)) / 2, 0
    truths = torch.arange(positives + negatives) < positives
    for _ in range(DRAWS):
        scores = torch.randn(len(truths), generator=generator) + apart * truths
        area, (low, high) = auroc_interval(scores, truths)
        inside += low <= truth <= high
    assert area == pytest.approx(roc_auc_score(truths, scores))
    assert _is_right(inside)


def test_area_counts_ties_one_half_and_needs_both_kinds() -> None:
    truths = torch.tensor([True, False, True, False])
    scores = torch.tensor([0.5, 0.5, 0.9, 0.1])
    assert auroc_interval(scores, truths)[0] == pytest.approx(roc_auc_score(truths, scores))
    assert math.isnan(auroc_interval(scores, torch.ones(4, dtype=torch.bool))[0])


@pytest.mark.parametrize(("share", "apart", "count"), [(0.2, 1.0, 1_000), (0.1, 1.5, 300), (0.1, 0.5, 300), (0.5, 2.5, 300)])
def test_average_precision_is_inside_95_times_of_100(share: float, apart: float, count: int) -> None:
    generator = torch.Generator().manual_seed(0)

    def drawn(size: int) -> tuple[torch.Tensor, torch.Tensor]:
        truths = torch.rand(size, generator=generator) < share
        return torch.randn(size, generator=generator) + apart * truths, truths

    truth, inside = precision_pulls(*drawn(400_000))[0], 0
    for _ in range(DRAWS):
        scores, truths = drawn(count)
        score, (low, high) = average_precision_interval(scores, truths)
        inside += low <= truth <= high
    assert score == pytest.approx(average_precision_score(truths, scores))
    assert _is_right(inside)


def test_average_precision_with_ties_and_what_each_example_pulls() -> None:
    scores = torch.tensor([0.1, 0.2, 0.2, 0.4, 0.4, 0.5] * 50)
    truths = torch.rand(300, generator=torch.Generator().manual_seed(0)) < scores
    score, pulls = precision_pulls(scores, truths)
    assert score == pytest.approx(average_precision_score(truths, scores))
    for left_out in (0, 3, 5, *truths.nonzero()[:2, 0].tolist()):
        kept = torch.arange(300) != left_out
        assert 299 * (score - precision_pulls(scores[kept], truths[kept])[0]) == pytest.approx(float(pulls[left_out]))
    assert math.isnan(average_precision_interval(scores, torch.ones(300, dtype=torch.bool))[0])


@pytest.mark.parametrize("measure", [partial(auroc_interval, torch.arange(40.0), torch.arange(40) >= 20)])
def test_no_mistake_can_be_luck(measure: partial[tuple[float, tuple[float, float]]]) -> None:
    score, (low, high) = measure()
    assert score == 1
    assert 0.8 < low < 0.9
    assert high == 1


def test_copies_say_no_more_than_one() -> None:
    generator = torch.Generator().manual_seed(0)
    once = torch.rand(50, generator=generator).double()
    groups = torch.arange(50).repeat(8)
    assert standard_error(once.repeat(8), groups) == pytest.approx(standard_error(once))
    assert standard_error(once.repeat(8)) < 0.4 * standard_error(once)
    right = once > 0.3
    assert share_of(right.repeat(8), groups) == pytest.approx(share_of(right), abs=0.005)
    assert share_of(right, torch.arange(50)) == pytest.approx(share_of(right))
