"""What a list of wrong labels is worth: what comes back of labels that were changed on purpose."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from epochal.evaluation.label_check import LabelCheck, changed_labels, check_labels


@pytest.mark.parametrize(("count", "wanted"), [(10_000, 200), (1000, 20), (30, 1), (1, 1)])
def test_labels_that_are_changed_are_few_and_all_others_stay(count: int, wanted: int) -> None:
    given = torch.arange(count) % 3
    labels, changed = changed_labels(given, 3, torch.Generator().manual_seed(1))
    assert int(changed.sum()) == wanted
    assert torch.equal(labels != given, changed)
    assert (labels < 3).all()


def test_of_several_labels_one_is_changed_of_an_example() -> None:
    given = (torch.rand(1000, 4, generator=torch.Generator().manual_seed(0)) > 0.8).float()
    labels, changed = changed_labels(given, 2, torch.Generator().manual_seed(1))
    assert torch.equal(labels != given, changed)
    assert sorted(changed.sum(1).unique().tolist()) == [0, 1]
    assert int(changed.sum()) == 20
    assert sorted(labels.unique().tolist()) == [0, 1]


def _means(*scores: Tensor) -> Tensor:
    """The two numbers of each example, where there are two classes."""
    score = torch.cat(scores)
    return torch.stack((score, 2 * score - 1), 1)


def _check(drawn: list[tuple[Tensor, Tensor]], classes: int) -> LabelCheck:
    """Without any knowledge of the labels before they were changed."""
    count = len(drawn[0][0])
    before = torch.rand(count, generator=torch.Generator().manual_seed(9))
    return check_labels(before, drawn, classes, count)


def test_what_came_back_over_all_draws() -> None:
    generator = torch.Generator().manual_seed(1)
    drawn, below = [], 0
    for _ in range(2):
        right, wrong, changed = (torch.rand(count, generator=generator) for count in (10_000, 500, 200))
        drawn.append((_means(0.5 + 0.5 * right, 0.4 * wrong, 0.4 * changed), torch.arange(10_700) >= 10_500))
        below += int((0.4 * changed < 0.25).sum())
    check = _check(drawn, 3)
    assert (check.changed, check.found, check.recall, check.times) == (400, below, below / 400, 2)
    assert [one.count for one in check.expected] == [107, 214, 535, 1070]
    # A fifth of the wrong ones are 1 % of all, and 5 % are all of them.
    assert [one.precision for one in check.expected] == pytest.approx([0.2, 0.4, 1, 1], abs=0.06)
    assert [one.error for one in check.expected] == pytest.approx([0.02, 0.025, 0, 0], abs=0.004)
    assert not check.is_precise
    lines = check.lines()
    assert lines[0].startswith(f"Of 400 labels changed on purpose, {100 * below / 400:.0f} % look wrong then")
    assert lines[1].startswith("if 107 labels are wrong, about ")


def test_where_classes_overlap_the_share_that_comes_back_is_that_of_the_wrong_ones() -> None:
    # Probabilities of right labels reach down to 0: as rarely as a model that is calibrated is wrong.
    generator = torch.Generator().manual_seed(1)
    right = torch.rand(19_000, generator=generator) ** 0.2
    wrong, changed = (1 - torch.rand(1000, generator=generator) ** 0.2 for _ in range(2))
    means, is_changed = _means(right, wrong, changed), torch.arange(21_000) >= 20_000
    [found] = [one for one in _check([(means, is_changed)], 20).expected if one.count == 1050]
    first = means[:20_000, 0].argsort()[:1000]
    assert 0.8 < found.precision < 0.95
    assert float((first >= 19_000).float().mean()) == pytest.approx(found.precision, abs=0.05)


def test_of_two_classes_a_wrong_label_that_is_changed_is_right() -> None:
    # A tenth of the labels are wrong, and so are the changed ones but for a tenth.
    generator = torch.Generator().manual_seed(1)
    right, wrong = (torch.rand(count, generator=generator) ** 0.5 for count in (18_000, 2000))
    changed = torch.cat((1 - torch.rand(3600, generator=generator) ** 0.5, torch.rand(400, generator=generator) ** 0.5))
    means = _means(right, 1 - wrong, changed)
    found = _check([(means, torch.arange(24_000) >= 20_000)], 2).expected[-1]
    first = means[:20_000, 0].argsort()[:2000]
    assert found.count == 2400
    assert float((first >= 18_000).float().mean()) == pytest.approx(found.precision, abs=0.03)
    assert found.interval[0] < found.precision < found.interval[1]


def _drawn(generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
    """Labels of which 5 % are wrong: their scores, of some as if they had been changed, and the share of the first that is wrong."""
    easy = torch.rand(6000, generator=generator) ** 0.2
    is_wrong = torch.zeros(6000, dtype=torch.bool)
    is_wrong[torch.randperm(6000, generator=generator)[:300]] = True
    noise = 0.3 * torch.rand(6000, generator=generator)
    scores = torch.where(is_wrong, 1 - easy, easy).clamp(0.05) * 0.7 + noise
    truth = float(is_wrong[scores.argsort()[:300]].float().mean())
    return easy, torch.stack((scores, is_wrong.float()), 1), truth


def test_intervals_have_the_share_that_is_wrong_and_what_was_said_before_makes_errors_smaller() -> None:
    generator = torch.Generator().manual_seed(5)
    inside, off, errors, spread = 0, [], [], []
    for _ in range(60):
        easy, known, truth = _drawn(generator)
        scores, is_wrong = known[:, 0], known[:, 1] > 0
        changed = torch.zeros(6000, dtype=torch.bool)
        changed[torch.randperm(6000, generator=generator)[:400]] = True
        other = torch.where(is_wrong, easy, 1 - easy).clamp(0.05) * 0.7 + 0.3 * torch.rand(6000, generator=generator)
        means = _means(torch.where(changed, other, scores))
        [found] = [one for one in check_labels(scores, [(means, changed)], 2, 6000).expected if one.count == 300]
        inside += found.interval[0] <= truth <= found.interval[1]
        off.append(found.precision - truth)
        errors.append(found.error)
        spread.append((found.precision * (1 - found.precision) / 400) ** 0.5)
    assert inside >= 54
    assert abs(sum(off) / len(off)) < 0.015
    assert sum(errors) < 0.9 * sum(spread)
