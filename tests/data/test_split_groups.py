"""Groups of examples (people, patients, speakers) stay in one split, and a group in two splits is found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from epochal import check, load, reproduce, resume, train
from epochal.checks.loaded import in_one_line
from epochal.data.examples import Examples
from epochal.data.split import in_folds, split_off
from epochal.errors import DataError, RecipeError
from epochal.run.folder import read_json
from tests.outcome import outcome
from tests.tones import save, tone

QUIET: dict[str, Any] = {"epochs": 2, "batch_size": 8, "threads": 1, "device": "cpu", "quiet": True}


def _examples(targets: Tensor, groups: Sequence[object]) -> Examples:
    places = torch.arange(len(targets))
    return Examples(places.float()[:, None], targets, "train", places, groups=[str(group) for group in groups])


def _names(examples: Examples) -> set[str]:
    named = examples.group_names()
    assert named is not None
    return set(named)


@given(st.lists(st.integers(1, 30), min_size=2, max_size=12), st.floats(0.05, 0.6), st.integers(0, 2**32))
def test_no_group_is_in_both_parts_and_nothing_is_lost(sizes: list[int], fraction: float, seed: int) -> None:
    groups = [group for group, size in enumerate(sizes) for _ in range(size)]
    examples = _examples(torch.rand(len(groups), 1), groups)
    rest, part = split_off(examples, fraction, seed, "test")
    assert sorted([*rest.positions.tolist(), *part.positions.tolist()]) == list(range(len(groups)))
    assert not _names(rest) & _names(part)
    assert len(rest)
    assert len(part)
    again = split_off(examples, fraction, seed, "test")[1]
    assert again.positions.equal(part.positions)


def test_classes_and_sizes_are_met_as_nearly_as_groups_allow() -> None:
    generator = torch.Generator().manual_seed(0)
    # 200 patients with 1 to 9 pictures each, of which a tenth have a rare disease in all of theirs.
    sizes = torch.randint(1, 10, (200,), generator=generator)
    groups = torch.arange(200).repeat_interleave(sizes)
    targets = (groups % 10 == 0).long()
    rare = int(targets.sum())
    chosen = set()
    for seed in range(5):
        rest, part = split_off(_examples(targets, groups.tolist()), 0.2, seed, "test")
        assert abs(len(part) - 0.2 * len(groups)) <= 5
        assert abs(int(part.targets.sum()) - 0.2 * rare) <= 5
        assert len(rest) + len(part) == len(groups)
        chosen.add(tuple(part.positions.tolist()))
    assert len(chosen) == 5


def test_a_class_of_one_group_stays_for_training() -> None:
    # Only the first of four groups has class 2.
    targets = torch.tensor([0, 1, 2] * 4 + [0, 1] * 18)
    groups = [0] * 12 + [1] * 12 + [2] * 12 + [3] * 12
    for seed in range(20):
        rest, _ = split_off(_examples(targets, groups), 0.25, seed, "test")
        assert rest.targets.unique().tolist() == [0, 1, 2]
    with pytest.raises(DataError, match=r"Each group has the only examples of a class, so there is none to split off data\.test = 0\.25"):
        split_off(_examples(torch.tensor([0, 0, 1, 1]), [0, 0, 1, 1]), 0.25, 0, "test")


def test_groups_are_too_few_to_split() -> None:
    data = load({"x": [row % 7 for row in range(40)], "who": ["a", "b"] * 20, "y": [0, 0, 1, 1] * 10}, target="y", group="who")
    with pytest.raises(DataError, match=r"2 groups are too few to split off data\.test = 0\.2: examples of one group stay together\."):
        data.split()
    assert len(data.split(valid=0).train) == 20
    one = load({"x": [row % 7 for row in range(40)], "who": ["a"] * 40, "y": [0, 1] * 20}, target="y", group="who")
    with pytest.raises(DataError, match="1 group is too few"):
        one.split()


def test_equal_groups_go_where_the_seed_says() -> None:
    groups = [group for group in range(6) for _ in range(10)]
    examples = _examples(torch.arange(60) % 5, groups)
    assert len({tuple(sorted(_names(split_off(examples, 0.2, seed, "test")[1]))) for seed in range(30)}) > 3
    for seed in range(5):
        assert len(split_off(examples, 0.2, seed, "test")[1]) == 10


def _table() -> dict[str, list[object]]:
    rows = range(200)
    return {"x": [row % 7 for row in rows], "person": [f"p{row % 10}" for row in rows], "y": ["n" if row % 7 < 4 else "m" for row in rows]}


def test_a_column_of_a_table_is_the_group_and_no_feature() -> None:
    data = load(_table(), target="y", group="person").split(seed=3)
    assert [column.name for column in data.input.columns] == ["x"]  # type: ignore[attr-defined]
    splits = [_names(examples) for examples in data.splits.values()]
    assert len(set.union(*splits)) == sum(map(len, splits)) == 10
    assert data.notes[-1] == "split by groups of person, which stay together: 7 train, 1 valid, 2 test"
    assert data.spec.listing.group == "person"
    assert data.spec.listing.groups == {"train": 7, "valid": 1, "test": 2}
    assert data.spec.fingerprint != load({**_table(), "person": ["p1", *_table()["person"][1:]]}, target="y", group="person").fingerprint
    for group, message in (("persn", "no column 'persn'"), ("y", "The column y is the group, and cannot be something else too")):
        with pytest.raises((DataError, RecipeError), match=message):
            load(_table(), target="y", group=group)
    gaps = _table()
    gaps["person"][4], gaps["person"][9] = None, ""
    with pytest.raises(DataError, match="row 4: the group person is missing, there and in 1 other row"):
        load(gaps, target="y", group="person")


def test_texts_of_one_author_stay_together(tmp_path: Path) -> None:
    lines = [f"text number {row} of {'joy' if row % 2 else 'woe'}\t{row % 2}\tauthor {row // 6}" for row in range(60)]
    file = tmp_path / "texts.tsv"
    file.write_text("text\tlabel\tauthor\n" + "\n".join(lines))
    data = load(file, text="text", target="label", group="author").split(0.2, 0.2)
    splits = [_names(examples) for examples in data.splits.values()]
    assert len(set.union(*splits)) == sum(map(len, splits)) == 10
    left_out = load(file, text="text", target="label", group="author", exclude=["texts.tsv:2"]).split(0.2, 0.2)
    assert left_out.train.groups is not None
    assert len(left_out.train.groups) == 59
    with pytest.raises(DataError, match="has no column 'writer'"):
        load(file, text="text", target="label", group="writer")


@pytest.fixture
def spoken(tmp_path: Path) -> Path:
    root = tmp_path / "spoken"
    for number, speaker in enumerate(("ann", "bob", "cid", "dan", "eve")):
        for name, hertz in (("low", 400), ("high", 1200)):
            for index in range(4):
                save(root / name / f"{speaker}_{index}.wav", tone(hertz, seed=100 * number + index + hertz))
    return root


def test_a_pattern_in_file_names_says_the_group(spoken: Path) -> None:
    data = load(spoken, group="([a-z]+)_").split(0.2, 0.2)
    splits = [_names(examples) for examples in data.splits.values()]
    assert [len(names) for names in splits] == [3, 1, 1]
    assert set.union(*splits) == {"ann", "bob", "cid", "dan", "eve"}
    for pattern in (r"(?P<group>\w+?)_", "^[a-z]+", "/([a-z]+)_"):
        same = load(spoken, group=pattern).split(0.2, 0.2)
        assert [_names(examples) for examples in same.splits.values()] == splits
    by_class = load(spoken, group="^([a-z]+)/")
    assert _names(by_class.train) == {"low", "high"}
    with pytest.raises(DataError, match=r"The pattern --group 'speaker' finds no group in high/ann_0\.wav"):
        load(spoken, group="speaker")
    with pytest.raises(DataError, match="finds no group in"):
        load(spoken, group="(x)?ann")
    with pytest.raises(RecipeError, match="is not a regular expression: missing"):
        load(spoken, group="([a-z]+")
    with pytest.raises(RecipeError, match="does not work with digits: it is for tables, and folders of files"):
        load("digits", group="person")


def test_a_run_by_groups_is_kept_resumed_and_reproduced(spoken: Path, tmp_path: Path) -> None:
    whole = train(spoken, group="([a-z]+)_", out=tmp_path / "whole", **QUIET)
    assert whole.result["data"]["listing"]["groups"] == {"train": 3, "valid": 1, "test": 1}
    assert whole.bundle.spec.listing.group == "([a-z]+)_"
    assert read_json(tmp_path / "whole" / "data.json")["spec"]["listing"]["group"] == "([a-z]+)_"
    train(spoken, group="([a-z]+)_", out=tmp_path / "short", **{**QUIET, "epochs": 1})
    resume(tmp_path / "short", epochs=2, quiet=True)
    assert reproduce(tmp_path / "whole").divergence == ""
    assert read_json(tmp_path / "short" / "data.json")["split"] == read_json(tmp_path / "whole" / "data.json")["split"]
    assert outcome(tmp_path / "whole")["result"]["data"] == outcome(tmp_path / "short")["result"]["data"]


def test_one_speaker_in_two_splits_is_found(spoken: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        for file in spoken.glob("*/*.wav"):
            if split == "test" or "eve" not in file.name:
                copy = tmp_path / "both" / split / file.parent.name / file.name
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(file.read_bytes() + split.encode())
    found = check(tmp_path / "both", group="([a-z]+)_")
    (finding,) = (finding for finding in found.findings if finding.kind == "shared group")
    assert finding.severity == "error"
    assert finding.words == "4 groups by ([a-z]+)_ are in both train and test: ann, bob, cid, ..."
    assert finding.cases[0].examples == ("train/high/ann_0.wav", "test/high/ann_0.wav")
    halves = load(tmp_path / "both", group="([a-z]+)_").split(0.3, 0.2)
    assert "4 groups by ([a-z]+)_ are in more than one of train, valid and test" in in_one_line(halves)
    assert all(finding.kind != "shared group" for finding in check(tmp_path / "both").findings)
    table = {**_table(), "split": ["train"] * 150 + ["test"] * 50}
    assert "10 groups by person are in both train and test: p0, p1, p2, ..." in str(check(table, target="y", group="person"))


@pytest.mark.parametrize("form", [list, np.array, torch.tensor, lambda values: np.array([f"speaker {value}" for value in values])])
def test_groups_that_a_program_passes_stay_together(form: Callable[[list[int]], Any]) -> None:
    who = [row // 6 for row in range(60)]
    x, y = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32), np.arange(60) % 2
    for what in ((x, y), {"train": (x, y)}, ([f"text {row}" for row in range(60)], y), [(x[row], int(y[row])) for row in range(60)]):
        data = load(what, group=form(who)).split(0.2, 0.2)
        splits = [_names(examples) for examples in data.splits.values()]
        assert [len(names) for names in splits] == [6, 2, 2]
        assert len(set.union(*splits)) == 10
        assert data.notes[-1] == "split by groups, which stay together: 6 train, 2 valid, 2 test"
    assert load((x, y), group=who).fingerprint != load((x, y)).fingerprint
    both = {"train": (x, y), "test": (x[:6], y[:6])}
    given = load(both, group={"train": form(who), "test": form(who[:6])})
    assert "group is in both train and test: " in in_one_line(given)
    left = load((x, y), group=who, exclude=["train[0]", "train[7]"])
    assert list(left.train.group_names() or ()) == list(map(str, [*who[1:7], *who[8:]]))


def test_groups_that_do_not_fit_are_refused() -> None:
    x, y = np.zeros((4, 2), np.float32) + np.arange(4)[:, None], [0, 1, 0, 1]
    for group, message in (
        (["a", "b", "c"], "The train data have 3 groups for 4 examples"),
        (["a", None, "c", "d"], r"The group of train\[1\] is missing"),
        ([1.0, 2.0, float("nan"), 2.0], r"The group of train\[2\] is missing"),
        (["a", " ", "c", "d"], r"The group of train\[1\] is missing"),
        (np.zeros((4, 2)), r"The group of train\[0\] is of type list"),
        ({"test": [1, 2]}, "There are groups of test, but the data have train"),
    ):
        with pytest.raises(DataError, match=message):
            load((x, y), group=group)


@given(st.lists(st.integers(1, 30), min_size=2, max_size=40), st.integers(2, 6), st.integers(0, 2**32))
def test_a_group_is_in_one_fold_and_no_fold_is_empty(sizes: list[int], folds: int, seed: int) -> None:
    assume(len(sizes) >= folds)
    groups = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    fold = in_folds(_examples(torch.arange(len(groups)) % 2, groups.tolist()), folds, seed)
    assert all(len(fold[groups == group].unique()) == 1 for group in range(len(sizes)))
    assert sorted(fold.unique().tolist()) == list(range(folds))


def test_folds_of_many_groups_have_nearly_one_size_and_share_of_each_class() -> None:
    # Groups of one to nine, each of mostly one class.
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(1, 10, (200,), generator=generator)
    groups = torch.arange(200).repeat_interleave(sizes)
    targets = (groups + (torch.rand(len(groups), generator=generator) < 0.2)) % 4
    fold = in_folds(_examples(targets, groups.tolist()), 5, 0)
    for counts in (fold.bincount(), *(fold[targets == label].bincount() for label in range(4))):
        assert int(counts.max() - counts.min()) <= 6, counts
