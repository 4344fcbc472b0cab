"""Slices that do worse: false alarms, power, the smallest difference that would have been shown; and what is cut how.

`EPOCHAL_SLICES=2000 pytest tests/evaluation/test_slices.py` simulates so many test sets.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.stats import fisher_exact, hypergeom, ttest_ind
from torch import Tensor

from epochal.data.attributes import Attributes, Cut, cut
from epochal.data.examples import Examples
from epochal.data.inputs.table.columns import Column
from epochal.data.inputs.table.rule import TableRule
from epochal.evaluation.by_example import as_answers
from epochal.evaluation.slices import LEAST, Ranked, Slices, at_least, compare_slices, find_slices
from epochal.io.files import finite
from epochal.tasks.base import Task
from epochal.tasks.multi_label import MultiLabel
from epochal.tasks.regression import Regression
from epochal.tasks.single_label import SingleLabel

SETS = int(os.environ.get("EPOCHAL_SLICES", "12"))

Draw = np.random.Generator


def _cuts(random: Draw, count: int, columns: int = 6, values: int = 5) -> list[Cut]:
    names = tuple("abcdefgh"[:values])
    return [Cut(str(column), names, random.choice(values, count, p=_uneven(values))) for column in range(columns)]


def _uneven(values: int) -> list[float]:
    shares = 0.5 ** np.arange(values)
    return list(shares / shares.sum())


def _at_most(alarms: int, sets: int) -> bool:
    """Whether so many alarms are what 5 % give, or less, as far as so many test sets can tell."""
    return alarms <= 0.05 * sets + 3 * math.sqrt(0.05 * 0.95 * sets)


@pytest.mark.parametrize(("count", "accuracy"), [(300, 0.8), (2_000, 0.97)])
def test_equal_slices_of_shares_give_no_alarm(count: int, accuracy: float) -> None:
    random, alarms = np.random.default_rng(0), 0
    for _ in range(SETS):
        right = torch.from_numpy(random.random(count) < accuracy).double()
        alarms += compare_slices(right, _cuts(random, count), is_share=True).shown > 0
    assert _at_most(alarms, SETS)


def test_equal_slices_of_errors_give_no_alarm() -> None:
    random, alarms = np.random.default_rng(0), 0
    for _ in range(SETS):
        errors = torch.from_numpy(random.lognormal(0, 1, 500))
        alarms += compare_slices(errors, _cuts(random, 500), is_share=False).shown > 0
    assert _at_most(alarms, SETS)


def test_equal_slices_of_examples_in_groups_give_no_alarm_where_groups_differ() -> None:
    random, robust, naive = np.random.default_rng(0), 0, 0
    for _ in range(SETS):
        people = np.repeat(np.arange(60), 20)
        right = torch.from_numpy(random.random(1_200) < random.beta(8, 2, 60)[people]).double()
        # What is known of people is the same in all their examples.
        cuts = [Cut(one.column, one.names, one.codes[people]) for one in _cuts(random, 60, values=3)]
        robust += compare_slices(right, cuts, torch.from_numpy(people), is_share=True).shown > 0
        naive += compare_slices(right, cuts, is_share=True).shown > 0
    assert _at_most(robust, SETS)
    assert naive > 2 * robust + 0.1 * SETS


def test_a_planted_slice_is_found_first() -> None:
    random, found = np.random.default_rng(0), 0
    for _ in range(6):
        cuts = _cuts(random, 2_000)
        worse = cuts[3].codes == 2
        right = torch.from_numpy(random.random(2_000) < np.where(worse, 0.7, 0.9)).double()
        first = compare_slices(right, cuts, is_share=True).found[0]
        found += first.is_shown and (first.column, first.name) == ("3", "c")
        assert first.difference_interval[0] < first.difference < first.difference_interval[1] < 0
    assert found == 6


@pytest.mark.parametrize(("count", "accuracy", "share"), [(2_000, 0.9, 0.1), (5_000, 0.98, 0.3), (400, 0.8, 0.49)])
def test_the_smallest_difference_is_shown_four_times_of_five(count: int, accuracy: float, share: float) -> None:
    random, sets, shown = np.random.default_rng(0), 4 * SETS, 0
    codes = (np.arange(count) < share * count).astype(np.int64)
    wrong = np.arange(count) * 0.618 % 1 > accuracy
    ranked, rest = _compared(~wrong, codes), 1 - wrong[codes == 0].mean()
    # The slice is the smaller one.
    least = ranked.detectable[1]
    assert least is not None
    for _ in range(sets):
        right = random.random(count) < np.where(codes == 1, rest - least, rest)
        shown += next(one for one in _compared(right, codes).found if one.name == "inside").is_shown
    # p is corrected for two slices here.
    assert shown / sets == pytest.approx(0.8, abs=0.03 + 3 * (0.16 / sets) ** 0.5)


def _compared(right: np.ndarray, codes: np.ndarray) -> Ranked:
    return compare_slices(torch.from_numpy(right).double(), [Cut("", ("outside", "inside"), codes)], is_share=True)


@pytest.mark.parametrize(
    ("wrong", "count", "all_wrong", "total"), [(9, 40, 20, 200), (0, 40, 20, 200), (40, 40, 190, 200), (3, 30, 3, 9_000)]
)
def test_fishers_test(wrong: int, count: int, all_wrong: int, total: int) -> None:
    table = [[wrong, count - wrong], [all_wrong - wrong, total - count - all_wrong + wrong]]
    found = at_least(wrong, count, all_wrong, total)
    assert found == pytest.approx(fisher_exact(table, "greater").pvalue, rel=1e-9)
    assert found == pytest.approx(hypergeom.sf(wrong - 1, total, all_wrong, count), rel=1e-9)


def test_means_are_compared_by_welch() -> None:
    random = np.random.default_rng(0)
    values = random.gamma(2, 1, 300)
    codes = (np.arange(300) < 80).astype(np.int64)
    values[:80] += 0.5
    found = {one.name: one for one in compare_slices(torch.from_numpy(values), [Cut("", ("other", "worse"), codes)], is_share=False).found}
    oracle = ttest_ind(values[:80], values[80:], equal_var=False, alternative="greater")
    # Corrected for two slices, the other of which is better by as much.
    assert found["worse"].p == pytest.approx(2 * oracle.pvalue, rel=0.05)
    assert found["other"].p == pytest.approx(1, abs=0.05)
    assert next(iter(found)) == "worse"


def test_small_slices_and_those_of_nearly_all_are_not_compared() -> None:
    codes = np.repeat([0, 1, 2], [LEAST - 1, LEAST, 500])
    found = compare_slices(torch.ones(len(codes)), [Cut("", ("few", "enough", "most"), codes)], is_share=True)
    assert sorted(one.name for one in found.found) == ["enough", "most"]
    assert all(one.p == 1 for one in found.found)


# What is cut how.


def _learned(name: str, kind: str, values: np.ndarray, **more: object) -> Column:
    return Column.model_validate({"name": name, "kind": kind, **more}).learn(values.astype(np.float32))


def _sizes(column: Column, values: np.ndarray) -> dict[str, int]:
    found = next(cut([column], torch.from_numpy(values.astype(np.float32))[:, None]))
    sizes = np.bincount(found.codes, minlength=len(found.names))
    return {name: int(size) for name, size in zip(found.names, sizes, strict=True) if size}


def test_quantities_are_cut_at_the_quartiles_of_training() -> None:
    train = np.random.default_rng(0).permutation(1_000).astype(float)
    sizes = _sizes(_learned("age", "number", train), train)
    assert len(sizes) == 4
    assert all(abs(size - 250) < 15 for size in sizes.values())
    names = list(sizes)
    assert names[0].startswith("age ≤ 24")
    assert names[3].startswith("age > 7")
    assert " < age ≤ " in names[1]
    # Others are cut at the same places.
    assert _sizes(_learned("age", "number", train), np.array([-5.0, 5_000, np.nan])) == {names[0]: 1, names[3]: 1, "age missing": 1}


def test_few_values_are_slices_of_their_own_and_a_common_one_is_not_cut() -> None:
    few = np.repeat([0.0, 1.0, 2.0], [50, 30, 20])
    assert _sizes(_learned("doors", "number", few), few) == {"doors = 0": 50, "doors = 1": 30, "doors = 2": 20}
    gains = np.concatenate([np.zeros(920), np.arange(1, 81)])
    assert _sizes(_learned("gain", "number", gains), gains) == {"gain ≤ 0": 920, "gain > 0": 80}
    far = np.repeat([70_001.0, 70_002.0], [50, 50]) - 70_001
    assert _sizes(_learned("year", "number", far, offset=70_001.0), far) == {"year = 70001": 50, "year = 70002": 50}


def test_words_missing_and_unseen_ones() -> None:
    column = _learned("city", "category", np.array([1, 2, 1]), words=("Rome", "São\nPaulo" + "o" * 99))
    sizes = _sizes(column, np.array([1, 1, 2, 0, np.nan]))
    assert sizes.pop("city = Rome") == 2
    assert sizes.pop("city missing") == 1
    assert sizes.pop("city unseen in training") == 1
    (name,) = sizes
    assert name.startswith("city = São Pauloo")
    assert len(name) < 80


def test_constant_and_empty_columns_are_one_slice() -> None:
    assert _sizes(_learned("x", "number", np.zeros(9)), np.zeros(9)) == {"x = 0": 9}
    assert _sizes(_learned("x", "number", np.full(9, np.nan)), np.full(9, np.nan)) == {"x missing": 9}


# Of a model.


def _rule(values: Tensor) -> TableRule:
    kinds = (Column(name="age", kind="number"), Column(name="city", kind="category", words=("Oslo", "Rome")))
    return TableRule(shape=(2,), columns=kinds, target=("y",)).learn(values)


def _found(task: Task, outputs: Tensor, targets: Tensor, **known: Tensor | None) -> Slices | None:
    count = len(targets)
    values = torch.stack([torch.arange(count).float(), 1.0 + torch.arange(count) % 2], 1)
    examples = Examples(values, targets, "test", torch.arange(count), attributes=known.get("attributes"))
    attributes = Attributes(columns=(Column(name="site", kind="category", words=("a", "b")),) if known else ())
    return find_slices(as_answers(task, outputs, targets), [examples], examples, _rule(values), attributes, "test")


def _tasks() -> Iterator[tuple[Task, Tensor, Tensor]]:
    random = torch.Generator().manual_seed(0)
    bad = torch.arange(400) % 2 == 1
    targets = torch.randint(0, 2, (400,), generator=random)
    outputs = torch.nn.functional.one_hot(targets, 2).float()
    yield (
        SingleLabel(outputs=("n", "y")),
        torch.where((bad & (torch.rand(400, generator=random) < 0.4))[:, None], -outputs, outputs),
        targets,
    )
    labels = torch.randint(0, 2, (400, 3), generator=random).float()
    scores = (2 * labels - 1) * torch.where(bad & (torch.rand(400, generator=random) < 0.4), -1, 1)[:, None]
    yield MultiLabel(outputs=("a", "b", "c")), scores, labels
    amounts = torch.randn((400, 1), generator=random)
    noise = torch.randn((400, 1), generator=random) * torch.where(bad, 3.0, 1.0)[:, None]
    yield Regression(outputs=("q",), mean=(0.0,), std=(1.0,)), amounts + noise, amounts


@pytest.mark.parametrize("case", [*_tasks()], ids=lambda case: case[0].name)
def test_every_task(case: tuple[Task, Tensor, Tensor]) -> None:
    found = _found(*case)
    assert found is not None
    assert (found.columns, found.compared, found.shown) == (2, 6, 1)
    first = found.found[0]
    assert (first.column, first.name, first.count) == ("city", "city = Rome", 200)
    line = next(found.lines())
    assert line.startswith("Worse where city = Rome: ")
    assert "corrected for 6 slices" in line
    again = Slices.from_json(json.loads(json.dumps(finite(found.to_json()))))
    assert again == found
    assert "city = Rome" in repr(found)


def test_further_columns_count_too() -> None:
    task, outputs, targets = next(iter(_tasks()))
    site = (1.0 + (torch.arange(400) % 4 > 1))[:, None]
    found = _found(task, outputs, targets, attributes=site)
    assert found is not None
    assert (found.columns, found.compared) == (3, 8)
    assert {"site = a", "site = b"} <= {one.name for one in found.found}


def test_no_difference_is_said_with_what_would_have_been_shown() -> None:
    targets = torch.arange(400) % 2
    outputs = torch.nn.functional.one_hot(torch.where(torch.arange(400) % 9 == 0, 1 - targets, targets), 2).float()
    found = _found(SingleLabel(outputs=("n", "y")), outputs, targets)
    assert found is not None
    assert found.shown == 0
    (line,) = found.lines()
    assert line.startswith("No slice of 6 is shown to be worse: ")
    assert "points in the largest" in line
    few = _found(SingleLabel(outputs=("n", "y")), outputs[:30], targets[:30])
    assert few is not None
    assert list(few.lines()) == []
    assert few.title == "There are no slices of 30 or more examples to compare"
