"""Metrics are scikit-learn's, also where classes are never predicted or never there."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as theirs

from epochal.tasks.metrics import confusion_matrix, top_k_accuracy
from epochal.tasks.scores import ClassScore, class_scores, macro, plain, r2_words, weighted

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40)


@settings(max_examples=15)  # scikit-learn takes long.
@given(PAIRS)
def test_one_label(pairs: list[tuple[int, int]]) -> None:
    predicted, actual = torch.tensor(pairs).T
    matrix = confusion_matrix(predicted, actual, 5)
    labels = list(range(5))
    assert matrix.tolist() == theirs.confusion_matrix(actual, predicted, labels=labels).tolist()
    scores = class_scores(tuple("abcde"), matrix.diagonal(), matrix.sum(0), matrix.sum(1))
    expected = theirs.precision_recall_fscore_support(actual, predicted, labels=labels, zero_division=0)
    for column, name in enumerate(("precision", "recall", "f1", "support")):
        assert [getattr(score, name) for score in scores] == pytest.approx(expected[column].tolist(), rel=1e-6)
    for mean in (macro(scores), weighted(scores)):
        assert mean is not None
        # Without labels it takes those that are there or predicted.
        wanted = theirs.precision_recall_fscore_support(actual, predicted, zero_division=0, average=mean.name)
        assert (mean.precision, mean.recall, mean.f1) == pytest.approx(wanted[:3], rel=1e-6)
        assert mean.support == len(pairs)
    assert [score.name for score in scores] == list("abcde")


@settings(max_examples=15)
@given(st.lists(st.tuples(st.lists(st.booleans(), min_size=3, max_size=3), st.lists(st.booleans(), min_size=3, max_size=3)), min_size=1))
def test_several_labels(rows: list[tuple[list[bool], list[bool]]]) -> None:
    predicted, actual = torch.tensor(rows).unbind(1)
    scores = class_scores(("a", "b", "c"), (predicted & actual).sum(0), predicted.sum(0), actual.sum(0))
    expected = theirs.precision_recall_fscore_support(actual, predicted, zero_division=0)
    for column, name in enumerate(("precision", "recall", "f1", "support")):
        assert [getattr(score, name) for score in scores] == pytest.approx(expected[column].tolist(), rel=1e-6)


@given(st.integers(1, 30), st.integers(1, 5), st.integers(0, 1000))
def test_top_k(count: int, k: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.rand(count, 6, generator=generator)
    targets = torch.randint(0, 6, (count,), generator=generator)
    wanted = theirs.top_k_accuracy_score(targets, outputs, k=k, labels=list(range(6)))
    assert top_k_accuracy(outputs, targets, k) == pytest.approx(wanted)


def test_shares_of_nothing_count_0() -> None:
    scores = class_scores(("a",), torch.tensor([0]), torch.tensor([0]), torch.tensor([0]))
    assert scores == (ClassScore("a", 0.0, 0.0, 0.0, 0, 0),)
    assert not scores[0].is_measured
    assert macro(scores) is None
    assert weighted(scores) is None


def test_means_leave_out_what_is_neither_there_nor_predicted() -> None:
    matrix = torch.tensor([[3, 0, 0], [0, 0, 0], [0, 0, 2]])
    scores = class_scores(("a", "b", "c"), matrix.diagonal(), matrix.sum(0), matrix.sum(1))
    assert macro(scores) == ClassScore("macro", 1.0, 1.0, 1.0, 5, 5)
    # Predicted once, it counts.
    matrix[0, 1] = 1
    found = macro(class_scores(("a", "b", "c"), matrix.diagonal(), matrix.sum(0), matrix.sum(1)))
    assert found is not None
    assert found.precision == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("value", "digits", "words"),
    [
        (0.123456, 4, "0.1235"),
        (26224.4, 4, "26224"),
        (1234573.75, 9, "1234573.75"),
        (999_999.96, 6, "1000000"),
        (-1234567.8, 6, "-1234568"),
        (1e15, 4, "1e+15"),
        (float("inf"), 4, "inf"),
        (float("nan"), 4, "nan"),
        (0.0, 4, "0"),
    ],
)
def test_plain(value: float, digits: int, words: str) -> None:
    assert plain(value, digits) == words


def test_r2_stays_short() -> None:
    assert [r2_words(value) for value in (1.0, 0.98765, -99.5, -3.8e15)] == ["1.0000", "0.9877", "-99.5000", "-3.8e+15"]
