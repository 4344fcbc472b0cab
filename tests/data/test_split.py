"""Splits are cut off by the seed, in proportion to the classes; nothing is lost or used twice."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from epochal.data.examples import Examples
from epochal.data.inputs.values import in_memory
from epochal.data.load import Data, load
from epochal.data.split import in_folds, split_off
from epochal.errors import DataError


def _examples(targets: Tensor) -> Examples:
    return Examples(torch.arange(len(targets)).float()[:, None], targets, "train", torch.arange(len(targets)))


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=8),
    st.floats(0.01, 0.9),
    st.integers(0, 2**32),
)
def test_cut_is_complete_disjoint_and_in_proportion(counts: list[int], fraction: float, seed: int) -> None:
    targets = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])[torch.randperm(sum(counts))]
    total = max(1, round(sum(counts) * fraction))
    assume(total < sum(counts) and max(counts) > 1)
    rest, part = split_off(_examples(targets), fraction, seed, "test")
    assert sorted(rest.positions.tolist() + part.positions.tolist()) == list(range(sum(counts)))
    assert len(part) == total or (len(part) < total and min(counts) == 1)
    for label, count in enumerate(counts):
        given = int((part.targets == label).sum())
        assert given < count
        assert abs(given - count * total / sum(counts)) < 1 or count == 1 or 1 in counts
    # Examples stay whole, and in the order of the source.
    for examples in (rest, part):
        assert isinstance(examples.inputs, Tensor)
        assert torch.equal(examples.inputs[:, 0].long(), examples.positions)
        assert torch.equal(examples.targets, targets[examples.positions])
        assert examples.positions.tolist() == sorted(examples.positions.tolist())


def test_cut_is_decided_by_seed_and_name() -> None:
    examples = _examples(torch.arange(200) % 2)
    chosen = {
        (seed, name): tuple(split_off(examples, 0.3, seed, name)[1].positions.tolist()) for seed in (0, 1) for name in ("test", "valid")
    }
    assert len(set(chosen.values())) == 4
    assert tuple(split_off(examples, 0.3, 0, "test")[1].positions.tolist()) == chosen[0, "test"]


def test_classes_choose_independently() -> None:
    # Were the same places chosen in each class, examples that came in pairs would stay together.
    _, part = split_off(_examples(torch.arange(200) % 2), 0.5, 0, "test")
    first, second = (part.positions[part.targets == label] // 2 for label in (0, 1))
    assert set(first.tolist()) != set(second.tolist())


def test_quantities_are_cut_by_number() -> None:
    rest, part = split_off(_examples(torch.rand(50, 1)), 0.2, 0, "test")
    assert (len(rest), len(part)) == (40, 10)


def test_a_class_of_one_stays_in_train() -> None:
    rest, part = split_off(_examples(torch.tensor([0, 0, 0, 0, 1])), 0.5, 0, "test")
    assert 1 in rest.targets.tolist()
    assert 1 not in part.targets.tolist()


def test_many_small_classes_give_the_fraction_and_not_one_each() -> None:
    data = load((torch.rand(3000, 2), torch.arange(3000) % 1000)).split(valid=0.1, test=0.1)
    assert data.spec.counts == {"train": 2400, "valid": 300, "test": 300}
    # The last example of a class is never taken, and the seed decides which classes give one.
    assert min(data.spec.task.class_counts["train"]) >= 1
    examples = _examples(torch.arange(30) % 10)
    givers = {tuple(split_off(examples, 0.1, seed, "test")[1].targets.tolist()) for seed in range(20)}
    assert len(givers) > 10


def test_large_classes_do_not_give_for_small_ones() -> None:
    counts = torch.tensor([10_000] + [3] * 1000)
    _, part = split_off(_examples(torch.arange(1001).repeat_interleave(counts)), 0.1, 0, "test")
    assert (len(part), int((part.targets == 0).sum())) == (1300, 1000)


@pytest.mark.parametrize(
    ("targets", "reported"),
    [
        (torch.rand(1, 1), "1 example is too few to split off data.valid = 0.2."),
        (
            torch.tensor([0, 1]),
            "Each class keeps one example for training, so there is none to split off data.valid = 0.2.",
        ),
        (torch.arange(600), "Each class keeps one example for training, so there is none to split off data.valid = 0.2."),
    ],
)
def test_too_few(targets: Tensor, reported: str) -> None:
    with pytest.raises(DataError) as raised:
        split_off(_examples(targets), 0.2, 0, "valid")
    assert str(raised.value) == f"{reported}\nAdd more data, or set data.valid = 0 to do without."


def _data(count: int = 100, **splits: int) -> Data:
    return load({name: (torch.rand(size, 2), torch.arange(size) % 2) for name, size in {"train": count, **splits}.items()})


def test_fractions_are_of_the_original_train() -> None:
    data = _data().split(valid=0.1, test=0.2)
    assert {name: len(examples) for name, examples in data.splits.items()} == {"train": 70, "valid": 10, "test": 20}
    assert data.spec.counts == {"train": 70, "valid": 10, "test": 20}
    positions = torch.cat([examples.positions for examples in data.splits.values()])
    assert positions.sort().values.tolist() == list(range(100))
    assert {examples.part for examples in data.splits.values()} == {"train"}


def test_the_error_names_the_setting() -> None:
    with pytest.raises(DataError, match=r"1 example is too few to split off data\.valid = 0\.1\."):
        load((torch.rand(2, 2), torch.rand(2))).split(valid=0.1, test=0.5)


def test_given_splits_stay_as_they_are() -> None:
    data = _data(test=30)
    split = data.split(valid=0.1, test=0.5)
    assert split.test is data.test
    assert {name: len(examples) for name, examples in split.splits.items()} == {"train": 90, "valid": 10, "test": 30}
    whole = _data(valid=10, test=30)
    assert whole.split().train is whole.train


def test_none_goes_without() -> None:
    data = _data().split(valid=0, test=0)
    assert (data.valid, data.test, len(data.train)) == (None, None, 100)


def test_seed_decides() -> None:
    data = _data()
    chosen = [data.split(seed=seed).splits["test"].positions.tolist() for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_fractions_that_leave_nothing() -> None:
    with pytest.raises(DataError) as raised:
        _data().split(valid=0.5, test=0.6)
    assert str(raised.value) == "data.test = 0.6 and data.valid = 0.5 leave nothing to train on.\nUse smaller fractions."
    # A fraction that is not used does not count.
    assert len(_data(test=30).split(valid=0.5, test=0.6).train) == 50


def test_parts_are_the_same_where_inputs_are_moved() -> None:
    inputs, targets = torch.arange(30_000).reshape(-1, 3), torch.arange(10_000) % 4
    copied = load((inputs, targets)).split(0.1, 0.2, 3)
    data = load((inputs.clone(), targets))
    moved = data.split(0.1, 0.2, 3, in_place=True)
    for name, part in copied.splits.items():
        assert torch.equal(moved.splits[name].inputs[torch.arange(len(part))], part.inputs[torch.arange(len(part))])
    assert moved.spec == copied.spec
    train, whole = in_memory(moved.train.inputs), in_memory(data.train.inputs)
    assert train is not None
    assert whole is not None
    assert train.data_ptr() == whole.data_ptr()


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(2, 12), st.integers(0, 2**32))
def test_folds_are_of_one_size_and_share_of_each_class(counts: list[int], folds: int, seed: int) -> None:
    targets = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])[torch.randperm(sum(counts))]
    assume(len(targets) >= folds)
    fold = in_folds(_examples(targets), folds, seed)
    assert torch.equal(fold, in_folds(_examples(targets), folds, seed))
    for sizes in (fold.bincount(minlength=folds), *(fold[targets == label].bincount(minlength=folds) for label in range(len(counts)))):
        assert int(sizes.max() - sizes.min()) <= 1


def test_the_seed_decides_what_is_in_a_fold() -> None:
    examples = _examples(torch.arange(60) % 2)
    assert len({tuple(in_folds(examples, 5, seed).tolist()) for seed in range(10)}) == 10
    with pytest.raises(DataError, match="60 examples are too few for 61 folds"):
        in_folds(examples, 61, 0)
