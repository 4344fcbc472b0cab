"""Metrics are scikit-learn's, also where classes are never predicted or never there."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as theirs

from epochal.evaluation.metrics import ClassScore, class_scores, confusion_matrix, macro, top_k_accuracy, weighted

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40)


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
        wanted = theirs.precision_recall_fscore_support(actual, predicted, labels=labels, zero_division=0, average=mean.name)
        assert (mean.precision, mean.recall, mean.f1) == pytest.approx(wanted[:3], rel=1e-6)
        assert mean.support == len(pairs)
    assert [score.name for score in scores] == list("abcde")


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
    assert scores == (ClassScore("a", 0.0, 0.0, 0.0, 0),)
