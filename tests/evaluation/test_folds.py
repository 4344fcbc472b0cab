"""Cross-validation: scores out of fold, and how often their interval has the expected score of models trained in this way.

EPOCHAL_FOLDS is how many data sets are drawn for each kind of learner.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from epochal.evaluation.evaluate import Evaluation, score
from epochal.evaluation.folds import CrossValidation, compare_folds, cross_validation, fold_interval
from epochal.recipe.settings import LossSettings
from epochal.tasks.base import Task
from epochal.tasks.intervals import share_interval
from epochal.tasks.regression import Regression
from epochal.tasks.single_label import SingleLabel

DRAWS = int(os.environ.get("EPOCHAL_FOLDS", "60"))
FOLDS = 5

# A learner gets inputs [n, d], targets of -1 and 1, and chance; it returns weights [d + 1], of which the last is the constant.
Learner = Callable[[Tensor, Tensor, torch.Generator], Tensor]


def _least_squares(inputs: Tensor, targets: Tensor, _: torch.Generator) -> Tensor:
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1).double()], 1)
    found: Tensor = torch.linalg.solve(inputs.T @ inputs + 1e-3 * torch.eye(inputs.shape[1]), inputs.T @ targets)
    return found


def _of_two_directions(inputs: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
    """Learn from two directions that chance chooses: so models depend on their seeds."""
    directions = torch.randn(inputs.shape[1], 2, generator=generator).double()
    directions[0] *= 2
    found = _least_squares(inputs @ directions, targets, generator)
    return torch.cat([directions @ found[:2], found[2:]])


def _of_one_input(inputs: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
    """Learn from one input that chance chooses, so that most models are worth nothing."""
    choice = torch.zeros(inputs.shape[1], 1).double()
    choice[int(torch.randint(inputs.shape[1], (1,), generator=generator))] = 1
    found = _least_squares(inputs @ choice, targets, generator)
    return torch.cat([(choice * found[0])[:, 0], found[1:]])


def _accuracy(weights: Tensor, apart: float) -> float:
    """The accuracy on all examples there are: of each class normal, with its mean at `apart` or -`apart` on the first axis."""
    length = float(weights[:-1].norm()) * math.sqrt(2)
    sides = (float(sign * weights[-1] + apart * weights[0]) / length for sign in (1, -1))
    return sum(1 + math.erf(side) for side in sides) / 4


@pytest.mark.parametrize(
    ("learner", "count", "inputs", "apart", "least"),
    [
        (_least_squares, 100, 10, 0.8, 0.95),
        (_least_squares, 400, 10, 0.8, 0.95),
        (_least_squares, 100, 40, 0.8, 0.95),
        (_least_squares, 400, 5, 1.9, 0.95),
        (_of_two_directions, 200, 6, 0.9, 0.95),
        (_of_two_directions, 2000, 6, 0.9, 0.9),
        (_of_one_input, 400, 3, 0.8, 0.88),
    ],
)
def test_the_interval_has_the_expected_accuracy(learner: Learner, count: int, inputs: int, apart: float, least: float) -> None:
    generator = torch.Generator().manual_seed(0)
    ours, naive, accuracies, widths = [], [], [], []
    for _ in range(DRAWS):
        targets = torch.arange(count).double() % 2 * 2 - 1
        values = torch.randn(count, inputs, generator=generator).double()
        values[:, 0] += apart * targets
        fold = torch.arange(count) // 2 % FOLDS
        right = torch.zeros(count)
        for number in range(FOLDS):
            held = fold == number
            weights = learner(values[~held], targets[~held], generator)
            right[held] = ((values[held] @ weights[:-1] + weights[-1]) * targets[held] > 0).float()
            accuracies.append(_accuracy(weights, apart))
        found = fold_interval(right, fold, FOLDS, shares=True)
        assert found is not None
        ours.append(found)
        naive.append(share_interval(int(right.sum()), count))
        widths.append((ours[-1][1] - ours[-1][0]) / (naive[-1][1] - naive[-1][0]))
    true = sum(accuracies) / len(accuracies)
    covered, of_naive = (sum(low <= true <= high for low, high in found) / DRAWS for found in (ours, naive))
    print(
        f"\n{learner.__name__}, {count} examples of {inputs} inputs: accuracy {true:.3f}, in {100 * covered:.1f} % of intervals, in "
        f"{100 * of_naive:.1f} % of those that take answers for independent, which are shorter by {sum(widths) / DRAWS:.2f}"
    )
    # Chance in so many draws.
    assert covered >= least - 2.5 * math.sqrt(least * (1 - least) / DRAWS)
    assert covered >= of_naive


@pytest.mark.parametrize(("count", "apart"), [(100, 0.8), (400, 0.5)])
def test_equal_ways_of_training_are_seldom_told_apart(count: int, apart: float) -> None:
    generator, shown, found = torch.Generator().manual_seed(0), 0, 0
    fold = torch.arange(count) // 2 % FOLDS
    for _ in range(DRAWS):
        targets = torch.arange(count).double() % 2 * 2 - 1
        # Two ways that learn from inputs of their own, which say as much.
        values = torch.randn(2, count, 10, generator=generator).double()
        values[:, :, 0] += apart * targets
        right = torch.zeros(2, count)
        for number in range(FOLDS):
            held = fold == number
            for way in range(2):
                weights = _least_squares(values[way, ~held], targets[~held], generator)
                right[way, held] = ((values[way, held] @ weights[:-1] + weights[-1]) * targets[held] > 0).float()
        found_one = compare_folds(right[0], right[1], fold, FOLDS, shares=True)
        shown += found_one.p < 0.05
        found += found_one.interval[0] <= 0 <= found_one.interval[1]
    print(f"\n{count} examples: a difference is shown in {100 * shown / DRAWS:.1f} %, 0 is in {100 * found / DRAWS:.1f} % of intervals")
    assert shown / DRAWS <= 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / DRAWS)
    assert found == DRAWS - shown


def test_a_difference_out_of_fold_that_nothing_shows_is_no_certainty() -> None:
    fold, right = torch.arange(60) // 20, torch.ones(60)
    same = compare_folds(right, right, fold, 3, shares=True)
    assert same.p == 1.0
    assert same.interval[1] == -same.interval[0] > 0.05
    worse = compare_folds(right, torch.arange(60) % 2, fold, 3, shares=True)
    assert worse.p < 0.001
    assert worse.value == -0.5
    assert worse.interval[1] < 0


def _measured(task: Task, outputs: Tensor, targets: Tensor) -> Evaluation:
    return score(outputs, targets, task, task.loss(LossSettings()))


@pytest.fixture
def classes() -> Task:
    return SingleLabel(outputs=("a", "b"))


def test_scores_are_those_of_all_answers_and_of_each_fold(classes: Task) -> None:
    targets, fold = torch.arange(60) % 2, torch.arange(60) // 20
    outputs = 4 * torch.nn.functional.one_hot(targets, 2).float()
    outputs[:10] = outputs[:10].flip(1)
    found = cross_validation(_measured(classes, outputs, targets), fold, 3, [40, 40, 40])
    assert [score.name for score in found.scores] == ["accuracy", "balanced accuracy", "macro F1", "log-loss"]
    first = found.scores[0]
    assert first.by_fold == (0.5, 1.0, 1.0)
    assert first.value == pytest.approx(50 / 60)
    assert first.spread == pytest.approx(0.2887, abs=1e-4)
    assert first.interval is not None
    assert first.interval[0] < 0.7 < 0.95 < first.interval[1]
    assert found.is_complete
    assert CrossValidation.from_json(found.to_json() | {"evaluation": {}}) == found
    assert found.table()[-1][0] == "95 % interval"
    assert "accuracy out of fold 83.3 % (95 % interval" in found.headline()


def test_nothing_wrong_is_no_certainty(classes: Task) -> None:
    targets, fold = torch.arange(50) % 2, torch.arange(50) // 10
    found = cross_validation(_measured(classes, 9 * torch.nn.functional.one_hot(targets, 2).float(), targets), fold, 5, [40] * 5)
    interval = found.scores[0].interval
    assert interval is not None
    # As of 50 / 2.25 examples without a mistake: that many fewer, since folds share their training examples.
    assert interval == pytest.approx(share_interval(50 / 2.25, 50 / 2.25))


def test_groups_count_together(classes: Task) -> None:
    targets, fold, groups = torch.arange(200) % 2, torch.arange(200) // 40, torch.arange(200) // 10
    outputs = 4 * torch.nn.functional.one_hot(targets, 2).float()
    wrong = groups % 4 == 0
    outputs[wrong] = outputs[wrong].flip(1)
    measured = _measured(classes, outputs, targets)
    alone, together = (cross_validation(replace(measured, groups=by), fold, 5, [160] * 5).scores[0] for by in (None, groups))
    assert alone.interval is not None
    assert together.interval is not None
    assert together.value == alone.value
    assert together.interval[1] - together.interval[0] > 1.5 * (alone.interval[1] - alone.interval[0])


def test_quantities_and_folds_that_are_missing() -> None:
    task = Regression(outputs=("y",))
    targets, fold = torch.randn(60, 1, generator=torch.Generator().manual_seed(0)), torch.arange(60) // 20
    found = cross_validation(_measured(task, targets + 0.5, targets), fold, 5, [80, 80, 80])
    assert not found.is_complete
    assert found.title == "cross-validation: 3 of 5 folds, 60 examples so far"
    assert [score.name for score in found.scores] == ["mean absolute error", "root mean squared error"]
    assert found.scores[0].interval == pytest.approx((0.5, 0.5), abs=1e-6)
    one = cross_validation(_measured(task, targets[:20], targets[:20]), fold[:20], 5, [80])
    assert one.scores[0].spread is None
    assert fold_interval(torch.ones(1), torch.zeros(1, dtype=torch.long), 5) is None
