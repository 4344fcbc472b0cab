"""Which trainings a search makes, whoever does them in whatever order."""

import math
import random

import hypothesis.strategies as some
import pytest
from hypothesis import given

from epochal.search.plan import LAG, LAST, RUNGS, Plan, Task, work


def _played(plan: Plan, workers: int, seed: int) -> tuple[dict[Task, float], set[Task]]:
    """Finish tasks in a random order, so many at a time; each gets a score that depends on its name alone."""
    scores: dict[Task, float] = {}
    retrained: set[Task] = set()
    order = random.Random(seed)
    while tasks := plan.open_tasks(scores, retrained):
        for task in order.sample(tasks[:workers], min(workers, len(tasks), order.randint(1, workers))):
            if task.seed is not None:
                retrained.add(task)
                continue
            if not task.rung:
                assert all(Task(other, 0) in scores for other in plan.known_to(task.trial))
            score = random.Random(task.name).random()
            scores[task] = math.inf if score > 0.9 and task.trial else score
    return scores, retrained


@given(some.integers(4, 40), some.integers(1, 9), some.integers(0, 100))
def test_the_order_of_work_changes_nothing(trials: int, workers: int, seed: int) -> None:
    plan = Plan(trials, (1, 2, 3))
    scores, retrained = _played(plan, workers, seed)
    assert (scores, retrained) == _played(plan, 1, 0)
    best = plan.best(scores)
    assert retrained == {Task(trial, LAST, one) for trial in (0, best) for one in plan.seeds if best}
    assert math.isfinite(scores[Task(best, LAST)])
    assert sum(task.rung == LAST for task in scores) <= math.ceil(trials / 4) + 1
    made = sum(RUNGS[task.rung] - (RUNGS[task.rung - 1] if task.rung else 0) for task in scores)
    assert made <= work(trials) <= plan.trainings


@given(some.integers(4, 20), some.integers(1, 20))
def test_more_trials_change_none_that_were_made(trials: int, more: int) -> None:
    few, _ = _played(Plan(trials, ()), 3, 1)
    many, _ = _played(Plan(trials + more, ()), 2, 2)
    assert {task for task in few if not task.rung} <= {*many}
    assert all(many[task] == score for task, score in few.items() if task in many)


def test_so_many_can_begin_at_once() -> None:
    assert Plan(20, ()).open_tasks({}, ()) == [Task(trial, 0) for trial in range(LAG)]
    assert Plan(20, ()).open_tasks({Task(0, 0): 1.0}, ()) == [Task(trial, 0) for trial in range(1, LAG + 1)]


def test_of_equal_trials_the_default_is_the_best() -> None:
    plan = Plan(4, (7,))
    scores = {Task(trial, rung): 1.0 for trial in range(4) for rung in range(len(RUNGS))}
    assert plan.best(scores) == 0
    assert plan.open_tasks(scores, ()) == []


@pytest.mark.parametrize("trials", [4, 5, 20])
def test_the_default_is_trained_to_the_end_even_if_it_is_the_worst(trials: int) -> None:
    plan = Plan(trials, ())
    scores = {Task(trial, rung): float(-trial) for trial in range(trials) for rung in range(len(RUNGS))}
    assert 0 in plan.survivors(LAST, scores)
    assert plan.best(scores) == trials - 1
